// @ts-check
// From records to scenes: one frame as it comes into a switch, with all that becomes of it there.

import { kindOf } from "./classes.js";

/** @typedef {import("./live.js").Frame} Frame */
/** @typedef {import("./classes.js").Kind} Kind */
/** @typedef {{kind: "port"|"peer"|"vtep"|"self", name: string}} Place */

/**
 * @typedef {object} Copy
 * @property {Place} to
 * @property {string|null} reason why it was lost on its way out
 * @property {Frame|null} record
 * @property {Frame|null} outer the datagram that it left in
 */

/**
 * @typedef {object} Scene
 * @property {number} id
 * @property {string} node
 * @property {number} time
 * @property {Kind} kind
 * @property {string} text
 * @property {number} len
 * @property {string|null} bridge
 * @property {number|null} vni
 * @property {Place} from
 * @property {string} verdict `unknown` if the record of its arrival was left out
 * @property {string|null} reason
 * @property {string|null} to
 * @property {Frame["fdb"]} fdb
 * @property {Frame|null} record of its arrival
 * @property {Frame|null} outer the datagram that it came in
 * @property {Copy[]} copies
 * @property {any} why the flight recorder's entry, in a replay
 * @property {number} count frames that it stands for
 */

/** Records of one frame are in one batch or in two that follow each other. */
const SETTLE = 220;

let lastId = 0;

/**
 * @param {Partial<Scene> & {node: string, time: number, text: string, from: Place}} parts
 * @returns {Scene}
 */
function makeScene(parts) {
  lastId += 1;
  return {
    id: lastId,
    kind: kindOf(parts.text),
    len: 0,
    bridge: null,
    vni: null,
    verdict: "unknown",
    reason: null,
    to: null,
    fdb: null,
    record: null,
    outer: null,
    copies: [],
    why: null,
    count: 1,
    ...parts,
  };
}

/**
 * The place that a record's interface names: `podA`, `198.51.100.2@br0`, `198.51.100.2@br0/outer`.
 * @param {string} name
 * @returns {Place}
 */
function placeOf(name) {
  const base = name.replace(/\/outer$/, "");
  const at = base.lastIndexOf("@");
  if (at > 0) return { kind: "peer", name: base.slice(0, at) };
  if (base === "vtep") return { kind: "vtep", name: base };
  return { kind: "port", name: base };
}

/** Puts records of one node together. */
export class Grouper {
  /**
   * @param {string} node
   * @param {(name: string) => boolean} isPort whether the node has a port of that name
   */
  constructor(node, isPort) {
    this.node = node;
    this.isPort = isPort;
    /** @type {{scene: Scene, seen: number}[]} */
    this.open = [];
    /** @type {Frame[]} */
    this.outers = [];
  }

  /**
   * @param {Frame} frame
   * @param {number} now in milliseconds of the page
   */
  add(frame, now) {
    if (frame.side === "in") this.arrived(frame, now);
    else this.left(frame, now);
  }

  /**
   * @param {Frame} frame
   * @param {number} now
   */
  arrived(frame, now) {
    const from = placeOf(frame.interface);
    if (frame.form === "datagram" && frame.verdict === "decapsulated") {
      this.outers.push(frame);
      if (this.outers.length > 200) this.outers.shift();
      return;
    }
    const scene = this.scene(frame, from, now);
    scene.verdict = frame.verdict;
    scene.reason = frame.reason;
    scene.to = frame.to;
    scene.fdb = frame.fdb;
    scene.record = frame;
    if (frame.form === "frame" && from.kind === "peer") {
      const at = this.outers.findIndex(
        (outer) => outer.time === frame.time && outer.text.endsWith(frame.text),
      );
      if (at >= 0) [scene.outer] = this.outers.splice(at, 1);
    }
  }

