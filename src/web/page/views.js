// @ts-check
// Ports, bridges, VTEPs and rows of an FDB in the panel.

import { pairs } from "./details.js";
import { clean, h } from "./dom.js";
import { t, tOr } from "./i18n.js";
import { clock } from "./log.js";
import { keyOf, totals } from "./model.js";
import { phrase } from "./phrases.js";
import { bytes, framesPerSecond, grouped, perSecond, ratesPlot } from "./plot.js";
import { frameWords } from "./told.js";

/** @typedef {import("./details.js").View} View */
/** @typedef {import("./draw.js").Choice} Choice */
/** @typedef {import("./model.js").Model} Model */
/**
 * @typedef {object} Tools
 * @property {Model} model
 * @property {import("./live.js").Live} live
 * @property {(choice: Choice) => void} choose
 * @property {(node: string, request: object) => Promise<boolean>} change asks for the token if need be
 */

/** Rows of an FDB that are listed at once. */
const ROWS = 200;

/**
 * @param {string} text
 * @param {() => void} act
 */
function action(text, act) {
  return h("button", { type: "button", class: "action", text, onclick: act });
}

/**
 * @param {Tools} tools
 * @param {...Node} buttons
 */
function actions(tools, ...buttons) {
  if (!tools.model.changeable) return null;
  return h("div", { class: "actions", role: "group", "aria-label": t("actions") }, ...buttons);
}

/** @param {Record<string, number>|undefined} drops */
function dropTable(drops) {
  const rows = Object.entries(drops ?? {}).filter(([, count]) => count > 0);
  if (rows.length === 0) return h("p", { class: "quiet", text: t("drops.none") });
  const lines = rows
    .sort(([, a], [, b]) => b - a)
    .map(([reason, count]) =>
      h("tr", {}, h("th", { scope: "row" }, tOr(`drop.${reason}`, reason), " ", h("code", { text: reason })), h("td", { text: grouped(count) })),
    );
  return h("table", { class: "numbers" }, h("tbody", {}, ...lines));
}

/**
 * @param {any} entry
 * @param {import("./model.js").Series|undefined} series
 * @param {string} name
 */
function traffic(entry, series, name) {
  const sample = series?.samples.at(-1);
  const line = (/** @type {"rx"|"tx"} */ way) => {
    const { frames, bytes: count } = totals(series?.last ?? entry, way);
    return h(
      "tr",
      { class: way },
      h("th", { scope: "row", text: t(`way.${way}`) }),
      h("td", { text: grouped(frames) }),
      h("td", { text: bytes(count) }),
      h("td", { text: sample ? perSecond(sample[way]) : "–" }),
    );
  };
  const head = ["", t("count.frames"), t("count.bytes"), t("count.rate")];
  return h(
    "div",
    {},
    h(
      "table",
      { class: "numbers" },
      h("thead", {}, h("tr", {}, ...head.map((text) => h(text ? "th" : "td", text ? { scope: "col", text } : {})))),
      h("tbody", {}, line("rx"), line("tx")),
    ),
    ratesPlot(series?.samples ?? [], t("plot.name", { name })),
    h("p", { class: "quiet", text: sample ? framesPerSecond(sample.frames) : "" }),
  );
}

/**
 * @param {Choice} choice
 * @param {Tools} tools
 * @returns {View}
 */
export function portView({ node, name }, tools) {
  const { model, change } = tools;
  const live = h("div", { class: "live-part" });
  const buttons = h("div", {});
  const update = () => {
    const port = model.port(node, name);
    if (!port) {
      live.replaceChildren(h("p", { class: "problem", text: t("port.missing") }));
      return;
    }
    const series = model.nodes.get(node)?.ports.get(name);
    const flags = Object.entries(port.flags ?? {}).map(([flag, on]) =>
      h("span", { class: on ? "flag on" : "flag", text: `${on ? "✓" : "–"} ${tOr(`flag.${flag}`, flag.replaceAll("_", "-"))}` }),
    );
    live.replaceChildren(
      pairs([
        [t("port.state"), t(`state.${port.state}`) + (port.reason ? `: ${port.reason}` : "")],
        [t("port.netns"), port.netns ?? t("port.host_long")],
        [t("port.ifname"), port.ifname],
        [t("port.mac"), port.mac],
        [t("port.addresses"), port.addresses.join(", ") || "–"],
        [t("port.mtu"), String(port.mtu)],
        [t("port.bridge"), `${port.bridge}, ${node}`],
        [t("port.offloads"), port.offloads],
        [t("port.flags"), h("span", { class: "flags" }, ...flags)],
      ]),
      h("h3", { text: t("count.title") }),
      traffic(port, series, name),
      h("h3", { text: t("drops.title") }),
      dropTable(series?.last.drops ?? port.drops),
    );
    const isUp = port.flags?.up !== false;
    const isIsolated = port.flags?.isolated === true;
    const set = (/** @type {object} */ what) => () => change(node, { op: "port-set", name, ...what });
    const state = `${isUp} ${isIsolated} ${model.changeable}`;
    if (buttons.getAttribute("data-state") === state) return;
    buttons.setAttribute("data-state", state);
    const row = actions(
      tools,
      action(t(isUp ? "port.down" : "port.up"), set({ up: !isUp })),
      action(t(isIsolated ? "port.join" : "port.isolate"), set({ isolated: !isIsolated })),
    );
    buttons.replaceChildren(...(row ? [row] : []));
  };
  update();
  return { title: t("port.title", { name: clean(name) }), element: h("div", {}, buttons, live), update };
}

