// @ts-check
// The languages of the page: one dictionary each, and English where a word is missing.

import { EN } from "./words-en.js";
import { ZH } from "./words-zh.js";

/** @typedef {"en"|"zh"} Lang */

/** @type {Record<Lang, Record<string, string>>} */
const WORDS = { en: EN, zh: ZH };
const KEY = "tapswitch.lang";

/** @type {Lang} */
let current = "en";
/** @type {Set<() => void>} */
const listeners = new Set();

/** The language now. */
export function lang() {
  return current;
}

/**
 * A text of the page; `{name}` in it is replaced.
 * @param {string} key
 * @param {Record<string, string|number>} [values]
 */
export function t(key, values = {}) {
  const text = WORDS[current][key] ?? EN[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) =>
    name in values ? String(values[name]) : whole,
  );
}

/**
 * A text that not every key has.
 * @param {string} key
 * @param {string} otherwise
 */
export function tOr(key, otherwise) {
  return WORDS[current][key] ?? EN[key] ?? otherwise;
}

/** Writes the texts that the markup names: data-t for content, data-t-label for names. */
function translate() {
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.getAttribute("data-t") ?? "");
  }
  for (const element of document.querySelectorAll("[data-t-label]")) {
    const text = t(element.getAttribute("data-t-label") ?? "");
    element.setAttribute("aria-label", text);
    element.setAttribute("title", text);
  }
  for (const element of document.querySelectorAll("[data-t-placeholder]")) {
    element.setAttribute("placeholder", t(element.getAttribute("data-t-placeholder") ?? ""));
  }
}

/**
 * Calls back whenever the language has changed.
 * @param {() => void} listener
 */
export function onLanguage(listener) {
  listeners.add(listener);
}

/** @param {Lang} lang */
export function setLanguage(lang) {
  current = lang;
  remember(KEY, lang);
  translate();
  for (const listener of listeners) listener();
}

/** The language that was chosen last, else the browser's. */
export function startLanguage() {
  const asked = new URLSearchParams(location.search).get("lang") ?? recall(KEY);
  const wanted = asked ?? navigator.language;
  setLanguage(wanted.toLowerCase().startsWith("zh") ? "zh" : "en");
}

/**
 * What the reader chose stays in this browser, if it lets us.
 * @param {string} key
 * @param {string} value
 */
export function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // A private window: it holds until the page is closed.
  }
}

/** @param {string} key */
export function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
