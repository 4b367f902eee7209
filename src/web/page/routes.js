// @ts-check
// The ways of the picture along which frames go: from box to box, as points.

/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {import("./layout.js").Point} Point */
/** @typedef {import("./layout.js").NodeBox} NodeBox */
/** @typedef {import("./layout.js").BridgeBox} BridgeBox */

/**
 * @param {Layout} layout
 * @param {string} node
 * @param {string|null} bridge
 * @returns {{place: NodeBox, bridge: BridgeBox}|null}
 */
function bridgeAt(layout, node, bridge) {
  const place = layout.nodes.find(({ name }) => name === node);
  const found = place?.bridges.find(({ name }) => name === bridge) ?? place?.bridges[0];
  return place && found ? { place, bridge: found } : null;
}

/**
 * Where the bridge decides.
 * @param {Layout} layout
 * @param {string} node
 * @param {string|null} bridge
 * @returns {Point|null}
 */
export function hub(layout, node, bridge) {
  const found = bridgeAt(layout, node, bridge);
  return found && { x: found.bridge.hub, y: found.bridge.busY };
}

/**
 * From a port to where its bridge decides.
 * @param {Layout} layout
 * @param {string} node
 * @param {string|null} bridge
 * @param {string} port
 * @returns {Point[]|null}
 */
export function fromPort(layout, node, bridge, port) {
  const found = bridgeAt(layout, node, bridge);
  const box = found?.bridge.ports.find(({ name }) => name === port);
  if (!found || !box) return null;
  const { busY, hub } = found.bridge;
  const inward = found.place.flipped ? 10 : -10;
  const { x, y } = box.plug;
  return [{ x, y: y + inward }, { x, y: busY }, { x: hub, y: busY }];
}

/**
 * From where a bridge decides to the VTEP of its node.
 * @param {Layout} layout
 * @param {string} node
 * @param {string|null} bridge
 * @returns {Point[]|null}
 */
export function toVtep(layout, node, bridge) {
  const found = bridgeAt(layout, node, bridge);
  const box = found?.place.vtep;
  if (!found || !box) return null;
  const { busY, hub, tunnelX } = found.bridge;
  const door = vtepAt(layout, node);
  if (!door) return null;
  return [{ x: hub, y: busY }, { x: tunnelX, y: busY }, { x: tunnelX, y: door.y }, door];
}

/**
 * @param {Layout} layout
 * @param {string} node
 * @returns {Point|null}
 */
export function vtepAt(layout, node) {
  const box = layout.nodes.find(({ name }) => name === node)?.vtep;
  return box ? { x: box.x + box.w / 2, y: box.y + box.h / 2 } : null;
}

/**
 * Over the underlay, from one VTEP to another one, which may be one that is not shown.
 * @param {Layout} layout
 * @param {string|null} from the node, or null for a stranger
 * @param {string|null} to
 * @param {string} remote the stranger's address
 * @returns {Point[]|null}
 */
export function overCable(layout, from, to, remote) {
  if (layout.cableY === null) return null;
  const end = (/** @type {string|null} */ node) => {
    if (node) return vtepAt(layout, node);
    const box = layout.strangers.find(({ name }) => name === remote)?.box;
    if (box) return { x: box.x + box.w / 2, y: box.y + box.h / 2 };
    return { x: layout.cableX[1] + 60, y: layout.cableY ?? 0 };
  };
  const [first, last] = [end(from), end(to)];
  if (!first || !last) return null;
  const y = layout.cableY;
  return [first, { x: first.x, y }, { x: last.x, y }, last];
}

/**
 * The place at a part of a way.
 * @param {Point[]} way
 * @param {number} part from 0 to 1
 * @returns {Point}
 */
export function along(way, part) {
  const lengths = way.slice(1).map((to, at) => Math.hypot(to.x - way[at].x, to.y - way[at].y));
  let left = lengths.reduce((sum, length) => sum + length, 0) * part;
  for (let at = 0; at < lengths.length; at += 1) {
    if (left <= lengths[at] && lengths[at] > 0) {
      const here = left / lengths[at];
      const [from, to] = [way[at], way[at + 1]];
      return { x: from.x + (to.x - from.x) * here, y: from.y + (to.y - from.y) * here };
    }
    left -= lengths[at];
  }
  return way[way.length - 1];
}
