// @ts-check
// The picture of the topology: cards of ports, bridges with their FDB, VTEPs, the underlay.

import { fit, h, s, clean } from "./dom.js";
import { t } from "./i18n.js";
import { arrange, ROW } from "./layout.js";
import { keyOf } from "./model.js";
import { grouped, perSecond, points } from "./plot.js";

/** @typedef {import("./layout.js").Box} Box */
/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").NodeState} NodeState */
/** @typedef {{type: string, node: string, name: string, bridge?: string}} Choice what the reader picked */

const SANS = "system-ui, sans-serif";
const MONO = "ui-monospace, monospace";
const FONT = { name: `600 17px ${SANS}`, small: `14px ${SANS}`, mono: `14px ${MONO}` };

export class Picture {
  /**
   * @param {SVGSVGElement} svg
   * @param {Model} model
   * @param {(choice: Choice) => void} choose
   */
  constructor(svg, model, choose) {
    this.svg = svg;
    this.model = model;
    this.choose = choose;
    this.still = s("g", { class: "still" });
    this.moving = s("g", { class: "moving", "aria-hidden": "true" });
    svg.replaceChildren(this.still, this.moving);
    /** @type {Layout} */
    this.layout = arrange([], [], 100, 100);
    /** @type {Map<string, number>} when each row of an FDB was first seen here */
    this.rowOrder = new Map();
    this.drawn = "";
    /** @type {Choice|null} */
    this.chosen = null;
    new ResizeObserver(() => this.render(true)).observe(svg);
  }

  /** What the arrangement depends on. */
  shapes() {
    return [...this.model.nodes.values()].map((node) => ({
      name: node.name,
      vtep: Boolean(node.show?.vtep),
      bridges: (node.show?.bridges ?? []).map((/** @type {any} */ bridge) => ({
        name: bridge.name,
        vni: bridge.vni !== null && bridge.vni !== undefined,
        rows: node.fdb.filter((row) => row.bridge === bridge.name).length,
        ports: node.show.ports
          .filter((/** @type {any} */ port) => port.bridge === bridge.name)
          .map((/** @type {any} */ port) => port.name),
      })),
    }));
  }

  /**
   * Draws what has changed since the last time.
   * @param {boolean} [anyway]
   */
  render(anyway = false) {
    const { width, height } = this.svg.getBoundingClientRect();
    if (width < 50 || height < 50) return;
    const shapes = this.shapes();
    const signature = JSON.stringify([shapes, this.looks(), width, height]);
    if (!anyway && signature === this.drawn) return;
    this.drawn = signature;
    this.layout = arrange(shapes, this.model.strangers(), width, height);
    const { scale } = this.layout;
    this.svg.setAttribute("viewBox", `0 0 ${width / scale} ${height / scale}`);
    const focused = this.still.contains(document.activeElement)
      ? document.activeElement?.getAttribute("data-key")
      : null;
    this.still.replaceChildren(this.underlay(), ...this.layout.nodes.map((node) => this.node(node)));
    this.rates();
    this.mark();
    if (focused) this.element(focused)?.focus();
  }

  /** What changes the picture but not its arrangement. */
  looks() {
    return [...this.model.nodes.values()].map(({ show, fdb, fdbTotal, away, local }) => [
      away,
      fdbTotal > fdb.length && fdbTotal,
      local,
      show?.ports.map((/** @type {any} */ p) => [p.state, p.netns, p.ifname, p.addresses, p.flags]),
      show?.bridges.map((/** @type {any} */ b) => [b.mode, b.vni, b.effective_mtu]),
      show?.vtep?.state,
      show?.peers.map((/** @type {any} */ peer) => [peer.remote, peer.state]),
      fdb.map((row) => [row.mac, row.port, row.remote, row.state, row.vlan]),
    ]);
  }

  /** @param {string} key */
  element(key) {
    return /** @type {SVGElement|null} */ (
      this.still.querySelector(`[data-key="${CSS.escape(key)}"]`)
    );
  }