/**
 * @param {Choice} choice
 * @param {Tools} tools
 * @returns {View}
 */
export function bridgeView({ node, name }, tools) {
  const { model, change, choose } = tools;
  const live = h("div", { class: "live-part" });
  const rows = h("div", { class: "fdb-list" });
  const filter = /** @type {HTMLInputElement} */ (
    h("input", { type: "search", class: "fdb-filter", "aria-label": t("fdb.filter"), placeholder: t("fdb.filter") })
  );
  let listed = "";
  const list = () => {
    const all = (model.nodes.get(node)?.fdb ?? []).filter((row) => row.bridge === name);
    const wanted = filter.value.trim().toLowerCase();
    const found = all.filter((row) => `${row.mac} ${row.port ?? row.remote} ${row.state}`.toLowerCase().includes(wanted));
    const signature = JSON.stringify([wanted, model.nodes.get(node)?.fdbTotal, found.map((row) => [row.mac, row.vlan, row.port, row.remote, row.state])]);
    if (signature === listed) return;
    listed = signature;
    const state = model.nodes.get(node);
    const total = state ? model.rowsOf(state, name, all.length) : 0;
    const lines = found.slice(0, ROWS).map((row) => {
      const choice = { type: "fdb", node, name: keyOf(row.mac, String(row.vlan)), bridge: name };
      const where = clean(row.port ?? row.remote ?? "?");
      return h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "fdb-line", onclick: () => choose(choice) },
          h("code", { text: row.mac + (row.vlan ? ` @${row.vlan}` : "") }),
          h("span", { text: ` ${row.port ? "→" : "⇒"} ${where}` }),
          h("span", { class: "quiet", text: ` ${t(`fdb.${row.state}`)}` }),
        ),
      );
    });
    const isUntold = total > 0 && all.length === 0;
    const count = isUntold ? t("fdb.many", { count: grouped(total) }) : t("fdb.count", { shown: lines.length, total });
    rows.replaceChildren(
      h("p", { class: "quiet", text: count }),
      isUntold ? h("p", { class: "quiet" }, h("code", { text: t("fdb.many_hint", { name: clean(name) }) })) : "",
      h("ul", { class: "plain" }, ...lines),
    );
  };
  filter.addEventListener("input", list);
  const buttons = h("div", {});
  const update = () => {
    const bridge = model.nodes.get(node)?.show?.bridges.find((/** @type {any} */ one) => one.name === name);
    if (!bridge) {
      live.replaceChildren(h("p", { class: "problem", text: t("bridge.missing") }));
      return;
    }
    const chain = bridge.mtu_chain;
    const less = chain?.less.map((/** @type {[string, number]} */ [layer, count]) => `− ${count} (${tOr(`chain.${layer}`, layer)})`).join(" ");
    live.replaceChildren(
      pairs([
        [t("bridge.mode"), tOr(`mode.${bridge.mode}`, bridge.mode)],
        ["VNI", bridge.vni === null ? t("bridge.no_vni") : String(bridge.vni)],
        ["MTU", chain ? `${chain.mtu} = ${chain.path_mtu} ${less}` : String(bridge.effective_mtu)],
        [t("bridge.ageing"), `${bridge.ageing} s`],
        ["FDB", `${bridge.fdb_entries} / ${bridge.fdb_limit}`],
      ]),
    );
    list();
    const state = `${bridge.mode} ${model.changeable}`;
    if (buttons.getAttribute("data-state") === state) return;
    buttons.setAttribute("data-state", state);
    const modes = ["switch", "hub"].filter((mode) => mode !== bridge.mode);
    const row = actions(
      tools,
      action(t("fdb.flush"), () => change(node, { op: "fdb-flush", bridge: name })),
      ...modes.map((mode) => action(t("bridge.become", { mode: tOr(`mode.${mode}`, mode) }), () => change(node, { op: "bridge-set", name, mode }))),
    );
    buttons.replaceChildren(...(row ? [row] : []));
  };
  update();
  const element = h("div", {}, buttons, live, h("h3", { text: t("fdb.title") }), filter, rows);
  return { title: t("bridge.title", { name: clean(name), node: clean(node) }), element, update };
}

/**
 * @param {Choice} choice
 * @param {Tools} tools
 * @returns {View}
 */
