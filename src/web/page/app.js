// @ts-check
// The page put together: stream to model, picture, log and panel; keys and buttons to the player.

import { byId, clean, h } from "./dom.js";
import { Picture } from "./draw.js";
import { lang, onLanguage, recall, remember, setLanguage, startLanguage, t } from "./i18n.js";
import { Live, Refused } from "./live.js";
import { Log, sentence } from "./log.js";
import { macsOf } from "./classes.js";
import { Model } from "./model.js";
import { Panel } from "./panel.js";
import { Player, SPEEDS } from "./player.js";
import { grouped } from "./plot.js";
import { Grouper, sceneOfEntry } from "./scenes.js";
import { Stage } from "./stage.js";

/** @typedef {import("./scenes.js").Scene} Scene */
/** @typedef {import("./draw.js").Choice} Choice */

/** A sentence for the ear at most this often, in milliseconds. */
const NARRATE = 4000;

const model = new Model();
const live = new Live();
const log = new Log(model, openFrame);
const picture = new Picture(/** @type {any} */ (byId("picture")), model, open);
const stage = new Stage(picture, openFrame, decided);
const player = new Player(stage, tellPlayer);
const panel = new Panel({ model, live, choose: open, change }, (choice) => {
  picture.select(choice);
  log.mark(null);
});

/** @param {Choice} choice */
function open(choice) {
  panel.open(choice);
}

/** @param {Scene} scene */
function openFrame(scene) {
  // The flight recorder keeps no bytes, but this page may have seen them.
  const twin = scene.record ? null : log.twin(scene);
  panel.openFrame(twin ?? scene);
  log.mark((twin ?? scene).id);
}

// --- what the server tells ------------------------------------------------------------------

/** @type {Map<string, Grouper>} */
const groupers = new Map();
let connected = false;
/** The page was not visible for a while, and let go of the stream. */
let asleep = false;
/** Events for which this browser was too slow. */
let missed = 0;

live.on("open", () => {
  connected = true;
  asleep = false;
  tellStatus();
});
live.on("lost", () => {
  connected = false;
  tellStatus();
});
live.on("asleep", () => {
  asleep = true;
  tellStatus();
});
live.on("missed", (message) => {
  missed += message.count ?? 0;
  // A state may be among what was missed: a new stream begins with it.
  live.renew();
  tellPlayer();
});
live.on("hello", (message) => {
  connected = true;
  model.hello(message);
  byId("unlock").hidden = !model.changeable;
  tellStatus();
  picture.render();
  panel.update();
});
live.on("state", (message) => {
  model.state(message);
  picture.render();
  panel.update();
  tellStatus();
});
live.on("stats", (message) => {
  model.stats(message);
  picture.rates();
  panel.update();
});
live.on("gone", (message) => {
  model.node(message.node).away = message.message ?? "";
  picture.render();
  panel.update();
  tellStatus();
});
live.on("frames", (message) => {
  const { node } = message;
  let grouper = groupers.get(node);
  if (!grouper) {
    grouper = new Grouper(node, (name) => Boolean(model.port(node, name)));
    groupers.set(node, grouper);
  }
  const now = performance.now();
  for (const frame of message.frames ?? []) grouper.add(frame, now);
  if (message.skipped > 0) player.skipped(message.skipped);
  if (!settling) settling = setTimeout(settle, 120);
});

/** @type {ReturnType<typeof setTimeout>|undefined} */
let settling;

/** Takes the scenes that are complete. */
function settle() {
  settling = undefined;
  const now = performance.now();
  const scenes = [...groupers.values()].flatMap((grouper) => grouper.settled(now));
  scenes.sort((a, b) => a.time - b.time);
  log.add(scenes);
  for (const scene of scenes) if (log.matches(scene)) player.add(scene, now);
  if ([...groupers.values()].some(({ open }) => open.length > 0)) settling = setTimeout(settle, 120);
  tellPlayer();
}

function tellStatus() {
  const away = [...model.nodes.values()].filter((node) => node.away !== null);
  const status = byId("status");
  const isWell = (connected || asleep) && away.length === 0;
  status.className = isWell && !asleep ? "well" : "ill";
  if (asleep) status.textContent = t("status.asleep");
  else if (!connected) status.textContent = t("status.lost");
  else if (away.length > 0) status.textContent = t("status.away", { nodes: away.map(({ name }) => clean(name)).join(", ") });
  else status.textContent = t("status.live");
  const notice = byId("notice");
  notice.hidden = isWell;
  notice.textContent = connected ? t("notice.away") : t("notice.lost");
}

// --- what plays ---------------------------------------------------------------------------

let narrated = -Infinity;