  /**
   * Something that can be picked.
   * @param {Choice} choice
   * @param {string} name for who does not see it
   * @param {string} looks its class
   * @param {...Node} children
   */
  button(choice, name, looks, ...children) {
    const pick = () => this.choose(choice);
    return s(
      "g",
      {
        class: `pick ${looks}`,
        role: "button",
        tabindex: "0",
        "aria-label": name,
        "data-key": keyOfChoice(choice),
        onclick: pick,
        onkeydown: (/** @type {KeyboardEvent} */ event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          event.stopPropagation();
          pick();
        },
      },
      s("title", { text: name }),
      ...children,
    );
  }

  /** @param {import("./layout.js").NodeBox} place */
  node(place) {
    const node = this.model.node(place.name);
    const { x, y, w, h: height } = place.box;
    const group = s("g", { class: node.away ? "node away" : "node" });
    group.append(s("rect", { class: "node-box", x, y, width: w, height, rx: 14 }));
    const title = place.title;
    const words = s("text", { class: "node-title", x: title.x + 2, y: title.y + 23 });
    words.append(
      s("tspan", { class: "node-name", text: fit(place.name, w / 2, FONT.name) }),
      s("tspan", { class: "quiet", dx: 10, text: node.away ? t("node.away") : "" }),
    );
    group.append(words);
    for (const bridge of place.bridges) group.append(this.bridge(node, place, bridge));
    if (place.bridges.length === 0) {
      const text = node.show ? t("node.empty") : t("node.waiting");
      group.append(s("text", { class: "quiet", x: x + w / 2, y: y + height / 2, "text-anchor": "middle", text }));
    }
    if (place.vtep) group.append(this.vtep(node, place.vtep));
    return group;
  }

  /**
   * @param {NodeState} node
   * @param {import("./layout.js").NodeBox} place
   * @param {import("./layout.js").BridgeBox} bridge
   */
  bridge(node, place, bridge) {
    const info = node.show.bridges.find((/** @type {any} */ one) => one.name === bridge.name);
    const { box, head, busY } = bridge;
    const group = s("g", { class: "bridge" });
    group.append(
      s("rect", { class: "bridge-box", x: box.x, y: box.y, width: box.w, height: box.h, rx: 10 }),
    );
    const xs = bridge.ports.map(({ plug }) => plug.x);
    if (bridge.tunnels) xs.push(bridge.tunnelX);
    xs.push(bridge.hub);
    const bus = `M${Math.min(...xs)} ${busY}H${Math.max(...xs)}`;
    group.append(s("path", { class: "bus", d: bus }));
    if (bridge.tunnels && place.vtep) {
      const end = place.flipped ? place.vtep.y + place.vtep.h : place.vtep.y;
      const d = `M${bridge.tunnelX} ${busY}V${end}`;
      group.append(s("path", { class: "wire tunnel", d, "data-rate": keyOf("tunnel", node.name, bridge.name) }));
    }
    for (const port of bridge.ports) {
      const info = node.show.ports.find((/** @type {any} */ one) => one.name === port.name);
      const d = `M${port.plug.x} ${port.plug.y}V${busY}`;
      const looks = info.state === "up" ? "wire" : "wire cut";
      group.append(s("path", { class: looks, d, "data-rate": keyOf("port", node.name, port.name) }));
    }
    for (const port of bridge.ports) group.append(this.port(node, port));
    const mode = info.mode === "switch" ? "" : ` · ${info.mode}`;
    const about = `${info.vni === null ? "" : `VNI ${info.vni} · `}MTU ${info.effective_mtu}${mode}`;
    const name = fit(bridge.name, head.w / 2, FONT.name);
    const text = s("text", { class: "bridge-title", x: head.x + 14, y: head.y + 22 });
    text.append(
      s("tspan", { class: "bridge-name", text: name }),
      s("tspan", { class: "quiet", dx: 10, text: about }),
    );
    const label = t("bridge.label", { name: clean(bridge.name), node: node.name, about });
    const hit = s("rect", { class: "hit", x: head.x + 4, y: head.y, width: head.w - (bridge.tunnels ? 66 : 8), height: 32, rx: 6 });
    const choice = { type: "bridge", node: node.name, name: bridge.name };
    group.append(this.button(choice, label, "bridge-head", hit, text));
    group.append(...this.table(node, bridge));
    return group;
  }

