// @ts-check
// Numbers over time, as lines; and numbers with their units.

import { s } from "./dom.js";
import { t } from "./i18n.js";

/** Seconds without a sample after which a line is broken. */
const GAP = 3;

/**
 * A line through values over time, the newest at the right; broken where nothing is known.
 * @param {{at: number, took: number, value: number}[]} values
 * @param {number} room seconds that fit
 * @param {number} width
 * @param {number} height
 * @param {number} [top] the largest value, if others share the scale
 */
export function points(values, room, width, height, top) {
  const end = values.at(-1)?.at ?? 0;
  const shown = values.filter(({ at }) => end - at < room);
  const most = top ?? Math.max(...shown.map(({ value }) => value), 1);
  return shown
    .map(({ at, took, value }, index) => {
      const x = width - ((end - at) / (room - 1)) * width;
      const y = height - (value / most) * height;
      return `${index === 0 || took > GAP ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    })
    .join("");
}

/**
 * @param {number} value
 * @param {string} unit
 */
function scaled(value, unit) {
  const prefixes = ["", "k", "M", "G", "T"];
  let at = 0;
  while (value >= 1000 && at < prefixes.length - 1) {
    value /= 1000;
    at += 1;
  }
  const digits = at > 0 && value < 10 ? 1 : 0;
  return `${value.toFixed(digits)} ${prefixes[at]}${unit}`;
}

/** @param {number} bytes a second */
export function perSecond(bytes) {
  return scaled(bytes * 8, "bit/s");
}

/** @param {number} frames a second */
export function framesPerSecond(frames) {
  return scaled(frames, t("unit.fps"));
}

/** @param {number} count */
export function bytes(count) {
  return scaled(count, "B");
}

/** @param {number} count */
export function grouped(count) {
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/**
 * Rates both ways over the last minutes.
 * @param {import("./model.js").Sample[]} samples
 * @param {string} name for who does not see it
 */
export function ratesPlot(samples, name) {
  const [width, height, room] = [440, 110, 120];
  const end = samples.at(-1)?.at ?? 0;
  const shown = samples.filter(({ at }) => end - at < room);
  const top = Math.max(...shown.flatMap(({ rx, tx }) => [rx, tx]), 125);
  const plot = s("svg", { class: "plot", viewBox: `0 0 ${width} ${height + 22}`, role: "img", "aria-label": name });
  for (const part of [0, 0.5, 1]) {
    const y = 4 + height - part * (height - 4);
    plot.append(s("path", { class: "grid", d: `M0 ${y}H${width}` }));
  }
  const line = (/** @type {"rx"|"tx"} */ way) =>
    s("path", {
      class: `line ${way}`,
      d: points(shown.map(({ at, took, ...rates }) => ({ at, took, value: rates[way] })), room, width, height - 4, top),
      transform: "translate(0 4)",
    });
  plot.append(
    line("rx"),
    line("tx"),
    s("text", { class: "quiet", x: 2, y: 18, text: perSecond(top) }),
    s("text", { class: "quiet", x: 2, y: height + 18, text: t("plot.ago") }),
    s("text", { class: "quiet", x: width - 2, y: height + 18, "text-anchor": "end", text: t("plot.now") }),
  );
  return plot;
}
