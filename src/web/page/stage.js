// @ts-check
// Frames on their way: a scene becomes envelopes that move along the lines, on a clock of its own
// that can go slowly, or not at all.

import { labelOf, SHAPES } from "./classes.js";
import { calm, fit, s } from "./dom.js";
import { t, tOr } from "./i18n.js";
import { along, fromPort, hub, overCable, toVtep, vtepAt } from "./routes.js";
import { copiesOf } from "./scenes.js";

/** @typedef {import("./draw.js").Picture} Picture */
/** @typedef {import("./layout.js").Point} Point */
/** @typedef {import("./scenes.js").Scene} Scene */
/** @typedef {import("./scenes.js").Copy} Copy */

/** How long each part of the way takes, in milliseconds at full speed. */
const TAKES = { wire: 620, decide: 420, tunnel: 440, wrap: 420, cable: 950, unwrap: 380, fall: 1300, pause: 260 };
/** A reply leaves after the request has come, if it did in truth within this time, in seconds. */
const REACTION = 0.05;
/** How long a datagram waits for its scene at the other VTEP. */
const PATIENCE = 2500;

/**
 * @typedef {object} Leg
 * @property {number} from
 * @property {number} until
 * @property {() => Point[]|null} way
 * @property {[number, number]} [wrapped] how much of the outer envelope is there, before and after
 * @property {boolean} [falls]
 */

/**
 * @typedef {object} Sprite
 * @property {SVGElement} element
 * @property {SVGElement} outer
 * @property {Leg[]} legs
 * @property {number} end
 * @property {Scene} scene
 * @property {Element|null} label hidden as long as copies are where they part
 */

/** @typedef {{from: number, end: number, element: SVGElement, at: () => Point|null, lift: number}} Caption */

export class Stage {
  /**
   * @param {Picture} picture
   * @param {(scene: Scene) => void} pick
   * @param {(scene: Scene) => void} decided
   */
  constructor(picture, pick, decided) {
    this.picture = picture;
    this.pick = pick;
    this.decided = decided;
    /** Milliseconds of the stage's own clock. */
    this.now = 0;
    /** @type {Sprite[]} */
    this.sprites = [];
    /** @type {Caption[]} */
    this.captions = [];
    /** @type {{at: number, scene: Scene}[]} */
    this.decisions = [];
    /** @type {{sprite: Sprite, node: string, to: string, text: string, arrive: number}[]} */
    this.crossing = [];
    /** When and in which scene each port got its last frame. @type {Map<string, {at: number, time: number}>} */
    this.arrivals = new Map();
    /** Until when each node decides about a frame: one at a time. @type {Map<string, number>} */
    this.deciding = new Map();
    /** When all that plays has ended. */
    this.end = 0;
    /** @type {number[]} when each scene that plays will have ended */
    this.playing = [];
  }

  /** Scenes that play now. */
  get busy() {
    this.playing = this.playing.filter((end) => end > this.now);
    return this.playing.length;
  }

  clear() {
    for (const { element } of [...this.sprites, ...this.captions]) element.remove();
    this.sprites = [];
    this.captions = [];
    this.decisions = [];
    this.crossing = [];
    this.playing = [];
    this.arrivals.clear();
    this.deciding.clear();
    this.end = this.now;
  }

  /**
   * Plays a scene as soon as what led to it has been seen.
   * @param {Scene} scene
   */
  play(scene) {
    const { layout } = this.picture;
    const middle = () => hub(this.picture.layout, scene.node, scene.bridge);
    if (!hub(layout, scene.node, scene.bridge)) return;
    let { start, sprite: crossed } = this.cause(scene);
    const free = this.deciding.get(scene.node) ?? 0;
    const early = free - this.arrival(scene, start, crossed !== null)[1];
    if (early > 0) start += early;
    if (crossed) crossed.end = start;
    const [legs, decides] = this.arrival(scene, start, crossed !== null);
    const leaves = decides + TAKES.decide;
    this.deciding.set(scene.node, leaves + TAKES.pause);
    const isDropped = scene.verdict === "dropped";
    if (isDropped && scene.from.kind !== "vtep") {
      legs.push({ from: decides, until: leaves, way: () => still(middle()) });
    }
    if (isDropped) legs.push(fall(leaves, legs.at(-1)));
    else legs.push({ from: decides, until: leaves, way: () => still(middle()) });
    const first = this.sprite(scene, legs, true);
    let end = first.end;
    this.caption(scene, decides, isDropped ? first.end : leaves + TAKES.wire * 0.4);
    this.decisions.push({ at: decides, scene });
    scene.copies.forEach((copy, index) => {
      const isNamed = scene.copies.length <= 4 || index === 0;
      end = Math.max(end, this.copy(scene, copy, leaves, isNamed));
    });
    this.playing.push(end);
    this.end = Math.max(this.end, end);
  }

