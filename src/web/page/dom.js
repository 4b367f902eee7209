// @ts-check
// Elements without markup: text from the network only ever becomes a text node or an attribute.

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node|string|number|null|undefined|false} Child */

/**
 * @param {Element} element
 * @param {Record<string, unknown>} props attributes; `on...` are listeners, `text` is the content.
 * @param {Child[]} children
 */
function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = String(value);
    else if (typeof value === "function") {
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/**
 * An HTML element.
 * @param {string} tag
 * @param {Record<string, unknown>} [props]
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, props, children);
  return element;
}

/**
 * An SVG element.
 * @param {string} tag
 * @param {Record<string, unknown>} [props]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function s(tag, props = {}, ...children) {
  const element = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
  fill(element, props, children);
  return element;
}

/**
 * The element of that id, which the page has.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Characters that would hide, turn round or break the text behind them. */
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/**
 * A name from outside as it may stand in a sentence.
 * @param {unknown} text
 */
export function clean(text) {
  return String(text ?? "").replace(UNSEEN, "\ufffd");
}

const ruler = document.createElement("canvas").getContext("2d");
/** @type {Map<string, number>} */
const widths = new Map();

/**
 * How wide a text is, in pixels.
 * @param {string} text
 * @param {string} font as in CSS
 */
function widthOf(text, font) {
  const key = `${font}\n${text}`;
  const known = widths.get(key);
  if (known !== undefined) return known;
  if (widths.size > 5000) widths.clear();
  let width = text.length * 8;
  if (ruler) {
    ruler.font = font;
    width = ruler.measureText(text).width;
  }
  widths.set(key, width);
  return width;
}

/**
 * As much of a text as there is room for.
 * @param {unknown} text
 * @param {number} room in pixels
 * @param {string} font
 */
export function fit(text, room, font) {
  const whole = clean(text);
  if (widthOf(whole, font) <= room) return whole;
  const letters = Array.from(whole);
  let [low, high] = [0, Math.min(letters.length, 200)];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const part = `${letters.slice(0, middle).join("")}…`;
    if (widthOf(part, font) <= room) low = middle;
    else high = middle - 1;
  }
  return `${letters.slice(0, low).join("")}…`;
}

/** Whether the reader asked for little movement. */
export const calm = matchMedia("(prefers-reduced-motion: reduce)");