export function vtepView({ node, type, name }, tools) {
  const { model } = tools;
  const live = h("div", { class: "live-part" });
  const update = () => {
    const state = model.nodes.get(node);
    const vtep = state?.show?.vtep;
    if (!state || !vtep) return;
    const peers = state.show.peers.filter((/** @type {any} */ peer) => type === "vtep" || peer.remote === name);
    const parts = peers.flatMap((/** @type {any} */ peer) => {
      const series = state.peers.get(keyOf(peer.bridge, peer.remote));
      const owner = model.nodeAt(peer.remote)?.name;
      return [
        h("h3", { text: t("peer.title", { remote: peer.remote }) + (owner ? ` · ${owner}` : "") }),
        pairs([
          [t("peer.state"), tOr(`state.${peer.state}`, peer.state) + (peer.reason ? `: ${peer.reason}` : "")],
          [t("peer.kind"), tOr(`peer.${peer.kind}`, peer.kind)],
          ["VNI", `${peer.vni} (${peer.bridge})`],
          [t("peer.path"), `${peer.path_mtu} → ${peer.mtu}`],
          [t("peer.rows"), String(peer.fdb_entries)],
          ...(peer.reserved_bits_ignored ? [[t("peer.reserved"), String(peer.reserved_bits_ignored)]] : []),
        ]),
        traffic(peer, series, peer.remote),
        dropTable(series?.last.drops ?? peer.drops),
      ];
    });
    live.replaceChildren(
      pairs([
        [t("vtep.local"), `${vtep.local}, UDP ${vtep.port}`],
        [t("port.state"), t(`state.${vtep.state}`) + (vtep.reason ? `: ${vtep.reason}` : "")],
        [t("port.netns"), vtep.netns ?? t("port.host_long")],
        [t("vtep.accept"), tOr(`accept.${vtep.accept}`, vtep.accept)],
        [t("port.offloads"), vtep.offloads],
      ]),
      h("p", { class: "lesson", text: t("vtep.lesson") }),
      ...parts,
      h("h3", { text: t("vtep.others") }),
      dropTable(vtep.drops),
    );
  };
  update();
  const title = type === "peer" ? t("peer.title", { remote: clean(name) }) : t("vtep.title", { node: clean(node) });
  return { title, element: live, update };
}

/**
 * @param {Choice} choice
 * @param {Tools} tools
 * @returns {View}
 */
export function rowView({ node, name, bridge }, tools) {
  const { model, live, change } = tools;
  const [mac, vlan] = name.split("\u0001");
  const facts = h("div", {});
  const story = h("div", { class: "story" }, h("p", { class: "quiet", text: t("asking") }));
  const update = () => {
    const row = model.nodes.get(node)?.fdb.find((one) => one.mac === mac && String(one.vlan) === vlan && one.bridge === bridge);
    if (!row) {
      facts.replaceChildren(h("p", { class: "problem", text: t("fdb.missing") }));
      return;
    }
    facts.replaceChildren(
      pairs([
        [t("fdb.behind"), row.port ?? t("fdb.behind_vtep", { remote: row.remote ?? "?" })],
        [t("fdb.state"), t(`fdb.${row.state}`)],
        [t("fdb.moves"), row.moves > 0 ? String(row.moves) : ""],
        [t("port.bridge"), `${row.bridge}, ${node}`],
      ]),
    );
  };
  update();
  const query = { mac, vlan, ...(bridge ? { bridge } : {}) };
  live.ask(node, "fdb/why", query).then(
    (stories) => story.replaceChildren(...stories.flatMap(tellStory)),
    (error) => story.replaceChildren(h("p", { class: "problem", text: error.message })),
  );
  const forget = action(t("fdb.forget"), () => change(node, { op: "fdb-flush", bridge, mac, vlan: Number(vlan) }));
  const element = h("div", {}, actions(tools, forget), facts, h("h3", { text: t("fdb.who") }), story);
  return { title: t("fdb.row_title", { mac }), element, update };
}

/** @param {any} story as `fdb why` tells it */
function tellStory(story) {
  const changes = story.changes.map((/** @type {any} */ change) => {
    const where = change.port ?? change.remote;
    const before = change.old_port ?? change.old_remote;
    const words = [
      tOr(`change.${change.change}`, change.change),
      where ? t("change.at", { where: clean(where) }) : "",
      before ? t("change.before", { where: clean(before) }) : "",
      change.count > 1 ? `×${change.count}` : "",
    ];
    return h(
      "li",
      {},
      h("span", { class: "time", text: clock(change.time) }),
      " ",
      h("b", { text: words.filter(Boolean).join(" ") }),
      change.frame && h("div", { class: "taught", text: t("change.frame", { frame: clean(frameWords(change.frame)) }) }),
      change.cause && h("div", { class: "taught", text: t("change.cause", { cause: clean(change.cause) }) }),
    );
  });
  const { forgotten, hint } = story;
  return [
    h("ol", { class: "changes" }, ...changes),
    forgotten > 0 ? h("p", { class: "quiet", text: t("change.forgotten", { count: forgotten }) }) : "",
    hint ? h("p", { class: "quiet", text: clean(phrase(hint)) }) : "",
  ];
}