  /**
   * When a scene can begin: after the datagram has come, or what the sender answers to.
   * @param {Scene} scene
   * @returns {{start: number, sprite: Sprite|null}}
   */
  cause(scene) {
    this.crossing = this.crossing.filter(({ sprite }) => sprite.end > this.now);
    if (scene.from.kind === "peer") {
      const sender = this.picture.model.nodeAt(scene.from.name)?.name;
      const local = this.picture.model.nodes.get(scene.node)?.local;
      const at = this.crossing.findIndex(
        ({ node, to, text }) => node === sender && to === local && text === scene.text,
      );
      if (at < 0) return { start: this.now, sprite: null };
      const [{ sprite, arrive }] = this.crossing.splice(at, 1);
      return { start: Math.max(this.now, arrive), sprite };
    }
    const before = this.arrivals.get(`${scene.node} ${scene.from.name}`);
    const since = before ? scene.time - before.time : -1;
    const isAnswer = before && since >= 0 && since < REACTION;
    return { start: isAnswer ? Math.max(this.now, before.at + 80) : this.now, sprite: null };
  }

  /**
   * The way in, and when it ends.
   * @param {Scene} scene
   * @param {number} start
   * @param {boolean} isHere whether its datagram has been seen on the cable
   * @returns {[Leg[], number]}
   */
  arrival(scene, start, isHere) {
    const { node, bridge, from } = scene;
    const layout = () => this.picture.layout;
    if (from.kind === "port") {
      const until = start + TAKES.wire;
      return [[{ from: start, until, way: () => fromPort(layout(), node, bridge, from.name) }], until];
    }
    if (from.kind === "self") return [[], start];
    /** @type {Leg[]} */
    const legs = [];
    let at = start;
    if (!isHere) {
      const sender = this.picture.model.nodeAt(from.name)?.name ?? null;
      at += TAKES.cable;
      legs.push({
        from: start,
        until: at,
        way: () => overCable(layout(), sender, node, from.name),
        wrapped: [1, 1],
      });
    }
    const door = () => still(vtepAt(layout(), node));
    if (from.kind === "vtep") return [legs, at];
    legs.push({ from: at, until: at + TAKES.unwrap, way: door, wrapped: [1, 0] });
    at += TAKES.unwrap;
    const way = () => toVtep(layout(), node, bridge)?.reverse() ?? null;
    legs.push({ from: at, until: at + TAKES.tunnel, way });
    return [legs, at + TAKES.tunnel];
  }

  /**
   * The way of one copy out of the switch.
   * @param {Scene} scene
   * @param {Copy} copy
   * @param {number} start
   * @param {boolean} isNamed
   * @returns {number} when it ends
   */
  copy(scene, copy, start, isNamed) {
    const { node, bridge } = scene;
    const layout = () => this.picture.layout;
    if (copy.to.kind === "port") {
      const until = start + TAKES.wire;
      const way = () => fromPort(layout(), node, bridge, copy.to.name)?.reverse() ?? null;
      /** @type {Leg} */
      const leg = { from: start, until, way };
      const legs = copy.reason ? [leg, fall(until, leg)] : [leg];
      if (copy.reason) this.reason(copy, until, way);
      else this.arrivals.set(`${node} ${copy.to.name}`, { at: until, time: scene.time });
      return this.parted(this.sprite(scene, legs, isNamed)).end;
    }
    const door = () => still(vtepAt(layout(), node));
    const inside = start + TAKES.tunnel;
    const packed = inside + TAKES.wrap;
    const arrive = packed + TAKES.cable;
    const to = this.picture.model.nodeAt(copy.to.name)?.name ?? null;
    /** @type {Leg[]} */
    const legs = [{ from: start, until: inside, way: () => toVtep(layout(), node, bridge) }];
    if (copy.reason) {
      legs.push(fall(inside, { from: inside, until: inside, way: door }));
      this.reason(copy, inside, door);
      return this.parted(this.sprite(scene, legs, isNamed)).end;
    }
    legs.push(
      { from: inside, until: packed, way: door, wrapped: [0, 1] },
      { from: packed, until: arrive, way: () => overCable(layout(), node, to, copy.to.name), wrapped: [1, 1] },
    );
    const sprite = this.parted(this.sprite(scene, legs, true));
    if (to) {
      // It waits for its scene at the other node.
      sprite.end = arrive + PATIENCE;
      this.crossing.push({ sprite, node, to: copy.to.name, text: scene.text, arrive });
    }
    return arrive;
  }

