// @ts-check
// The server: its stream of events, what can be asked of it, and the few things it can be told.

/**
 * @typedef {object} Frame a record of the stream
 * @property {number} id
 * @property {number} time
 * @property {string} interface
 * @property {string|null} bridge
 * @property {number|null} vni
 * @property {"in"|"out"} side
 * @property {"frame"|"datagram"} form
 * @property {string} verdict
 * @property {string|null} reason
 * @property {string|null} to
 * @property {string|null} from
 * @property {{mac: string, vlan: number, at: string, state: string, age_s: number}|null} fdb
 * @property {number} len
 * @property {number} captured
 * @property {string|null} offload
 * @property {string} text
 * @property {string} comment
 * @property {string} [hex]
 * @property {(string|{step: string, text: string})[]} [steps]
 */

/** @typedef {(message: any) => void} Handler */

const EVENTS = ["hello", "state", "stats", "frames", "missed", "gone"];
/** A page that is not visible keeps its stream for so long, in milliseconds. */
const GRACE = 5000;
/** The stream is renewed at most this often, in milliseconds. */
const RENEW = 5000;

export class Live {
  constructor() {
    /** @type {Map<string, Handler>} */
    this.handlers = new Map();
    /** Only in memory: gone with the page. */
    this.token = "";
    /** @type {EventSource|null} */
    this.source = null;
    this.renewed = -Infinity;
    this.renewing = false;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.hiding = undefined;
  }

  /**
   * @param {string} event one of EVENTS, or `open`, `lost` and `asleep` for the stream itself
   * @param {Handler} handler
   */
  on(event, handler) {
    this.handlers.set(event, handler);
  }

  /**
   * @param {string} event
   * @param {any} message
   */
  tell(event, message) {
    this.handlers.get(event)?.(message);
  }

  /**
   * Opens the stream, and opens it again whenever it ends. Not while nobody sees the page: a browser
   * has only six connections to a server, and the switch need not be captured for nobody.
   */
  start() {
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.hiding);
      if (!document.hidden) this.open();
      else this.hiding = setTimeout(() => this.sleep(), GRACE);
    });
    this.open();
  }

  sleep() {
    if (!this.source) return;
    this.source.close();
    this.source = null;
    this.tell("asleep", null);
  }

  /** Opens the stream anew, for what was missed. */
  renew() {
    if (this.renewing) return;
    this.renewing = true;
    const rest = Math.max(0, this.renewed + RENEW - performance.now());
    setTimeout(() => {
      this.renewing = false;
      this.renewed = performance.now();
      if (!this.source) return;
      this.source.close();
      this.source = null;
      this.open();
    }, rest);
  }

  open() {
    if (this.source) return;
    const source = new EventSource("/api/live");
    this.source = source;
    source.onopen = () => this.tell("open", null);
    source.onerror = () => {
      this.tell("lost", null);
      // The browser tries again by itself, but for answers that are no stream.
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(() => {
        if (this.source !== source) return;
        this.source = null;
        this.open();
      }, 2000);
    };
    for (const event of EVENTS) {
      source.addEventListener(event, (message) => {
        this.tell(event, JSON.parse(/** @type {MessageEvent} */ (message).data));
      });
    }
  }

  /**
   * @param {string} path
   * @param {Record<string, string|number>} [query]
   */
  async get(path, query = {}) {
    const words = Object.entries(query).map(([key, value]) => [key, String(value)]);
    const search = new URLSearchParams(words).toString();
    return answer(await fetch(search ? `${path}?${search}` : path, { cache: "no-store" }));
  }

  /**
   * @param {string} node
   * @param {string} what
   * @param {Record<string, string|number>} [query]
   */
  ask(node, what, query = {}) {
    return this.get(`/api/nodes/${encodeURIComponent(node)}/${what}`, query);
  }

  /**
   * Changes something; the server wants the token.
   * @param {string} node
   * @param {object} request
   */
  async change(node, request) {
    const response = await fetch(`/api/nodes/${encodeURIComponent(node)}/request`, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
    return answer(response);
  }
}

/** What the server refused, and why. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {Response} response */
async function answer(response) {
  const text = await response.text();
  /** @type {any} */
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // Not every refusal has a body of JSON.
  }
  if (response.ok) return value;
  throw new Refused(response.status, value?.message ?? (text || response.statusText));
}
