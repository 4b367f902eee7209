// @ts-check
// Where everything is drawn. Pure: from state and room to boxes and lines.
//
// A node is a row or more of ports, above the bridges, above the VTEP; the underlay joins the VTEPs.
// With two rows of nodes the lower one is turned upside down, so that the underlay is between them.

/** @typedef {{x: number, y: number, w: number, h: number}} Box */
/** @typedef {{x: number, y: number}} Point */
/** @typedef {{name: string, box: Box, plug: Point}} PortBox */
/**
 * @typedef {object} BridgeBox
 * @property {string} name
 * @property {Box} box
 * @property {Box} head
 * @property {Box} table where its FDB is
 * @property {number} busY
 * @property {number} hub x of the middle of the bus
 * @property {number} tunnelX where frames leave for the VTEP
 * @property {PortBox[]} ports
 * @property {boolean} tunnels whether it has a VNI
 */
/**
 * @typedef {object} NodeBox
 * @property {string} name
 * @property {Box} box
 * @property {Box} title
 * @property {BridgeBox[]} bridges
 * @property {Box|null} vtep
 * @property {boolean} flipped
 */
/**
 * @typedef {object} Layout
 * @property {number} width
 * @property {number} height
 * @property {number} scale
 * @property {number} rows rows of an FDB that are shown
 * @property {NodeBox[]} nodes
 * @property {number|null} cableY
 * @property {number[]} cableX from where to where it goes
 * @property {{name: string, box: Box}[]} strangers
 */
/** @typedef {{name: string, vni: boolean, ports: string[], rows: number}} BridgeShape */
/** @typedef {{name: string, vtep: boolean, bridges: BridgeShape[]}} NodeShape */
/** @typedef {{lines: number, perRow: number, rows: number, wire: number}} Plan how it is arranged */

const GAP = 28;
const PAD = 18;
const TITLE = 34;
const CARD = { h: 84, gap: 14 };
const WIRE = { least: 76, most: 130 };
const HEAD = 38;
const BUS = 26;
export const ROW = 25;
const VTEP = { w: 210, h: 46, drop: 46 };
const CABLE = 58;
const STRANGER = { w: 170, h: 46 };

/**
 * @param {NodeShape} node
 * @param {Plan} plan
 */
function measure(node, { perRow, rows, wire }) {
  const bridges = node.bridges.map((bridge) => {
    const columns = Math.max(1, Math.min(perRow, bridge.ports.length));
    const w = Math.max(columns * (bridge.ports.length > perRow || columns <= 4 ? 150 : 124), bridge.vni ? 420 : 340);
    return { lines: Math.ceil(bridge.ports.length / perRow), columns, w };
  });
  const lines = Math.max(1, ...bridges.map(({ lines }) => lines));
  const inner = bridges.reduce((sum, { w }) => sum + w + GAP, -GAP);
  const h =
    TITLE + lines * (CARD.h + CARD.gap) - CARD.gap + wire + HEAD + BUS + rows * ROW + 12 + PAD;
  return { bridges, lines, w: Math.max(inner, 340) + 2 * PAD, h };
}

/**
 * The best arrangement for the room.
 * @param {NodeShape[]} nodes
 * @param {string[]} strangers VTEPs of which no more is known
 * @param {number} width
 * @param {number} height
 * @returns {Layout}
 */