  /** A copy among several. @param {Sprite} sprite */
  parted(sprite) {
    if (sprite.scene.copies.length > 1) sprite.label = sprite.element.querySelector(".label");
    return sprite;
  }

  /**
   * An envelope.
   * @param {Scene} scene
   * @param {Leg[]} legs
   * @param {boolean} isNamed
   * @returns {Sprite}
   */
  sprite(scene, legs, isNamed) {
    const outer = s(
      "g",
      { class: "outer" },
      s("rect", { x: -44, y: -30, width: 88, height: 60, rx: 7 }),
      s("path", { d: "M-43-26L0-2 43-26" }),
      s("text", { y: 45, "text-anchor": "middle", text: outerLabel(scene) }),
    );
    const label = fit(labelOf(scene.text), 220, "600 15px system-ui, sans-serif");
    const count = scene.count > 1 ? ` ×${scene.count}` : "";
    const element = s(
      "g",
      { class: `sprite ${scene.kind}`, "data-scene": scene.id, onclick: () => this.pick(scene) },
      outer,
      s("rect", { class: "envelope", x: -24, y: -15, width: 48, height: 30, rx: 4 }),
      s("path", { class: "flap", d: "M-22-13L0 3 22-13" }),
      s("path", { class: "seal", d: SHAPES[scene.kind], transform: "translate(0 3) scale(.82)" }),
      isNamed && s("text", { class: "label", y: -22, "text-anchor": "middle", text: label + count }),
    );
    element.style.display = "none";
    this.picture.moving.append(element);
    /** @type {Sprite} */
    const sprite = { element, outer, legs, end: legs.at(-1)?.until ?? 0, scene, label: null };
    this.sprites.push(sprite);
    return sprite;
  }

  /**
   * What the bridge decided, where it decides.
   * @param {Scene} scene
   * @param {number} from
   * @param {number} end
   */
  caption(scene, from, end) {
    const text = verdictText(scene);
    if (!text) return;
    const place = this.picture.layout.nodes.find(({ name }) => name === scene.node);
    const at = () =>
      scene.from.kind === "vtep"
        ? vtepAt(this.picture.layout, scene.node)
        : hub(this.picture.layout, scene.node, scene.bridge);
    const lift = place?.flipped ? 60 : -55;
    this.bubble(text, scene.verdict === "dropped" ? "caption lost" : "caption", from, end, at, lift);
  }

  /**
   * @param {Copy} copy
   * @param {number} from
   * @param {() => Point[]|null} way
   */
  reason(copy, from, way) {
    const text = t("verdict.dropped", { reason: tOr(`drop.${copy.reason}`, copy.reason ?? "") });
    this.bubble(text, "caption lost", from, from + TAKES.fall, () => way()?.at(-1) ?? null, -40);
  }

  /**
   * @param {string} text
   * @param {string} looks
   * @param {number} from
   * @param {number} end
   * @param {() => Point|null} at
   * @param {number} lift
   */
  bubble(text, looks, from, end, at, lift) {
    const shown = fit(text, 420, "600 16px system-ui, sans-serif");
    const label = s("text", { "text-anchor": "middle", y: 5, text: shown });
    const plate = s("rect", { rx: 8, y: -14, height: 28 });
    const element = s("g", { class: looks }, plate, label);
    element.style.display = "none";
    this.picture.moving.append(element);
    const width = /** @type {SVGTextElement} */ (label).textContent?.length ?? 0;
    plate.setAttribute("width", String(width * 9));
    this.captions.push({ from, end, element, at, lift });
  }

  /**
   * Lets the clock go on.
   * @param {number} elapsed milliseconds of the stage
   */
  advance(elapsed) {
    this.now += elapsed;
    const due = this.decisions.filter(({ at }) => at <= this.now);
    if (due.length > 0) {
      this.decisions = this.decisions.filter(({ at }) => at > this.now);
      for (const { scene } of due) this.decided(scene);
    }
    this.sprites = this.sprites.filter((sprite) => show(sprite, this.now));
    this.captions = this.captions.filter((caption) => tell(caption, this.now));
  }
}

/**
 * What stands on the outer envelope: the number of the network, and how long it is with all headers.
 * @param {Scene} scene
 */
