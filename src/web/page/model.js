// @ts-check
// What is known of the nodes: their state as last told, and a few minutes of counters.

/**
 * @typedef {object} Sample rates over one interval
 * @property {number} at seconds since 1970
 * @property {number} took seconds that it is of
 * @property {number} rx bytes a second from the namespace, or from the peer
 * @property {number} tx bytes a second to it
 * @property {number} frames frames a second, both ways
 */

/**
 * @typedef {object} Series
 * @property {any} last the totals as last told
 * @property {number} at when that was
 * @property {Sample[]} samples
 */

/**
 * @typedef {object} NodeState
 * @property {string} name
 * @property {string|null} local its VTEP
 * @property {any} show as `/v1/show` answers; null until it is told
 * @property {any[]} fdb
 * @property {number} fdbTotal
 * @property {string|null} away why its daemon does not answer
 * @property {Map<string, Series>} ports
 * @property {Map<string, Series>} peers
 */

/** Samples that are kept: two minutes, as the plots show them. */
const KEPT = 120;

/**
 * @param {...string} parts
 */
export function keyOf(...parts) {
  return parts.join("\u0001");
}

export class Model {
  constructor() {
    /** @type {Map<string, NodeState>} */
    this.nodes = new Map();
    /** Whether the server takes changes from who has the token. */
    this.changeable = false;
  }

  /** @param {any} hello */
  hello(hello) {
    this.changeable = Boolean(hello.token);
    const names = new Set();
    for (const { name, local } of hello.nodes ?? []) {
      names.add(name);
      this.node(name).local = local ?? null;
    }
    for (const name of this.nodes.keys()) {
      if (!names.has(name)) this.nodes.delete(name);
    }
  }

  /**
   * @param {string} name
   * @returns {NodeState}
   */
  node(name) {
    let node = this.nodes.get(name);
    if (!node) {
      node = {
        name,
        local: null,
        show: null,
        fdb: [],
        fdbTotal: 0,
        away: null,
        ports: new Map(),
        peers: new Map(),
      };
      this.nodes.set(name, node);
    }
    return node;
  }

  /** @param {any} state */
  state(state) {
    const node = this.node(state.node);
    node.show = state.show ?? node.show;
    node.fdb = Array.isArray(state.fdb) ? state.fdb : node.fdb;
    node.fdbTotal = state.fdb_total ?? node.fdb.length;
    node.away = null;
    node.local = node.show?.vtep?.local ?? node.local;
  }

  /** @param {any} stats */
  stats(stats) {
    const node = this.node(stats.node);
    const at = stats.at ?? Date.now() / 1000;
    count(node.ports, stats.ports ?? [], at, (/** @type {any} */ port) => port.name);
    count(node.peers, stats.peers ?? [], at, (/** @type {any} */ peer) =>
      keyOf(peer.bridge, peer.remote),
    );
  }

  /**
   * The port of that name, if the node has it.
   * @param {string} node
   * @param {string} name
   */
  port(node, name) {
    return this.nodes.get(node)?.show?.ports.find((/** @type {any} */ port) => port.name === name);
  }

  /**
   * How many rows the FDB of a bridge has: of large ones not all rows are told.
   * @param {NodeState} node
   * @param {string} bridge
   * @param {number} told
   */
  rowsOf({ show, fdb, fdbTotal }, bridge, told) {
    if (fdbTotal <= fdb.length) return told;
    const info = show?.bridges.find((/** @type {any} */ one) => one.name === bridge);
    return Math.max(told, info?.fdb_entries ?? 0);
  }

  /**
   * The node whose VTEP has that address.
   * @param {string} local
   */
  nodeAt(local) {
    for (const node of this.nodes.values()) {
      if (node.local === local) return node;
    }
    return null;
  }

  /**
   * VTEPs that are peers of some node and none of the nodes that are shown.
   * @returns {string[]}
   */
  strangers() {
    const found = new Set();
    for (const node of this.nodes.values()) {
      for (const peer of node.show?.peers ?? []) {
        if (!this.nodeAt(peer.remote)) found.add(peer.remote);
      }
    }
    return [...found].sort();
  }
}

/**
 * @param {any} entry
 * @param {"rx"|"tx"} way
 * @returns {{frames: number, bytes: number}}
 */
export function totals(entry, way) {
  // Flat in the stream of counters, nested in the answers of the API.
  const nested = entry[way];
  if (nested) return nested;
  return { frames: entry[`${way}_frames`] ?? 0, bytes: entry[`${way}_bytes`] ?? 0 };
}

/**
 * @param {Map<string, Series>} all
 * @param {any[]} entries
 * @param {number} at
 * @param {(entry: any) => string} name
 */
function count(all, entries, at, name) {
  const seen = new Set();
  for (const entry of entries) {
    const key = name(entry);
    seen.add(key);
    const series = all.get(key);
    if (!series) {
      all.set(key, { last: entry, at, samples: [] });
      continue;
    }
    const took = at - series.at;
    const { last } = series;
    series.last = entry;
    series.at = at;
    // The clock was set back: what was before it has no place on the axis.
    if (took < 0) series.samples = [];
    if (took <= 0) continue;
    const more = (/** @type {"rx"|"tx"} */ way, /** @type {"frames"|"bytes"} */ what) =>
      // A daemon that was started again counts from 0.
      Math.max(0, totals(entry, way)[what] - totals(last, way)[what]) / took;
    series.samples.push({
      at,
      took,
      rx: more("rx", "bytes"),
      tx: more("tx", "bytes"),
      frames: more("rx", "frames") + more("tx", "frames"),
    });
    if (series.samples.length > KEPT) series.samples.shift();
  }
  for (const key of all.keys()) {
    if (!seen.has(key)) all.delete(key);
  }
}