export function arrange(nodes, strangers, width, height) {
  const bridges = nodes.flatMap((node) => node.bridges);
  const most = Math.max(1, ...bridges.map(({ ports }) => ports.length));
  const need = Math.min(10, Math.max(3, ...bridges.map(({ rows }) => rows)));
  /** @type {Layout|null} */
  let best = null;
  let bestValue = -1;
  for (let lines = 1; lines <= Math.min(2, nodes.length); lines += 1) {
    for (let perRow = Math.min(most, 16); perRow >= Math.ceil(Math.min(most, 32) / 2); perRow -= 1) {
      for (let rows = need; rows >= 3; rows -= 1) {
        const plan = { lines, perRow, rows, wire: WIRE.least };
        const layout = place(nodes, strangers, plan);
        layout.scale = Math.min(width / layout.width, height / layout.height, 1.5);
        // A few rows more are worth a little of the size.
        const value = layout.scale * (1 + Math.min(rows, 5) / 40 + rows / 400) - (lines - 1) * 0.02;
        if (value <= bestValue) continue;
        [best, bestValue] = [layout, value];
        const spare = (height / layout.scale - layout.height) / lines;
        if (spare <= 0) continue;
        plan.wire = Math.min(WIRE.most, WIRE.least + spare);
        best = { ...place(nodes, strangers, plan), scale: layout.scale };
      }
    }
  }
  const layout = best ?? place(nodes, strangers, { lines: 1, perRow: 1, rows: 3, wire: WIRE.least });
  center(layout, width / layout.scale, height / layout.scale);
  return layout;
}

/**
 * @param {NodeShape[]} nodes
 * @param {string[]} strangers
 * @param {Plan} plan
 * @returns {Layout}
 */
function place(nodes, strangers, plan) {
  const { lines, rows } = plan;
  const split = Math.ceil(nodes.length / lines);
  const groups = lines === 2 ? [nodes.slice(0, split), nodes.slice(split)] : [nodes];
  const hasCable = nodes.some((node) => node.vtep);
  const sizes = groups.map((group) => group.map((node) => measure(node, plan)));
  const heights = sizes.map((group) => Math.max(0, ...group.map(({ h }) => h)));
  const widths = sizes.map((group) => group.reduce((sum, { w }) => sum + w + GAP, -GAP));
  const inner = Math.max(...widths, 0);
  const beside = strangers.length > 0 ? STRANGER.w + 40 : 0;
  const cable = hasCable ? VTEP.drop + CABLE + (lines === 2 ? VTEP.drop : 24) : 0;
  const width = inner + beside + 2 * GAP;
  const height = heights.reduce((sum, h) => sum + h, 0) + cable + GAP + (hasCable ? 0 : GAP);
  /** @type {NodeBox[]} */
  const boxes = [];
  groups.forEach((group, line) => {
    const top = line === 0 ? GAP / 2 : GAP / 2 + heights[0] + cable;
    let x = GAP + (inner - widths[line]) / 2;
    group.forEach((node, index) => {
      const size = sizes[line][index];
      const flipped = line === 1;
      boxes.push(placeNode(node, size, x, top, heights[line], plan, flipped));
      x += size.w + GAP;
    });
  });
  const cableY = hasCable ? GAP / 2 + heights[0] + VTEP.drop + CABLE / 2 : null;
  const ends = boxes.flatMap((node) => (node.vtep ? [node.vtep.x + node.vtep.w / 2] : []));
  const outside = strangers.slice(0, 4).map((name, index) => ({
    name,
    box: {
      x: GAP + inner + 40,
      y: (cableY ?? 0) - STRANGER.h / 2 - index * (STRANGER.h + 12),
      w: STRANGER.w,
      h: STRANGER.h,
    },
  }));
  if (outside.length > 0) ends.push(GAP + inner + 40);
  return {
    width,
    height,
    scale: 1,
    rows,
    nodes: boxes,
    cableY,
    cableX: ends.length > 0 ? [Math.min(...ends), Math.max(...ends)] : [],
    strangers: outside,
  };
}

/**
 * @param {NodeShape} node
 * @param {ReturnType<typeof measure>} size
 * @param {number} x
 * @param {number} top
 * @param {number} h
 * @param {Plan} plan
 * @param {boolean} flipped
 * @returns {NodeBox}
 */