function outerLabel(scene) {
  const outer = scene.outer ?? scene.copies.find((copy) => copy.outer)?.outer;
  const name = scene.vni === null ? "VXLAN" : `VXLAN ${scene.vni}`;
  return outer ? `${name} · ${outer.len} B` : name;
}

/**
 * @param {Point|null} point
 * @returns {Point[]|null}
 */
function still(point) {
  return point && [point, point];
}

/**
 * What is lost falls off where it last was.
 * @param {number} from
 * @param {Leg|undefined} last
 * @returns {Leg}
 */
function fall(from, last) {
  const way = () => {
    const end = last?.way()?.at(-1);
    return end ? [end, { x: end.x, y: end.y + 90 }] : null;
  };
  return { from, until: from + TAKES.fall, way, falls: true, wrapped: last?.wrapped };
}

/**
 * @param {Sprite} sprite
 * @param {number} now
 * @returns {boolean} whether it is still there
 */
function show(sprite, now) {
  const { element, outer, legs } = sprite;
  const leg = legs.find(({ until }) => now < until) ?? legs.at(-1);
  const way = leg?.way();
  if (!leg || !way || now >= sprite.end) {
    element.remove();
    return false;
  }
  if (now < leg.from) {
    if (leg === legs[0]) return true;
  }
  let part = Math.min(1, Math.max(0, (now - leg.from) / (leg.until - leg.from || 1)));
  if (calm.matches && !leg.falls) part = part < 0.5 ? 0 : 1;
  const eased = part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2;
  const { x, y } = along(way, calm.matches && leg.falls ? 0 : eased);
  const turn = leg.falls && !calm.matches ? ` rotate(${(eased * 50).toFixed(1)})` : "";
  element.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})${turn}`);
  element.setAttribute("opacity", leg.falls ? String(1 - part * part) : "1");
  const [before, after] = leg.wrapped ?? [0, 0];
  const wrapped = before + (after - before) * eased;
  outer.setAttribute("transform", `scale(${(0.5 + wrapped * 0.5).toFixed(3)})`);
  outer.setAttribute("opacity", wrapped.toFixed(2));
  const isNear = leg === legs[0] && eased < 0.35;
  sprite.label?.setAttribute("opacity", isNear ? "0" : "1");
  element.classList.toggle("wrapped", wrapped > 0.5);
  element.classList.toggle("falling", Boolean(leg.falls));
  element.style.display = "";
  return true;
}

/**
 * @param {Caption} caption
 * @param {number} now
 * @returns {boolean} whether it is still there
 */
function tell(caption, now) {
  const { element, from, end, at, lift } = caption;
  if (now >= end) {
    element.remove();
    return false;
  }
  const point = at();
  if (now < from || !point) return true;
  if (element.style.display === "none") {
    element.style.display = "";
    const [plate, label] = element.children;
    const { width } = /** @type {SVGTextElement} */ (label).getBBox();
    plate.setAttribute("width", String(width + 24));
    plate.setAttribute("x", String(-width / 2 - 12));
  }
  element.setAttribute("transform", `translate(${point.x.toFixed(1)} ${(point.y + lift).toFixed(1)})`);
  return true;
}

/**
 * What became of a frame at a node, in a few words.
 * @param {Scene} scene
 */
export function verdictText(scene) {
  const { verdict, copies, fdb, from } = scene;
  const names = copies.map(({ to }) => to.name);
  // Without the record of its arrival nobody knows what was decided: these may be copies of a flood.
  if (verdict === "unknown") {
    if (names.length === 0) return "";
    return t(from.kind === "self" ? "verdict.own" : "verdict.seen", { to: names.join(", ") });
  }
  if (verdict === "dropped") {
    return t("verdict.dropped", { reason: tOr(`drop.${scene.reason}`, scene.reason ?? "") });
  }
  if (verdict === "flooded" || copies.length > 1) {
    const found = /\((.+)\)$/.exec(scene.to ?? "");
    const why = found ? tOr(`flood.${found[1]}`, found[1]) : "";
    const text = why ? t("verdict.flooded_why", { why }) : t("verdict.flooded");
    const all = copiesOf(scene);
    return copies.length < all ? text + t("verdict.partly", { shown: copies.length, all }) : text;
  }
  if (verdict === "consumed") return t("verdict.consumed");
  const to = fdb?.at ?? names[0] ?? scene.to;
  if (!to) return "";
  return fdb ? t("verdict.fdb", { mac: fdb.mac, to }) : t("verdict.forwarded", { to });
}
