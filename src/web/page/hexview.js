// @ts-check
// The bytes of a frame and the names of its fields; each shows where the other is.

import { clean, h } from "./dom.js";
import { t, tOr } from "./i18n.js";
import { roving } from "./log.js";
import { fieldName, meaning, problemWords } from "./told.js";

const PER_ROW = 16;

/** @typedef {{offset: number, len: number}} Range */

/**
 * @param {string} hex digits
 * @param {any} explained as `/api/explain` answers; null while it is on its way
 * @returns {HTMLElement}
 */
export function hexView(hex, explained) {
  const bytes = hex.match(/../g) ?? [];
  const layers = explained?.frames?.[0]?.layers ?? [];
  /** @type {any[]} */
  const remarks = explained?.frames?.[0]?.problems ?? [];
  const view = h("div", { class: "hexview" });
  /** @type {{range: Range, button: HTMLElement}[]} */
  const fields = [];
  const cells = bytes.map((text, at) => h("span", { class: "byte", "data-at": at, text }));

  const point = (/** @type {Range|null} */ range) => {
    cells.forEach((cell, at) => {
      const isIn = range !== null && at >= range.offset && at < range.offset + range.len;
      cell.classList.toggle("lit", isIn);
    });
    for (const field of fields) field.button.classList.toggle("lit", field.range === range);
  };
  const fieldAt = (/** @type {number} */ at) =>
    fields.find(({ range }) => at >= range.offset && at < range.offset + range.len);

  view.append(dump(cells, bytes, layers));
  cells.forEach((cell, at) => {
    cell.addEventListener("pointerenter", () => point(fieldAt(at)?.range ?? null));
    cell.addEventListener("click", () => fieldAt(at)?.button.focus());
  });
  view.addEventListener("pointerleave", () => point(null));

  const list = h("div", { class: "layers", role: "group", "aria-label": t("hex.fields") });
  for (const layer of layers) {
    const rows = layer.fields.map((/** @type {any} */ field) => {
      const range = { offset: field.offset, len: field.len };
      const problems = remarks.filter((one) => one.offset === field.offset && one.field === field.name);
      const button = fieldLine(field, problems.map(problemWords));
      button.addEventListener("pointerenter", () => point(range));
      button.addEventListener("focus", () => point(range));
      button.addEventListener("blur", () => point(null));
      fields.push({ range, button });
      return h("li", {}, button);
    });
    const name = tOr(`layer.${layer.protocol}`, layer.protocol);
    const depth = layer.tunnel > 0 ? t("hex.inner") : "";
    list.append(
      h("h4", { class: `layer-name layer-${tint(layer.protocol)}` }, clean(name), " ", h("small", { text: `${depth} ${t("hex.bytes", { count: layer.len })}` })),
      h("ul", { class: "fields" }, ...rows),
    );
  }
  if (fields.length > 0) fields[0].button.tabIndex = 0;
  roving(list, "button");
  view.append(list);
  return view;
}

/**
 * @param {any} field
 * @param {string[]} problems
 */
function fieldLine(field, problems) {
  const value = typeof field.value === "object" ? JSON.stringify(field.value) : field.value;
  return h(
    "button",
    { type: "button", class: problems.length > 0 ? "field odd" : "field", tabindex: "-1" },
    h("span", { class: "offset", text: field.offset }),
    h("span", { class: "name", text: clean(fieldName(field.name)) }),
    h("span", { class: "value", text: clean(value === "none" ? meaning(value) : value) }),
    h("span", { class: "meaning", text: clean(meaning(field.meaning)) }),
    ...problems.map((text) => h("span", { class: "problem", text: `! ${clean(text)}` })),
  );
}

/** @param {string} protocol */
function tint(protocol) {
  if (protocol === "ethernet" || protocol === "vlan") return "link";
  if (protocol === "vxlan") return "tunnel";
  if (protocol.startsWith("ip")) return "net";
  return "rest";
}

/**
 * @param {HTMLElement[]} cells
 * @param {string[]} bytes
 * @param {any[]} layers
 */
function dump(cells, bytes, layers) {
  const table = h("div", { class: "dump", role: "img", "aria-label": t("hex.dump", { count: bytes.length }) });
  cells.forEach((cell, at) => {
    const layer = layers.find((one) => at >= one.offset && at < one.offset + one.len);
    if (layer) cell.classList.add(`layer-${tint(layer.protocol)}`);
  });
  for (let at = 0; at < bytes.length; at += PER_ROW) {
    const row = cells.slice(at, at + PER_ROW);
    const offset = h("span", { class: "offset", text: at.toString(16).padStart(4, "0") });
    table.append(h("div", { class: "row" }, offset, ...row));
  }
  return table;
}