function placeNode(node, size, x, top, h, { perRow, wire }, flipped) {
  const box = { x, y: top, w: size.w, h };
  /** A box that is given from the top, turned over if the node is. @param {Box} b */
  const turn = (b) => (flipped ? { ...b, y: top + h - (b.y - top) - b.h } : b);
  const turnY = (/** @type {number} */ y) => (flipped ? top + h - (y - top) : y);
  const bridgeTop = top + TITLE + size.lines * (CARD.h + CARD.gap) - CARD.gap + wire;
  const bridgeH = top + h - PAD - bridgeTop;
  const spare = size.w - 2 * PAD - size.bridges.reduce((sum, { w }) => sum + w + GAP, -GAP);
  let left = x + PAD;
  const bridges = node.bridges.map((bridge, index) => {
    const { lines, columns } = size.bridges[index];
    const w = size.bridges[index].w + spare / node.bridges.length;
    const room = bridge.vni ? 62 : 0;
    const at = left;
    left += w + GAP;
    const pitch = w / columns;
    const cardW = Math.min(pitch - 12, 200);
    const ports = bridge.ports.map((name, number) => {
      const line = Math.floor(number / perRow);
      const column = number % perRow;
      const here = Math.min(perRow, bridge.ports.length - line * perRow);
      // Lines of upper rows go down between the cards of the lower ones.
      const shift = lines > 1 && line % 2 === 1 ? pitch / 2 : 0;
      const free = (columns - here) * pitch * (lines > 1 ? 0 : 0.5);
      const width = lines > 1 ? Math.min(cardW, (w - pitch / 2) / columns - 22) : cardW;
      const step = lines > 1 ? (w - pitch / 2) / columns : pitch;
      const center = at + free + step * (column + 0.5) + shift;
      const y = top + TITLE + line * (CARD.h + CARD.gap);
      const card = turn({ x: center - width / 2, y, w: width, h: CARD.h });
      return { name, box: card, plug: { x: center, y: turnY(y + CARD.h) } };
    });
    return {
      name: bridge.name,
      box: turn({ x: at, y: bridgeTop, w, h: bridgeH }),
      head: turn({ x: at, y: bridgeTop + BUS, w, h: HEAD }),
      table: turn({
        x: at + 14,
        y: bridgeTop + BUS + HEAD,
        w: w - 28 - room,
        h: bridgeH - BUS - HEAD - 8,
      }),
      busY: turnY(bridgeTop + BUS / 2 + 3),
      hub: at + w / 2,
      tunnelX: at + w - 40,
      ports,
      tunnels: bridge.vni,
    };
  });
  const last = [...bridges].reverse().find(({ tunnels }) => tunnels);
  const middle = last ? last.tunnelX : x + size.w / 2;
  const vtepX = Math.min(middle - VTEP.w / 2, x + size.w - VTEP.w - 6);
  const vtep = node.vtep
    ? turn({ x: vtepX, y: top + h - 12, w: VTEP.w, h: VTEP.h })
    : null;
  const title = flipped
    ? { x: x + PAD, y: top + h - TITLE, w: size.w - 2 * PAD, h: TITLE }
    : { x: x + PAD, y: top, w: size.w - 2 * PAD, h: TITLE };
  return { name: node.name, box, title, bridges, vtep, flipped };
}

/**
 * Moves everything to the middle of the room.
 * @param {Layout} layout
 * @param {number} width
 * @param {number} height
 */
function center(layout, width, height) {
  const dx = Math.max(0, (width - layout.width) / 2);
  const dy = Math.max(0, (height - layout.height) / 2);
  /** @param {Box|Point|null} thing */
  const move = (thing) => {
    if (!thing) return;
    thing.x += dx;
    thing.y += dy;
  };
  for (const node of layout.nodes) {
    [node.box, node.title, node.vtep].forEach(move);
    for (const bridge of node.bridges) {
      [bridge.box, bridge.head, bridge.table].forEach(move);
      bridge.busY += dy;
      bridge.hub += dx;
      bridge.tunnelX += dx;
      for (const port of bridge.ports) [port.box, port.plug].forEach(move);
    }
  }
  for (const stranger of layout.strangers) move(stranger.box);
  if (layout.cableY !== null) layout.cableY += dy;
  layout.cableX = layout.cableX.map((x) => x + dx);
  layout.width = Math.max(layout.width, width);
  layout.height = Math.max(layout.height, height);
}
