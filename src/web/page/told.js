// @ts-check
// What the daemon says of frames and their fields: as it says it, and in Chinese.

import { lang, tOr } from "./i18n.js";
import { FRAMES, MEANINGS, PATTERNS } from "./told-zh.js";

/** Words that are written in capitals. */
const CAPITALS = /\b(arphrd|dscp|ecn|ip|mac|mtu|sap|ttl|vlan|vni)\b/g;

/**
 * `text` by the first rule that knows it.
 * @param {[RegExp, string][]} rules
 * @param {string} text
 */
function ruled(rules, text) {
  const rule = rules.find(([pattern]) => pattern.test(text));
  return rule ? text.replace(rule[0], rule[1]) : text;
}

/**
 * A frame in one line: `arp who-has 192.0.2.2 tell 192.0.2.1`.
 * @param {string} text
 */
export function frameWords(text) {
  if (lang() !== "zh") return text;
  const tags = /^(vlan \d+, )+/.exec(text)?.[0] ?? "";
  const rest = text.slice(tags.length);
  return tags.replaceAll("vlan", "VLAN").replaceAll(", ", "，") + ruled(FRAMES, rest);
}

/**
 * The name of a field, by its key.
 * @param {string} key
 */
export function fieldName(key) {
  const plain = key.replaceAll("_", " ").replace(CAPITALS, (word) => word.toUpperCase());
  return tOr(`field.${key}`, plain);
}

/**
 * What the value of a field means.
 * @param {string} text
 */
export function meaning(text) {
  if (lang() !== "zh" || !text) return text;
  return MEANINGS[text] ?? ruled(PATTERNS, text);
}

/**
 * What is odd about a field. In Chinese its kind says it, and the number that the text has.
 * @param {{kind: string, text: string}} problem
 */
export function problemWords({ kind, text }) {
  const words = tOr(`problem.${kind}`, "");
  if (!words) return text;
  const number = /\b0x[0-9a-f]+\b/.exec(text)?.[0];
  return number ? `${words}（${number}）` : words;
}

/** A command in a remedy. */
const COMMAND = /^(?:tapswitch|ip|ethtool|dmesg)\b[^()]*/;

/**
 * What to do about a loss, by its reason. Commands stay, as they have names and numbers in them.
 * @param {string|null} reason
 * @param {string} text
 */
export function remedyWords(reason, text) {
  const words = tOr(`remedy.${reason}`, "");
  if (!words) return text;
  const commands = text.split(/[:;,] /).map((part) => COMMAND.exec(part)?.[0].trim());
  return [words, ...commands.filter(Boolean)].join("；");
}