  /**
   * The rows of an FDB, in the order in which they came.
   * @param {NodeState} node
   * @param {import("./layout.js").BridgeBox} bridge
   */
  table(node, bridge) {
    const rows = node.fdb.filter((row) => row.bridge === bridge.name);
    const order = (/** @type {any} */ row) => {
      const key = keyOf(node.name, bridge.name, row.mac, String(row.vlan));
      const known = this.rowOrder.get(key);
      if (known !== undefined) return known;
      if (this.rowOrder.size > 20_000) this.rowOrder.clear();
      this.rowOrder.set(key, this.rowOrder.size);
      return this.rowOrder.size - 1;
    };
    const sorted = rows.map((row) => ({ row, at: order(row) })).sort((a, b) => a.at - b.at);
    const { table } = bridge;
    const columns = table.w > 620 ? 2 : 1;
    const slots = this.layout.rows * columns;
    const total = this.model.rowsOf(node, bridge.name, rows.length);
    const shown = total > slots ? sorted.slice(0, slots - 1) : sorted;
    const width = table.w / columns;
    const out = shown.map(({ row }, index) => {
      const x = table.x + Math.floor(index / this.layout.rows) * width;
      const y = table.y + (index % this.layout.rows) * ROW;
      return this.row(node, row, { x, y, w: width - 8, h: ROW - 2 });
    });
    if (total > 0 && rows.length === 0) {
      const text = t("fdb.many", { count: grouped(total) });
      out.push(s("text", { class: "quiet", x: table.x + 4, y: table.y + 17, text }));
    } else if (total > slots) {
      const x = table.x + (columns - 1) * width + 8;
      const y = table.y + (this.layout.rows - 1) * ROW + 17;
      const more = t("fdb.more", { count: total - shown.length });
      const choice = { type: "bridge", node: node.name, name: bridge.name };
      out.push(this.button(choice, more, "fdb-more", s("text", { class: "quiet", x, y, text: more })));
    }
    if (total === 0) {
      const text = t("fdb.empty");
      out.push(s("text", { class: "quiet", x: table.x + 4, y: table.y + 17, text }));
    }
    return out;
  }

  /**
   * @param {NodeState} node
   * @param {any} row
   * @param {Box} box
   */
  row(node, row, box) {
    const where = row.port ?? row.remote ?? "?";
    const name = t("fdb.row", { mac: row.mac, where: clean(where), state: t(`fdb.${row.state}`) });
    const { x, y } = box;
    const vlan = row.vlan ? ` @${row.vlan}` : "";
    const mark = row.state === "learned" ? "" : ` ${t(`fdb.${row.state}`)}`;
    const room = box.w - 186;
    return this.button(
      { type: "fdb", node: node.name, name: keyOf(row.mac, String(row.vlan)), bridge: row.bridge },
      name,
      `fdb-row ${row.state}`,
      s("rect", { class: "hit", x, y, width: box.w, height: box.h, rx: 5 }),
      s("text", { class: "mono", x: x + 6, y: y + 17, text: row.mac + vlan }),
      s("text", { class: "arrow", x: x + 158, y: y + 17, text: row.port ? "→" : "⇒" }),
      s("text", { class: "where", x: x + 182, y: y + 17, text: fit(where + mark, room, FONT.small) }),
    );
  }

