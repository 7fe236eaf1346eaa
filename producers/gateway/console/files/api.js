// Speaks to the gateway that served the page. The key is kept in this tab alone.

const KEY = "inflight-key";

/** An answer that is no success: a problem of the gateway (RFC 9457), or none at all (status 0). */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail ?? "The gateway does not respond.");
    this.status = status;
    this.title = body.title ?? (status ? `The gateway answered ${status}` : "The gateway does not respond");
    this.field = body.field ?? null;
    this.body = body;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
  clear: () => sessionStorage.removeItem(KEY),
};

let refused = () => {};

/** Set what happens when the gateway does not accept the key any more. */
export function onRefused(listener) { refused = listener; }

async function call(path, options, signal) {
  const headers = { Accept: "application/json", ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0);
  }
  let body = {};
  try {
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response.ok) throw new Problem(response.status, { detail: "The answer is not JSON: is this the gateway?" });
  }
  if (response.status === 401) refused();
  if (!response.ok) throw new Problem(response.status, body);
  return { status: response.status, headers: response.headers, body };
}

export async function get(path, signal) {
  return (await call(path, {}, signal)).body;
}

export function post(path, content, headers = {}, signal = undefined) {
  const all = { "Content-Type": "application/json", ...headers };
  return call(path, { method: "POST", headers: all, body: JSON.stringify(content) }, signal);
}

export function query(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Ask again and again, while the page is looked at, until the signal. After errors less often. */
export function poll(seconds, signal, ask, tell, fail) {
  let failures = 0;
  let timer = 0;
  let asking = false;
  async function turn() {
    clearTimeout(timer);
    if (signal.aborted || asking) return;
    if (!document.hidden) {
      asking = true;
      try {
        const found = await ask();
        failures = 0;
        if (!signal.aborted) tell(found);
      } catch (error) {
        if (signal.aborted || error.name === "AbortError") return;
        failures += 1;
        fail(error);
      } finally {
        asking = false;
      }
    }
    if (!signal.aborted) timer = setTimeout(turn, Math.min(10, seconds * (1 + failures)) * 1000);
  }
  document.addEventListener("visibilitychange", turn, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  turn();
  return turn;
}