  /**
   * @param {Frame} frame
   * @param {number} now
   */
  left(frame, now) {
    const to = placeOf(frame.interface);
    if (frame.form === "datagram") {
      for (const { scene } of this.open) {
        const copy = scene.copies.find(
          (copy) => copy.to.name === to.name && copy.to.kind === "peer" && !copy.outer,
        );
        if (scene.time === frame.time && copy && frame.text.endsWith(scene.text)) {
          copy.outer = frame;
          return;
        }
      }
      return;
    }
    const from = this.source(frame.from);
    const found = this.open.find(
      ({ scene }) =>
        scene.time === frame.time &&
        scene.text === frame.text &&
        scene.from.name === from.name &&
        !scene.copies.some((copy) => copy.to.name === to.name),
    );
    const scene = found?.scene ?? this.scene(frame, from, now);
    if (found) found.seen = now;
    scene.copies.push({
      to,
      reason: frame.verdict === "dropped" ? frame.reason : null,
      record: frame,
      outer: null,
    });
  }

  /**
   * @param {string|null} name
   * @returns {Place}
   */
  source(name) {
    if (!name) return { kind: "self", name: "" };
    return this.isPort(name) ? { kind: "port", name } : { kind: "peer", name };
  }

  /**
   * @param {Frame} frame
   * @param {Place} from
   * @param {number} now
   */
  scene(frame, from, now) {
    const { time, text, len, bridge, vni } = frame;
    const scene = makeScene({ node: this.node, time, text, len, bridge, vni, from });
    this.open.push({ scene, seen: now });
    return scene;
  }

  /**
   * Those of which no more is to be expected.
   * @param {number} now
   * @returns {Scene[]}
   */
  settled(now) {
    const ready = this.open.filter(({ seen }) => now - seen >= SETTLE);
    if (ready.length > 0) this.open = this.open.filter(({ seen }) => now - seen < SETTLE);
    return ready.map(({ scene }) => this.completed(scene));
  }

  /**
   * Where a frame went is known although the record of its copy was left out.
   * @param {Scene} scene
   */
  completed(scene) {
    if (scene.verdict === "forwarded" && scene.to && scene.copies.length === 0) {
      scene.copies.push({ to: this.source(scene.to), reason: null, record: null, outer: null });
    }
    return scene;
  }
}

/**
 * An entry of the flight recorder as a scene.
 * @param {string} node
 * @param {any} entry
 * @returns {Scene}
 */
export function sceneOfEntry(node, entry) {
  /** @type {Place} */
  let from = { kind: "self", name: "" };
  if (entry.from_port) from = { kind: "port", name: entry.from_port };
  else if (entry.from_remote) from = { kind: "peer", name: entry.from_remote };
  const isLost = entry.fate === "dropped";
  /** @type {Copy[]} */
  const copies = (isLost ? [] : (entry.to ?? [])).map((/** @type {string} */ name) => ({
    to: { kind: /[.:]/.test(name) && /^[0-9a-f.:[\]]+$/i.test(name) ? "peer" : "port", name },
    reason: entry.fate === "lost" ? entry.reason : null,
    record: null,
    outer: null,
  }));
  return makeScene({
    node,
    time: entry.time,
    text: entry.frame,
    len: entry.len,
    bridge: entry.bridge,
    vni: entry.vni,
    from,
    verdict: entry.fate,
    reason: isLost ? entry.reason : null,
    copies,
    why: entry,
    count: entry.count ?? 1,
  });
}

/**
 * How many copies the switch made of a frame that it flooded: records of some may have been left
 * out. `to` of such a record is `3 (broadcast)`.
 * @param {Scene} scene
 */
export function copiesOf({ verdict, to, copies }) {
  const told = verdict === "flooded" ? Number(/^\d+(?= )/.exec(to ?? "")?.[0] ?? 0) : 0;
  return Math.max(told, copies.length);
}

/**
 * All words of a scene, for the filter.
 * @param {Scene} scene
 */
export function wordsOf(scene) {
  const places = scene.copies.map((copy) => copy.to.name);
  const { node, text, from, verdict, reason, fdb } = scene;
  return [node, text, from.name, verdict, reason, fdb?.mac, ...places].join(" ").toLowerCase();
}
