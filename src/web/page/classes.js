// @ts-check
// What kind of frame it is: its colour, its shape, and a label that fits an envelope.

import { t } from "./i18n.js";
import { frameWords } from "./told.js";

/** @typedef {"arp"|"icmp"|"tcp"|"udp"|"other"} Kind */

/** @type {Kind[]} */
export const KINDS = ["arp", "icmp", "tcp", "udp", "other"];

/**
 * The sign of each kind, around (0, 0) and 14 wide. Shapes differ as much as colours do.
 * @type {Record<Kind, string>}
 */
export const SHAPES = {
  arp: "M0-8 8 0 0 8-8 0Z",
  icmp: "M-7 0a7 7 0 1 1 14 0a7 7 0 1 1-14 0Z",
  tcp: "M-6.5-6.5h13v13h-13Z",
  udp: "M0-7.5 8 6.5H-8Z",
  other: "M-8 0-4-7H4L8 0 4 7H-4Z",
};

/**
 * @param {string} text a frame in words, as the daemon says it
 * @returns {Kind}
 */
export function kindOf(text) {
  if (text.startsWith("arp")) return "arp";
  if (text.startsWith("icmp6")) {
    // Neighbour discovery is to IPv6 what ARP is to IPv4.
    if (text.includes("neighbour")) return "arp";
    return text.includes("echo") ? "icmp" : "other";
  }
  if (text.startsWith("icmp")) return "icmp";
  if (text.startsWith("tcp")) return "tcp";
  if (text.startsWith("udp")) return "udp";
  return "other";
}

/**
 * A frame in two or three words.
 * @param {string} text
 */
export function labelOf(text) {
  let found = /^arp who-has (\S+)/.exec(text);
  if (found) return t("label.who_has", { ip: found[1] });
  found = /^arp (\S+) is-at (\S+)/.exec(text);
  if (found) return t("label.is_at", { ip: found[1], mac: found[2].slice(-5) });
  found = /neighbour solicitation, who has (\S+)/.exec(text);
  if (found) return t("label.who_has", { ip: found[1] });
  found = /neighbour advertisement, (\S+)/.exec(text);
  if (found) return t("label.is_here", { ip: found[1] });
  found = /^icmp6? \S+ > \S+ .+$/.exec(text);
  if (found) return frameWords(text).replace(/^\S+ \S+ > \S+ /, "");
  found = /^tcp \S+ > \S+ ([A-Z, ]+?)(?:, (\d+) bytes)?$/.exec(text);
  if (found) return found[2] && found[2] !== "0" ? `${found[1]} ${found[2]} B` : found[1];
  found = /^udp \S+?:(\d+) > \S+?:(\d+)(?:, (\d+) bytes)?/.exec(text);
  if (found) return `${found[1]} → ${found[2]}`;
  return text.replace(/^(tcp|udp) /, "");
}

/**
 * Source and destination address of a frame.
 * @param {string|undefined} hex
 */
export function macsOf(hex) {
  if (!hex || hex.length < 24) return null;
  const read = (/** @type {number} */ at) =>
    (hex.slice(at, at + 12).match(/../g) ?? []).join(":").toLowerCase();
  return { dst: read(0), src: read(12) };
}