/** @param {Scene} scene */
function decided(scene) {
  const isClose = player.paused || player.speed < 1 || player.replay !== null;
  const line = scene.record ? scene : (log.twin(scene) ?? scene);
  log.playing(line.id, isClose);
  const macs = macsOf(scene.record?.hex);
  const vlan = scene.fdb?.vlan ?? 0;
  const src = macs?.src ?? scene.why?.src;
  if (src) picture.flash(scene.node, scene.bridge, src, vlan);
  if (scene.fdb) picture.flash(scene.node, scene.bridge, scene.fdb.mac, vlan);
  const now = performance.now();
  if (now - narrated < NARRATE && !player.paused) return;
  narrated = now;
  byId("narration").textContent = sentence(scene);
}

function tellPlayer() {
  const { paused, speed, replay, queue, backlog, seen, left } = player;
  document.body.classList.toggle("paused", paused);
  const label = t(paused ? "play" : "pause");
  const button = byId("pause");
  const words = button.querySelector("span");
  if (words) words.textContent = label;
  button.setAttribute("aria-label", label);
  for (const one of byId("speeds").children) {
    const isOn = Number(one.getAttribute("data-speed")) === speed;
    one.setAttribute("aria-checked", String(isOn));
    /** @type {HTMLElement} */ (one).tabIndex = isOn ? 0 : -1;
  }
  byId("replay-bar").hidden = !replay;
  const isBehind = Boolean(replay) || backlog > 0;
  byId("go-live").hidden = !isBehind && !paused;
  if (replay) {
    const seek = /** @type {HTMLInputElement} */ (byId("seek"));
    seek.max = String(replay.scenes.length);
    seek.value = String(replay.at);
    const text = t("replay.at", { at: replay.at, all: replay.scenes.length });
    byId("seek-name").textContent = text;
    seek.setAttribute("aria-valuetext", text);
  }
  const sampled = byId("sampled");
  const waits = player.isClose || backlog > 0;
  const texts = [];
  if (!replay && left > 0) texts.push(t("sampled", { shown: grouped(seen - left), seen: grouped(seen) }));
  if (missed > 0) texts.push(t("missed", { count: grouped(missed) }));
  if (waits && !replay) texts.push(t("waiting", { count: queue.length }));
  sampled.hidden = texts.length === 0;
  sampled.textContent = texts.join(" · ");
}

let asking = false;

async function startReplay() {
  if (asking) return;
  asking = true;
  try {
    const answer = await live.get("/api/replay", { last: "60s" });
    const scenes = (answer.nodes ?? []).flatMap((/** @type {any} */ one) =>
      one.frames.map((/** @type {any} */ entry) => sceneOfEntry(one.node ?? one.name, entry)),
    );
    scenes.sort((/** @type {Scene} */ a, /** @type {Scene} */ b) => a.time - b.time);
    const matching = scenes.filter((/** @type {Scene} */ scene) => log.matches(scene));
    const gaps = (answer.nodes ?? []).flatMap(gapsOf);
    if (matching.length > 0) player.startReplay(matching);
    else gaps.unshift(t("replay.none"));
    if (gaps.length > 0) toast(gaps.join(" "));
  } catch (error) {
    toast(t("failed", { message: /** @type {Error} */ (error).message }));
  } finally {
    asking = false;
  }
}

/**
 * What of the last minute of a node cannot be replayed.
 * @param {any} one
 */
function gapsOf({ node, error, left_out: left, crowded_out: crowded }) {
  if (error) return [t("replay.error", { node, message: error })];
  const gaps = [];
  if (left > 0) gaps.push(t("replay.left", { node, count: grouped(left) }));
  if (crowded > 0) gaps.push(t("replay.crowded", { node, count: grouped(crowded) }));
  return gaps;
}

// --- changes ------------------------------------------------------------------------------

/**
 * Asks for the token.
 * @param {string} [problem]
 * @returns {Promise<boolean>}
 */
function askToken(problem) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("token-dialog"));
  const input = /** @type {HTMLInputElement} */ (byId("token"));
  const error = byId("token-error");
  error.hidden = !problem;
  error.textContent = problem ?? "";
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const isGiven = dialog.returnValue === "use" && input.value !== "";
        if (isGiven) live.token = input.value;
        input.value = "";
        resolve(isGiven);
      },
      { once: true },
    );
  });
}

/**
 * @param {string} node
 * @param {object} request
 */
async function change(node, request) {
  let problem;
  for (;;) {
    if (!live.token && !(await askToken(problem))) return false;
    try {
      await live.change(node, request);
      toast(t("done"));
      return true;
    } catch (error) {
      const isTokenWrong = error instanceof Refused && error.status === 401;
      if (!isTokenWrong) {
        toast(t("failed", { message: /** @type {Error} */ (error).message }));
        return false;
      }
      live.token = "";
      problem = error.message;
    }
  }
}