  /**
   * @param {NodeState} node
   * @param {import("./layout.js").PortBox} port
   */
  port(node, port) {
    const info = node.show.ports.find((/** @type {any} */ one) => one.name === port.name);
    const { x, y, w, h: height } = port.box;
    const where = `${clean(netnsName(info.netns))} · ${clean(info.ifname)}`;
    const address = info.addresses[0]?.replace(/\/\d+$/, "") ?? info.mac;
    const more = info.addresses.length > 1 ? ` +${info.addresses.length - 1}` : "";
    const sign = /** @type {Record<string, string>} */ ({ up: "●", down: "▼", gone: "✕" })[info.state];
    const isolated = info.flags?.isolated ? " ⊘" : "";
    const label = t("port.label", {
      name: clean(port.name),
      node: node.name,
      where,
      address: info.addresses.join(" ") || info.mac,
      state: t(`state.${info.state}`),
    });
    return this.button(
      { type: "port", node: node.name, name: port.name },
      label,
      `port ${info.state} ${info.netns === null ? "host" : "pod"}`,
      s("rect", { class: "card", x, y, width: w, height, rx: 8 }),
      s("text", { class: "port-name", x: x + 12, y: y + 23, text: fit(port.name, w - 38, FONT.name) }),
      s("text", { class: `state ${info.state}`, x: x + w - 12, y: y + 22, "text-anchor": "end", text: sign + isolated }),
      s("text", { class: "quiet", x: x + 12, y: y + 42, text: fit(w < 130 ? netnsName(info.netns) : where, w - 20, FONT.small) }),
      s("text", { class: "mono", x: x + 12, y: y + 61, text: fit(address + more, w - 18, FONT.mono) }),
      s("path", { class: "spark", "data-spark": keyOf(node.name, port.name), transform: `translate(${x + 10} ${y + height - 16})`, "data-w": w - 20 }),
    );
  }

  /**
   * @param {NodeState} node
   * @param {Box} box
   */
  vtep(node, box) {
    const vtep = node.show.vtep;
    const label = t("vtep.label", { local: vtep.local, node: node.name, state: t(`state.${vtep.state}`) });
    const middle = box.x + box.w / 2;
    const port = vtep.port === 4789 ? "" : `:${vtep.port}`;
    return this.button(
      { type: "vtep", node: node.name, name: "vtep" },
      label,
      `vtep ${vtep.state}`,
      s("rect", { class: "vtep-box", x: box.x, y: box.y, width: box.w, height: box.h, rx: 10 }),
      s("text", { class: "vtep-name", x: middle, y: box.y + 19, "text-anchor": "middle", text: "VTEP" }),
      s("text", { class: "mono", x: middle, y: box.y + 37, "text-anchor": "middle", text: fit(vtep.local + port, box.w - 16, FONT.mono) }),
    );
  }

  /** The cable between the VTEPs, and those at it that are none of the nodes. */
  underlay() {
    const group = s("g", { class: "underlay" });
    const { cableY, cableX, nodes, strangers } = this.layout;
    if (cableY === null || cableX.length === 0) return group;
    const alone = cableX[1] - cableX[0] < 1;
    const from = cableX[0] - (alone ? 120 : 0);
    const to = cableX[1] + (alone ? 120 : 0);
    group.append(s("path", { class: "cable", d: `M${from} ${cableY}H${to}` }));
    for (const { vtep, flipped } of nodes) {
      if (!vtep) continue;
      const x = vtep.x + vtep.w / 2;
      group.append(s("path", { class: "cable", d: `M${x} ${flipped ? vtep.y : vtep.y + vtep.h}V${cableY}` }));
    }
    const text = t("underlay");
    group.append(s("text", { class: "quiet cable-name", x: (from + to) / 2, y: cableY + 58, "text-anchor": "middle", text }));
    for (const { name, box } of strangers) {
      const owner = [...this.model.nodes.values()].find((node) =>
        node.show?.peers.some((/** @type {any} */ peer) => peer.remote === name),
      );
      const label = t("peer.label", { remote: clean(name) });
      group.append(
        this.button(
          { type: "peer", node: owner?.name ?? "", name },
          label,
          "vtep stranger",
          s("rect", { class: "vtep-box", x: box.x, y: box.y, width: box.w, height: box.h, rx: 10 }),
          s("text", { class: "vtep-name", x: box.x + box.w / 2, y: box.y + 19, "text-anchor": "middle", text: t("peer.other") }),
          s("text", { class: "mono", x: box.x + box.w / 2, y: box.y + 37, "text-anchor": "middle", text: fit(name, box.w - 16, FONT.mono) }),
        ),
      );
    }
    return group;
  }

