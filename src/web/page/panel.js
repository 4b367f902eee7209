// @ts-check
// The panel at the side: an overview, or what the reader picked.

import { frameView } from "./details.js";
import { byId, clean, h } from "./dom.js";
import { netnsName, rateText } from "./draw.js";
import { t } from "./i18n.js";
import { bridgeView, portView, rowView, vtepView } from "./views.js";

/** @typedef {import("./draw.js").Choice} Choice */
/** @typedef {import("./scenes.js").Scene} Scene */
/** @typedef {import("./details.js").View} View */

export class Panel {
  /**
   * @param {import("./views.js").Tools} tools
   * @param {(choice: Choice|null) => void} chosen
   */
  constructor(tools, chosen) {
    this.tools = tools;
    this.chosen = chosen;
    /** @type {(() => View)|null} how what is shown is made, for another language */
    this.make = null;
    /** @type {View|null} */
    this.view = null;
    this.title = byId("panel-title");
    this.body = byId("panel-body");
    this.back = byId("panel-back");
    this.drawn = "";
    /** @type {string|null} the key of what had the focus before */
    this.origin = null;
    this.back.addEventListener("click", () => this.close());
  }

  /** @param {Choice} choice */
  open(choice) {
    const views = { port: portView, bridge: bridgeView, vtep: vtepView, peer: vtepView, fdb: rowView };
    const view = views[/** @type {keyof typeof views} */ (choice.type)];
    this.show(() => view(choice, this.tools), choice);
  }

  /** @param {Scene} scene */
  openFrame(scene) {
    this.show(() => frameView(scene, this.tools.live), null);
  }

  /**
   * @param {() => View} make
   * @param {Choice|null} choice
   */
  show(make, choice) {
    if (!byId("panel").contains(document.activeElement)) {
      this.origin = document.activeElement?.getAttribute("data-key") ?? null;
      this.from = document.activeElement;
    }
    this.make = make;
    this.chosen(choice);
    document.body.classList.remove("no-panel");
    this.draw();
    this.body.scrollTop = 0;
    this.title.focus();
  }

  close() {
    if (!this.make) return;
    // Who is elsewhere stays there.
    const { activeElement } = document;
    const isHere = activeElement === document.body || byId("panel").contains(activeElement);
    this.make = null;
    this.chosen(null);
    this.draw();
    if (!isHere) return;
    // A picture that was drawn anew has another element of the same key.
    const again = this.origin ? document.querySelector(`[data-key="${CSS.escape(this.origin)}"]`) : this.from;
    if (again?.isConnected) /** @type {HTMLElement} */ (again).focus();
  }

  /** Draws all of it: another choice, or another language. */
  draw() {
    this.view = this.make ? this.make() : null;
    this.drawn = "";
    this.back.hidden = !this.make;
    this.title.textContent = this.view?.title ?? t("overview.title");
    if (this.view) this.body.replaceChildren(this.view.element);
    else this.overview();
  }

  /** New counters or another state. */
  update() {
    if (this.view) this.view.update?.();
    else this.overview();
  }

  /** The topology as a list: for all who want it in words. */
  overview() {
    const { model, choose } = this.tools;
    const nodes = [...model.nodes.values()];
    const signature = JSON.stringify(
      nodes.map(({ name, away, show, local }) => [
        name,
        away,
        local,
        show?.bridges.map((/** @type {any} */ bridge) => bridge.name),
        show?.ports.map((/** @type {any} */ p) => [p.name, p.bridge, p.state, p.netns, p.addresses]),
      ]),
    );
    if (signature === this.drawn) {
      for (const place of this.body.querySelectorAll("[data-node]")) {
        const node = model.nodes.get(place.getAttribute("data-node") ?? "");
        place.replaceChildren(rateText(node?.ports.get(place.getAttribute("data-port") ?? "")));
      }
      return;
    }
    this.drawn = signature;
    const key = document.activeElement?.getAttribute("data-list-key");
    this.body.replaceChildren(
      h("p", { class: "quiet", text: t("overview.hint") }),
      ...nodes.map((node) => this.nodeList(node, choose)),
    );
    if (nodes.length === 0) this.body.append(h("p", { text: t("node.waiting") }));
    if (key) {
      const again = this.body.querySelector(`[data-list-key="${CSS.escape(key)}"]`);
      if (again) /** @type {HTMLElement} */ (again).focus();
    }
  }

  /**
   * @param {import("./model.js").NodeState} node
   * @param {(choice: Choice) => void} choose
   */
  nodeList(node, choose) {
    const bridges = (node.show?.bridges ?? []).map((/** @type {any} */ bridge) => {
      const ports = node.show.ports.filter((/** @type {any} */ port) => port.bridge === bridge.name);
      const lines = ports.map((/** @type {any} */ port) =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: "port-line",
              "data-list-key": `${node.name} ${port.name}`,
              onclick: () => choose({ type: "port", node: node.name, name: port.name }),
            },
            h("b", { text: clean(port.name) }),
            h("span", { class: "quiet where", text: clean(netnsName(port.netns)) }),
            h("span", { class: "quiet mono", text: clean(port.addresses[0] ?? port.mac) }),
            port.state === "up" ? null : h("span", { class: "problem", text: t(`state.${port.state}`) }),
            h("span", { "data-node": node.name, "data-port": port.name }, rateText(node.ports.get(port.name))),
          ),
        ),
      );
      const open = () => choose({ type: "bridge", node: node.name, name: bridge.name });
      return h(
        "li",
        {},
        h("button", { type: "button", class: "link", text: t("bridge.short", { name: clean(bridge.name), count: ports.length }), onclick: open }),
        h("ul", { class: "plain" }, ...lines),
      );
    });
    const vtep = node.show?.vtep
      ? h("li", {}, h("button", { type: "button", class: "link", text: `VTEP ${clean(node.show.vtep.local)}`, onclick: () => choose({ type: "vtep", node: node.name, name: "vtep" }) }))
      : null;
    const away = node.away ? h("p", { class: "problem", text: `${t("node.away")}: ${clean(node.away)}` }) : null;
    return h("section", { class: "node-list" }, h("h3", { text: clean(node.name) }), away, h("ul", { class: "plain" }, ...bridges, vtep));
  }
}