/** @type {ReturnType<typeof setTimeout>|undefined} */
let toasting;

/** @param {string} text */
function toast(text) {
  const place = byId("toast");
  place.textContent = clean(text);
  place.hidden = false;
  clearTimeout(toasting);
  toasting = setTimeout(() => (place.hidden = true), 6000);
}

// --- buttons and keys ---------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");

/** @param {string} theme */
function setTheme(theme) {
  document.documentElement.setAttribute("data-theme", theme);
  byId("theme").setAttribute("aria-pressed", String(theme === "dark"));
}

function toggleTheme() {
  const next = document.documentElement.getAttribute("data-theme") === "dark" ? "light" : "dark";
  remember("tapswitch.theme", next);
  setTheme(next);
}

function toggleWide() {
  const isWide = document.body.classList.toggle("wide");
  byId("wide").setAttribute("aria-pressed", String(isWide));
}

function showHelp() {
  const keys = ["space", "right", "1234", "r", "l", "slash", "t", "z", "w", "esc", "question"];
  byId("keys").replaceChildren(
    ...keys.flatMap((key) => [h("dt", {}, h("kbd", { text: t(`key.${key}`) })), h("dd", { text: t(`key.${key}.does`) })]),
  );
  /** @type {HTMLDialogElement} */ (byId("help-dialog")).showModal();
}

function otherLanguage() {
  setLanguage(lang() === "en" ? "zh" : "en");
}

/** @type {Record<string, () => void>} */
const KEYS = {
  " ": () => player.pause(!player.paused),
  ArrowRight: () => player.step(),
  1: () => player.setSpeed(SPEEDS[0]),
  2: () => player.setSpeed(SPEEDS[1]),
  3: () => player.setSpeed(SPEEDS[2]),
  4: () => player.setSpeed(SPEEDS[3]),
  r: startReplay,
  l: () => player.live(),
  "/": () => byId("filter").focus(),
  t: toggleTheme,
  z: otherLanguage,
  w: toggleWide,
  "?": showHelp,
  Escape: () => panel.close(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.matches("input, textarea, select")) {
    // Out of the filter, with what was written: Escape would empty it.
    if (event.key === "Enter" || event.key === "Escape") target.blur();
    return;
  }
  // A button takes the space bar itself.
  if (event.key === " " && target.matches("button, [role=button], [role=radio]")) return;
  if (event.key === "ArrowRight" && target.matches("[role=radio]")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

/** Speeds as a group of radio buttons: arrow keys choose. */
function speeds() {
  const group = byId("speeds");
  const names = ["1", "1/4", "1/10", "1/100"];
  SPEEDS.forEach((speed, at) => {
    const label = `${names[at]}×`;
    group.append(h("button", { type: "button", role: "radio", "data-speed": speed, text: label, onclick: () => player.setSpeed(speed) }));
  });
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const at = (SPEEDS.indexOf(player.speed) + step + SPEEDS.length) % SPEEDS.length;
    player.setSpeed(SPEEDS[at]);
    /** @type {HTMLElement} */ (group.children[at]).focus();
  });
}

function start() {
  speeds();
  const on = (/** @type {string} */ id, /** @type {() => void} */ act) => byId(id).addEventListener("click", act);
  on("pause", KEYS[" "]);
  on("step", KEYS.ArrowRight);
  on("replay", startReplay);
  on("go-live", () => player.live());
  on("lang", otherLanguage);
  on("theme", toggleTheme);
  on("wide", toggleWide);
  on("help", showHelp);
  on("unlock", () => void askToken());
  on("help-close", () => /** @type {HTMLDialogElement} */ (byId("help-dialog")).close());
  on("token-cancel", () => /** @type {HTMLDialogElement} */ (byId("token-dialog")).close());
  const seek = /** @type {HTMLInputElement} */ (byId("seek"));
  seek.addEventListener("input", () => player.seek(Number(seek.value)));
  dark.addEventListener("change", () => {
    if (!recall("tapswitch.theme")) setTheme(dark.matches ? "dark" : "light");
  });
  const asked = new URLSearchParams(location.search).get("theme") ?? recall("tapswitch.theme");
  setTheme(asked === "dark" || asked === "light" ? asked : dark.matches ? "dark" : "light");
  onLanguage(() => {
    const button = byId("lang");
    button.textContent = lang() === "en" ? "中文" : "English";
    button.lang = lang() === "en" ? "zh-CN" : "en";
    byId("theme").setAttribute("aria-label", t("theme"));
    byId("theme").title = t("theme");
    picture.render(true);
    panel.draw();
    log.render();
    tellPlayer();
    tellStatus();
  });
  startLanguage();
  live.start();
}

start();
