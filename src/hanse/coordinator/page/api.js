// The coordinator's REST interface: requests with the account's token, and the stream of events.

const PLACE = "hanse.token";
let token = sessionStorage.getItem(PLACE) ?? "";

export const hasToken = () => token !== "";

/** Keeps the token until the tab is closed; it is in no cookie, no address and no log. */
export function useToken(text) {
  token = text.trim();
  if (token) sessionStorage.setItem(PLACE, token);
  else sessionStorage.removeItem(PLACE);
}

/** Whether one can log in by an OpenID provider. */
export async function loginWays() {
  const answer = await fetch("/api/login", { cache: "no-store", credentials: "omit", redirect: "error" });
  return answer.ok ? answer.json() : { oidc: false };
}

/** The session's token, against the code that the browser came back with; the cookie says that it is the same browser. */
export async function redeem(code) {
  const answer = await fetch("/api/login/session", { method: "POST", cache: "no-store", credentials: "same-origin", redirect: "error", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }) });
  const said = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, said.error);
  return said.token;
}

/** Ends a session that a login at the provider began; an API token stays what it is. */
export async function endSession() {
  if (token) await send("DELETE", "/api/login/session");
}

/** What the coordinator refused: `code`, a sentence, the status, details of wrong fields. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the coordinator answered ${status} without a reason`);
    this.status = status;
    this.code = error?.code ?? "";
    this.details = error?.details ?? [];
  }
}

const encode = encodeURIComponent;

/** "/api/runs/{id}/rounds" with its values, each of them escaped. */
export function path(template, values = {}, query = {}) {
  const filled = template.replace(/\{(\w+)\}/g, (_, name) => encode(values[name]));
  const asked = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return asked.length ? `${filled}?${asked.map(([k, v]) => `${encode(k)}=${encode(v)}`).join("&")}` : filled;
}

async function send(method, address, body, headers = {}, signal = undefined) {
  const answer = await fetch(address, {
    method, signal, cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
    headers: { Accept: "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}), ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.ok) return answer;
  let error = null;
  try {
    error = (await answer.json()).error;
  } catch { /* not from the coordinator, or cut off: the status says enough */ }
  throw new Refused(answer.status, error);
}

export const get = async (address) => (await send("GET", address)).json();
export const post = async (address, body = {}) => (await send("POST", address, body)).json();
export const remove = async (address) => (await send("DELETE", address)).json();
export const text = async (address) => (await send("GET", address, undefined, { Accept: "text/plain, */*" })).text();

/** Saves what is at `address` as a file. */
export async function save(address, name) {
  const answer = await send("GET", address, undefined, { Accept: "application/octet-stream, */*" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** SHA-256 of a text in hexadecimal digits; null where the browser does not offer it (plain HTTP to another machine). */
export async function sha256(words) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(words));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const SILENCE = 45_000; // the coordinator sends a sign of life more often than this
const LONGEST = 15_000; // between two attempts to connect

/**
 * Follows the coordinator's events; goes on after the last one when the connection comes back.
 * `told` gets {id, event, data}; `state` gets "live", "connecting" or "lost". Returns what ends it.
 */
export function follow(template, told, state) {
  let last = null;
  let wait = 500;
  let over = false;
  let abort = new AbortController();
  let sleeping = null;
  const awake = () => sleeping?.();

  async function once() {
    abort = new AbortController();
    let silent = setTimeout(() => abort.abort(), SILENCE);
    try {
      const headers = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": String(last) }) };
      const answer = await send("GET", path(template), undefined, headers, abort.signal);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      state("live");
      wait = 500;
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(silent);
        silent = setTimeout(() => abort.abort(), SILENCE);
        rest += value;
        const blocks = rest.split(/\r?\n\r?\n/);
        rest = blocks.pop();
        for (const block of blocks) take(block);
      }
    } finally {
      clearTimeout(silent);
    }
  }

  function take(block) {
    const event = { id: null, event: "message", data: "" };
    const data = [];
    for (const line of block.split(/\r?\n/)) {
      const at = line.indexOf(":");
      if (at === 0) continue;
      const [name, value] = at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
      if (name === "data") data.push(value);
      else if (name === "id" || name === "event") event[name] = value;
    }
    if (event.id !== null) last = event.id;
    if (!data.length) return;
    try {
      event.data = JSON.parse(data.join("\n"));
    } catch {
      return;
    }
    told(event);
  }

  (async () => {
    while (!over) {
      try {
        await once();
      } catch (error) {
        if (over) return;
        if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
          state("refused");
          return;
        }
      }
      if (over) return;
      state("lost");
      await new Promise((done) => {
        sleeping = done;
        setTimeout(done, wait * (0.7 + 0.6 * Math.random()));
      });
      wait = Math.min(LONGEST, wait * 2);
    }
  })();
  addEventListener("online", awake);
  return () => {
    over = true;
    removeEventListener("online", awake);
    abort.abort();
    awake();
  };
}
