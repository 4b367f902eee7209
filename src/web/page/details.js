// @ts-check
// A frame in the panel: what became of it, step by step, and its bytes.

import { clean, h } from "./dom.js";
import { hexView } from "./hexview.js";
import { t, tOr } from "./i18n.js";
import { clock, sign } from "./log.js";
import { phrase } from "./phrases.js";
import { verdictText } from "./stage.js";
import { frameWords, meaning, remedyWords } from "./told.js";

/** @typedef {import("./scenes.js").Scene} Scene */
/** @typedef {import("./live.js").Frame} Frame */
/** @typedef {import("./live.js").Live} Live */
/** @typedef {{title: string, element: HTMLElement, update?: () => void}} View */

const NO_ADDRESSES = "0".repeat(24);

/**
 * @param {Scene} scene
 * @param {Live} live
 * @returns {View}
 */
export function frameView(scene, live) {
  const from = scene.from.name || t("place.self");
  const element = h(
    "div",
    { class: "frame-view" },
    h("p", { class: "frame-words" }, sign(scene.kind), h("span", { text: clean(frameWords(scene.text)) })),
    h("p", { class: `frame-verdict${scene.verdict === "dropped" ? " lost" : ""}`, text: verdictText(scene) || t("verdict.unknown") }),
    pairs([
      [t("frame.time"), clock(scene.time)],
      [t("frame.node"), scene.node],
      [t("frame.from"), from],
      [t("frame.to"), scene.copies.map(copyWords).join(", ") || "–"],
      [t("frame.length"), t("hex.bytes", { count: scene.len })],
      [t("frame.offload"), offloadWords(scene.record?.offload)],
      [t("frame.count"), scene.count > 1 ? String(scene.count) : ""],
    ]),
  );
  const steps = stepsOf(scene);
  if (steps.length > 0) {
    element.append(
      h("h3", { text: t("frame.steps") }),
      h("ol", { class: "steps" }, ...steps.map(({ step, text }) => h("li", {}, step && h("b", { text: `${step} ` }), clean(phrase(text))))),
    );
  }
  element.append(...bytesOf(scene, live));
  return { title: t("frame.title"), element };
}

/** @param {import("./scenes.js").Copy} copy */
function copyWords(copy) {
  const name = clean(copy.to.name);
  return copy.reason ? `${name} (✕ ${tOr(`drop.${copy.reason}`, copy.reason)})` : name;
}

/** @param {string|null|undefined} offload as `checksum`, or `tcp4, segments of 1448 bytes` */
function offloadWords(offload) {
  return offload ? phrase(meaning(offload)) : "";
}

/**
 * What was looked at and decided, as the daemon says it; else as far as the records tell.
 * @param {Scene} scene
 * @returns {{step: string, text: string}[]}
 */
function stepsOf(scene) {
  const told = scene.record?.steps ?? [];
  if (told.length > 0) {
    return told.map((step) =>
      typeof step === "string" ? { step: "", text: step } : { step: tOr(`step.${step.step}`, step.step), text: step.text },
    );
  }
  const { why } = scene;
  if (why) {
    const reason = why.reason && why.why ? `${why.reason}: ${why.why}` : why.why;
    const texts = [why.learned, reason, why.remedy && `${t("frame.remedy")}: ${remedyWords(why.reason, why.remedy)}`];
    return texts.filter(Boolean).map((text) => ({ step: "", text }));
  }
  return scene.record?.comment ? scene.record.comment.split("; ").map((text) => ({ step: "", text })) : [];
}

/**
 * The bytes of the frame, and of the datagrams that it came or left in.
 * @param {Scene} scene
 * @param {Live} live
 */
function bytesOf(scene, live) {
  /** @type {[string, Frame][]} */
  const forms = [];
  const add = (/** @type {string} */ name, /** @type {Frame|null|undefined} */ record) => {
    if (record?.hex) forms.push([name, record]);
  };
  add(t("hex.frame"), scene.record ?? scene.copies.find((copy) => copy.record)?.record);
  add(t("hex.came_in"), scene.outer);
  for (const copy of scene.copies) add(t("hex.left_in", { to: clean(copy.to.name) }), copy.outer);
  const title = h("h3", { text: t("hex.title") });
  if (forms.length === 0) return [title, h("p", { class: "quiet", text: t("hex.none") })];
  const place = h("div", { class: "bytes" });
  const show = async (/** @type {number} */ at) => {
    tabs.forEach((tab, index) => tab.setAttribute("aria-pressed", String(index === at)));
    const record = forms[at][1];
    const cut = record.len - (record.hex ?? "").length / 2;
    // A datagram is captured at the socket: it has no Ethernet header yet, and zeros stand there.
    const isBare = record.form === "datagram" && record.hex?.startsWith(NO_ADDRESSES);
    const hex = (record.hex ?? "").slice(isBare ? 28 : 0);
    place.replaceChildren(hexView(hex, null));
    const query = { hex, start: isBare ? "ip" : "ethernet", missing: Math.max(0, cut) };
    try {
      place.replaceChildren(hexView(hex, await live.get("/api/explain", query)));
    } catch (error) {
      place.append(h("p", { class: "problem", text: /** @type {Error} */ (error).message }));
    }
    if (cut > 0) place.append(h("p", { class: "quiet", text: t("hex.cut", { count: cut }) }));
  };
  const tabs = forms.map(([name], at) =>
    h("button", { type: "button", class: "tab", "aria-pressed": "false", text: name, onclick: () => show(at) }),
  );
  show(0);
  return [title, forms.length > 1 ? h("div", { class: "tabs", role: "group", "aria-label": t("hex.title") }, ...tabs) : "", place];
}

/**
 * Names and what they stand for.
 * @param {[string, string|Node][]} rows those without content are left out
 */
export function pairs(rows) {
  const list = h("dl", { class: "pairs" });
  for (const [name, value] of rows) {
    if (value === "") continue;
    list.append(h("dt", { text: name }), h("dd", {}, typeof value === "string" ? clean(value) : value));
  }
  return list;
}