  /** Lines as thick as what goes over them, and the small plots in the cards. */
  rates() {
    for (const node of this.model.nodes.values()) {
      for (const [name, series] of node.ports) {
        const sample = series.samples.at(-1);
        const line = this.still.querySelector(`[data-rate="${CSS.escape(keyOf("port", node.name, name))}"]`);
        if (line && sample) thicken(line, sample.frames);
        const spark = this.still.querySelector(`[data-spark="${CSS.escape(keyOf(node.name, name))}"]`);
        if (!spark) continue;
        const values = series.samples.map(({ at, took, rx, tx }) => ({ at, took, value: rx + tx }));
        spark.setAttribute("d", points(values, 60, Number(spark.getAttribute("data-w")), 12));
      }
      /** @type {Map<string, number>} */
      const tunnels = new Map();
      for (const { last, samples } of node.peers.values()) {
        tunnels.set(last.bridge, (tunnels.get(last.bridge) ?? 0) + (samples.at(-1)?.frames ?? 0));
      }
      for (const [bridge, frames] of tunnels) {
        const line = this.still.querySelector(`[data-rate="${CSS.escape(keyOf("tunnel", node.name, bridge))}"]`);
        if (line) thicken(line, frames);
      }
    }
  }

  /** @param {Choice|null} choice */
  select(choice) {
    this.chosen = choice;
    this.mark();
  }

  mark() {
    for (const element of this.still.querySelectorAll(".chosen")) element.classList.remove("chosen");
    const { chosen } = this;
    if (chosen) this.element(keyOfChoice(chosen))?.classList.add("chosen");
  }

  /**
   * Lets a row of an FDB light up, as the one that decided or was learned.
   * @param {string} node
   * @param {string|null} bridge
   * @param {string} mac
   * @param {number} vlan
   */
  flash(node, bridge, mac, vlan = 0) {
    const row = this.element(keyOfChoice({ type: "fdb", node, bridge: bridge ?? "", name: keyOf(mac, String(vlan)) }));
    if (!row) return;
    row.classList.remove("lit");
    row.getBoundingClientRect();
    row.classList.add("lit");
  }
}

/**
 * Two bridges of a node may know the same address.
 * @param {Choice} choice
 */
function keyOfChoice({ type, node, name, bridge }) {
  return keyOf(type, node, name, ...(type === "fdb" ? [bridge ?? ""] : []));
}

/**
 * A namespace in a word or two.
 * @param {string|null} netns
 */
export function netnsName(netns) {
  if (netns === null) return t("port.host");
  // Held open by the daemon, and by nothing else.
  return /^\/proc\/(self|\d+)\/fd\//.test(netns) ? t("port.unnamed") : netns;
}

/**
 * @param {Element} line
 * @param {number} frames a second
 */
function thicken(line, frames) {
  const width = 3 + Math.min(11, Math.max(0, Math.log10(frames / 20)) * 3.2);
  /** @type {SVGElement} */ (line).style.strokeWidth = width.toFixed(1);
  line.classList.toggle("busy", frames > 200);
}

/**
 * A legend of one line for a rate.
 * @param {import("./model.js").Series|undefined} series
 */
export function rateText(series) {
  const sample = series?.samples.at(-1);
  return h("span", { class: "rate", text: sample ? perSecond(sample.rx + sample.tx) : "–" });
}
