// @ts-check
// What plays next: scenes in the order of their time, live or from the last minute; pause, step,
// speed. More than can be watched is left out, and counted.

/** @typedef {import("./scenes.js").Scene} Scene */
/** @typedef {import("./stage.js").Stage} Stage */

export const SPEEDS = [1, 0.25, 0.1, 0.01];
/** A scene waits this long for those of other nodes that came before it. */
const ORDER = 260;
/** Scenes that play at the same time. */
const AT_ONCE = 8;
/** More wait only while the reader looks closely. */
const WAITING = { live: 40, close: 1000 };

export class Player {
  /**
   * @param {Stage} stage
   * @param {() => void} changed
   */
  constructor(stage, changed) {
    this.stage = stage;
    this.changed = changed;
    /** @type {{scene: Scene, since: number}[]} */
    this.queue = [];
    /** At the head of the queue: what came while the reader looked closely, and will be shown. */
    this.backlog = 0;
    this.speed = 1;
    this.paused = false;
    /** The clock goes until then although it is paused. */
    this.stepUntil = 0;
    /** Frames that the switch has had; those of them that are not shown. */
    this.seen = 0;
    this.left = 0;
    /** @type {{scenes: Scene[], at: number}|null} */
    this.replay = null;
    this.last = 0;
    this.running = false;
  }

  /**
   * @param {Scene} scene
   * @param {number} now
   */
  add(scene, now) {
    this.seen += 1;
    if (this.replay) {
      this.left += 1;
      return;
    }
    let at = this.queue.length;
    while (at > 0 && this.queue[at - 1].scene.time > scene.time) at -= 1;
    this.queue.splice(at, 0, { scene, since: now });
    if (at < this.backlog || this.isClose) this.backlog += 1;
    // The story shall have no gap: what comes last waits no longer.
    if (this.backlog > WAITING.close) {
      this.drop(this.queue.splice(-1));
      this.backlog = Math.min(this.backlog, this.queue.length);
    }
    const news = this.queue.length - this.backlog;
    if (news > WAITING.live) this.drop(this.queue.splice(this.backlog, news - WAITING.live / 2));
    this.wake();
  }

  /** Whether the reader looks closely. */
  get isClose() {
    return this.paused || this.speed < 1;
  }

  /** Frames that were never sent here. @param {number} count */
  skipped(count) {
    this.seen += count;
    this.left += count;
  }

  /** What waits no longer. @param {{scene: Scene}[]} waiting */
  drop(waiting) {
    this.left += waiting.length;
  }

  wake() {
    if (this.running) return;
    this.running = true;
    this.last = performance.now();
    requestAnimationFrame((now) => this.tick(now));
  }

  /** @param {number} now */
  tick(now) {
    const elapsed = Math.min(100, Math.max(0, now - this.last));
    this.last = now;
    if (!this.paused || this.stage.now < this.stepUntil) {
      this.stage.advance(elapsed * this.speed * this.haste());
      if (!this.paused) this.pull(now);
      if (this.paused && this.stage.now >= this.stepUntil) this.changed();
    }
    const rests = this.paused && this.stage.now >= this.stepUntil;
    const isIdle = this.queue.length === 0 && this.stage.sprites.length === 0 && !this.replaying();
    if (rests || isIdle) {
      this.running = false;
      this.changed();
      return;
    }
    requestAnimationFrame((next) => this.tick(next));
  }

  /** With much to show at full speed, everything goes a little faster. */
  haste() {
    if (this.isClose) return 1;
    return Math.min(3.5, 1 + this.queue.length / 6);
  }

  /** @param {number} now */
  pull(now) {
    let news = false;
    while (this.stage.busy < AT_ONCE) {
      const scene = this.next(now);
      if (!scene) break;
      this.begin(scene);
      news = true;
    }
    if (news) this.changed();
  }

  /**
   * @param {number} now
   * @returns {Scene|null}
   */
  next(now) {
    const { replay } = this;
    if (replay) {
      if (replay.at < replay.scenes.length) {
        replay.at += 1;
        return replay.scenes[replay.at - 1];
      }
      return null;
    }
    if (this.queue.length === 0 || now - this.queue[0].since < ORDER) return null;
    this.backlog = Math.max(0, this.backlog - 1);
    return this.queue.shift()?.scene ?? null;
  }

  /** @param {Scene} scene */
  begin(scene) {
    this.stage.play(scene);
  }

  /** @param {boolean} paused */
  pause(paused) {
    this.paused = paused;
    this.backlog = this.queue.length;
    this.stepUntil = 0;
    this.wake();
    this.changed();
  }

  /** One frame more, to its end. */
  step() {
    this.paused = true;
    this.backlog = this.queue.length;
    const scene = this.next(Infinity);
    if (scene) this.begin(scene);
    this.stepUntil = this.stage.end;
    this.wake();
    this.changed();
    return scene;
  }

  /** @param {number} speed */
  setSpeed(speed) {
    this.speed = speed;
    this.backlog = this.queue.length;
    this.changed();
  }

  /** @param {Scene[]} scenes */
  startReplay(scenes) {
    this.stage.clear();
    this.drop(this.queue.splice(0));
    this.backlog = 0;
    this.replay = { scenes, at: 0 };
    this.paused = false;
    this.wake();
    this.changed();
  }

  /** Whether there is more to be replayed. */
  replaying() {
    return this.replay !== null && this.replay.at < this.replay.scenes.length;
  }

  /**
   * Goes to a part of the replay.
   * @param {number} at number of the scene
   */
  seek(at) {
    if (!this.replay) return;
    this.stage.clear();
    this.replay.at = Math.max(0, Math.min(at, this.replay.scenes.length));
    this.wake();
    this.changed();
  }

  /** Back to what happens now. */
  live() {
    this.replay = null;
    this.drop(this.queue.splice(0));
    this.backlog = 0;
    this.stage.clear();
    this.paused = false;
    this.stepUntil = 0;
    this.wake();
    this.changed();
  }
}
