// @ts-check
// The list of frames, one line for each scene, and the filter above it.

import { KINDS, SHAPES } from "./classes.js";
import { byId, clean, h, s } from "./dom.js";
import { t, tOr } from "./i18n.js";
import { copiesOf, wordsOf } from "./scenes.js";
import { verdictText } from "./stage.js";
import { frameWords } from "./told.js";

/** @typedef {import("./scenes.js").Scene} Scene */
/** @typedef {import("./classes.js").Kind} Kind */

/** Scenes that are kept, and lines that are shown of them. */
const KEPT = 2000;
const LINES = 300;

/**
 * The sign of a kind, as it is on envelopes.
 * @param {Kind} kind
 */
export function sign(kind) {
  return s(
    "svg",
    { class: `sign ${kind}`, viewBox: "-10 -10 20 20", "aria-hidden": "true" },
    s("path", { d: SHAPES[kind] }),
  );
}

/** @param {number} time seconds since 1970 */
export function clock(time) {
  const date = new Date(time * 1000);
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  const micros = String(Math.floor((time % 1) * 1e6)).padStart(6, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${micros}`;
}

/**
 * A place by its name; a VTEP by that of its node, where that is known.
 * @param {import("./scenes.js").Place} place
 * @param {import("./model.js").Model} model
 */
function nameOf({ kind, name }, model) {
  if (kind === "self") return t("place.self");
  return clean((kind === "peer" && model.nodeAt(name)?.name) || name);
}

/**
 * A frame and what became of it, in one sentence.
 * @param {Scene} scene
 */
export function sentence(scene) {
  const from = scene.from.name || t("place.self");
  const where = { node: scene.node, from: clean(from), frame: clean(frameWords(scene.text)) };
  return `${t("frame.sentence", where)}: ${verdictText(scene) || t("verdict.unknown")}`;
}

/**
 * Moves through buttons with the arrow keys; one of them is a stop of the Tab key.
 * @param {HTMLElement} list
 * @param {string} selector
 */
export function roving(list, selector) {
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -1e6, End: 1e6 };
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    if (step === undefined) return;
    const all = /** @type {HTMLElement[]} */ ([...list.querySelectorAll(selector)]);
    const here = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = all[Math.max(0, Math.min(all.length - 1, Math.max(here, 0) + step))];
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    for (const one of all) one.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  list.addEventListener("focusin", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (!target.matches(selector)) return;
    for (const one of list.querySelectorAll(`${selector}[tabindex="0"]`)) {
      /** @type {HTMLElement} */ (one).tabIndex = -1;
    }
    target.tabIndex = 0;
  });
}

export class Log {
  /**
   * @param {import("./model.js").Model} model
   * @param {(scene: Scene) => void} choose
   */
  constructor(model, choose) {
    this.model = model;
    this.choose = choose;
    /** @type {Scene[]} */
    this.scenes = [];
    this.list = byId("log-list");
    this.count = byId("log-count");
    this.input = /** @type {HTMLInputElement} */ (byId("filter"));
    /** @type {Set<Kind>} */
    this.kinds = new Set(KINDS);
    this.onlyDrops = false;
    /** @type {number|null} */
    this.chosen = null;
    /** @type {number|null} the scene that is on its way */
    this.plays = null;
    this.input.addEventListener("input", () => this.render());
    roving(this.list, "button");
    this.chips();
  }

  /** The kinds of frames: a legend, and switches. */
  chips() {
    const group = byId("kinds");
    const chip = (/** @type {string} */ key, /** @type {Node|null} */ mark, /** @type {boolean} */ on) =>
      h("button", { type: "button", class: `chip ${key}`, "data-kind": key, "aria-pressed": String(on) }, mark, h("span", { "data-t": `kind.${key}`, text: t(`kind.${key}`) }));
    for (const kind of KINDS) {
      const button = chip(kind, sign(kind), true);
      button.addEventListener("click", () => {
        if (this.kinds.has(kind)) this.kinds.delete(kind);
        else this.kinds.add(kind);
        button.setAttribute("aria-pressed", String(this.kinds.has(kind)));
        this.render();
      });
      group.append(button);
    }
    const drops = chip("drops", null, false);
    drops.addEventListener("click", () => {
      this.onlyDrops = !this.onlyDrops;
      drops.setAttribute("aria-pressed", String(this.onlyDrops));
      this.render();
    });
    group.append(drops);
  }

  /**
   * Whether the filter lets it through, here and on the lines.
   * @param {Scene} scene
   */
  matches(scene) {
    if (!this.kinds.has(scene.kind)) return false;
    const isLost = scene.verdict === "dropped" || scene.copies.some((copy) => copy.reason);
    if (this.onlyDrops && !isLost) return false;
    const wanted = this.input.value.trim().toLowerCase();
    if (!wanted) return true;
    // As it is written here, and as the daemon says it.
    const words = `${wordsOf(scene)} ${frameWords(scene.text).toLowerCase()}`;
    return wanted.split(/\s+/).every((word) => words.includes(word));
  }

  /** @param {Scene[]} scenes */
  add(scenes) {
    const follows = this.isAtEnd();
    for (const scene of scenes) {
      let at = this.scenes.length;
      while (at > 0 && this.scenes[at - 1].time > scene.time) at -= 1;
      this.scenes.splice(at, 0, scene);
      if (this.matches(scene)) this.insert(scene);
    }
    if (this.scenes.length > KEPT) this.scenes.splice(0, this.scenes.length - KEPT);
    this.trim();
    this.stop();
    this.tell();
    if (follows) this.list.scrollTop = this.list.scrollHeight;
  }

  /** Where it belongs by its time: frames of several nodes come a little out of order. @param {Scene} scene */
  insert(scene) {
    let next = null;
    let before = this.list.lastElementChild;
    while (before && Number(before.getAttribute("data-time")) > scene.time) {
      next = before;
      before = before.previousElementSibling;
    }
    this.list.insertBefore(this.line(scene), next);
  }

  /** Old lines go; while somebody reads in the list, only the very old. */
  trim() {
    const isRead = this.list.contains(document.activeElement);
    while (this.list.childElementCount > (isRead ? KEPT : LINES)) {
      const first = this.list.firstElementChild;
      if (first?.contains(document.activeElement)) {
        first.nextElementSibling?.querySelector("button")?.focus({ preventScroll: true });
      }
      first?.remove();
    }
  }

  isAtEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.list;
    return scrollHeight - scrollTop - clientHeight < 40 && !this.list.contains(document.activeElement);
  }

  /** One line must be a stop of the Tab key. */
  stop() {
    if (this.list.querySelector('button[tabindex="0"]')) return;
    const last = this.list.querySelector("li:last-child button");
    if (last) /** @type {HTMLElement} */ (last).tabIndex = 0;
  }

  tell() {
    const shown = this.list.childElementCount;
    this.count.textContent = t("log.count", { shown, total: this.scenes.length });
    byId("log-empty").hidden = shown > 0;
  }

  render() {
    const follows = this.isAtEnd();
    const shown = this.scenes.filter((scene) => this.matches(scene)).slice(-LINES);
    const focused = this.list.contains(document.activeElement)
      ? document.activeElement?.getAttribute("data-scene")
      : null;
    this.list.replaceChildren(...shown.map((scene) => this.line(scene)));
    if (focused) /** @type {HTMLElement|null} */ (this.list.querySelector(`[data-scene="${focused}"]`))?.focus();
    this.mark(this.chosen);
    if (this.plays !== null) this.playing(this.plays, false);
    this.stop();
    this.tell();
    if (follows) this.list.scrollTop = this.list.scrollHeight;
  }

  /** @param {Scene} scene */
  line(scene) {
    const isLost = scene.verdict === "dropped" || scene.copies.some((copy) => copy.reason);
    const from = nameOf(scene.from, this.model);
    const to = scene.copies.map((copy) => nameOf(copy.to, this.model));
    const all = copiesOf(scene);
    const few = to.length > 3 ? t("log.places", { count: to.length }) : to.join(", ");
    const where = to.length < all ? `${few} (${to.length}/${all})` : few;
    const isUnknown = scene.verdict === "unknown" && scene.from.kind !== "self";
    const way = isLost ? "✕" : isUnknown ? "⋯" : all > 1 ? "⇉" : "→";
    const end = scene.verdict === "dropped" ? tOr(`drop.${scene.reason}`, scene.reason ?? "") : where;
    return h(
      "li",
      { "data-time": scene.time },
      h(
        "button",
        {
          type: "button",
          class: `line ${scene.kind}${isLost ? " lost" : ""}`,
          tabindex: "-1",
          "data-scene": scene.id,
          "aria-label": `${clock(scene.time)} ${sentence(scene)}`,
          onclick: () => this.choose(scene),
        },
        h("span", { class: "time", text: clock(scene.time) }),
        h("span", { class: "at", text: clean(scene.node) }),
        sign(scene.kind),
        h("span", { class: "from", text: from }),
        h("span", { class: "words", text: clean(frameWords(scene.text)) + (scene.count > 1 ? ` ×${scene.count}` : "") }),
        h("span", { class: "fate", text: `${way} ${clean(end)}` }),
        h("span", { class: "len", text: `${scene.len} B` }),
      ),
    );
  }

  /** @param {number|null} id */
  mark(id) {
    this.chosen = id;
    for (const line of this.list.querySelectorAll(".chosen")) line.classList.remove("chosen");
    if (id !== null) this.list.querySelector(`[data-scene="${id}"]`)?.classList.add("chosen");
  }

  /**
   * The line of the scene that is on its way now.
   * @param {number} id
   * @param {boolean} follow whether it shall be seen
   */
  playing(id, follow) {
    this.plays = id;
    for (const line of this.list.querySelectorAll(".playing")) line.classList.remove("playing");
    const line = this.list.querySelector(`[data-scene="${id}"]`);
    line?.classList.add("playing");
    if (follow && !this.list.contains(document.activeElement)) line?.scrollIntoView({ block: "nearest" });
  }

  /**
   * The scene of the same frame at the same place, if it was seen here with its bytes.
   * @param {Scene} scene
   */
  twin(scene) {
    return this.scenes.find(
      (one) =>
        one.node === scene.node &&
        Math.abs(one.time - scene.time) < 2e-6 &&
        one.text === scene.text &&
        one.from.name === scene.from.name,
    );
  }
}
