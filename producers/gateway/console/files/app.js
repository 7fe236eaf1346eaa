// The frame of the page: views, keys, theme, shortcuts, and what is told when the gateway is away.

import { get, key, onRefused } from "./api.js";
import { empty, h, show } from "./dom.js";
import * as letters from "./letters.js";
import * as models from "./models.js";
import * as overview from "./overview.js";
import * as predictions from "./predictions.js";
import * as story from "./story.js";
import * as tryit from "./tryit.js";

const VIEWS = [
  { name: "overview", label: "Overview", view: overview, scopes: ["read"] },
  { name: "models", label: "Models", view: models, scopes: ["read"] },
  { name: "predictions", label: "Predictions", view: predictions, scopes: ["read"] },
  { name: "dead-letters", label: "Dead letters", view: letters, scopes: ["admin"] },
  { name: "try", label: "Try it", view: tryit, scopes: ["predict", "read"] },
];
const THEMES = { system: "system", light: "light", dark: "dark" };
const main = document.getElementById("main");
const live = document.getElementById("live");
const keyButton = document.getElementById("key");
let session = { keys_required: false, name: null, scopes: [] };
let leaving = new AbortController();
let carried = null;
let shortcuts = localStorage.getItem("inflight-shortcuts") !== "off";

/** State of the gateway, in a word that does not move the page. */
function tellLive(state, text) {
  live.className = `live ${state}`;
  if (live.textContent !== text) live.textContent = text;
}

function context(parts) {
  const signal = leaving.signal;
  return {
    parts,
    session,
    signal,
    go: (hash) => { location.hash = hash; },
    carry: (row) => { carried = row; },
    carried: () => { const row = carried; carried = null; return row; },
    report: (found) => {
      main.querySelector(".away")?.remove();
      if (found.problem) tellLive("bad", "Stream away");
      else if (found.gateway?.problem) tellLive("warn", "Not ready");
      else if (found.complete === false) tellLive("warn", "Reading");
      else tellLive("good", "Live");
    },
    fail: (error) => {
      if (signal.aborted || error.status === 401) return;
      tellLive("bad", error.status ? "Problem" : "Gateway away");
      const text = error.status === 403 ? `${error.message}.` : `${error.message} Trying again …`;
      const note = h("div", { class: "note away", role: "alert" }, h("strong", {}, `${error.title}: `), text);
      const old = main.querySelector(".away");
      if (!old) main.prepend(note);
      else show(old, ...note.childNodes);
    },
  };
}

function allowed(one) {
  return one.scopes.every((scope) => session.scopes.includes(scope));
}

async function draw() {
  leaving.abort();
  leaving = new AbortController();
  const signal = leaving.signal;
  const [name = "", ...parts] = location.hash.replace(/^#\/?/, "").split("/").map(decode);
  const views = VIEWS.filter(allowed);
  const chosen = VIEWS.find((one) => one.name === name) ?? views[0] ?? VIEWS[0];
  nav(views, chosen);
  const root = h("div", { class: `view view-${chosen.name}` });
  main.replaceChildren(root);
  if (session.keys_required && !session.scopes.length) return signIn(root);
  document.title = `${chosen.label} · Inflight`;
  if (!allowed(chosen)) {
    root.append(h("h1", { tabindex: "-1" }, chosen.label), empty("This key does not allow it.", "It needs the scope ",
      h("code", {}, chosen.scopes.filter((scope) => !session.scopes.includes(scope)).join(", ")), ": ask for another key, made with ", h("code", {}, "inflight keys add"), "."));
    return undefined;
  }
  const view = chosen.name === "predictions" && parts.length ? story : chosen.view;
  const around = context(parts);
  try {
    await view.mount(root, around);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return undefined;
    if (error.status === undefined) throw error;
    around.fail(error);
    if (error.status !== 401 && error.status !== 403) setTimeout(() => { if (!signal.aborted) draw(); }, 3000);
  }
  return undefined;
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function nav(views, chosen) {
  show(document.getElementById("nav"), views.map((one, index) => h("a", { href: `#/${one.name}`, "aria-current": one === chosen ? "page" : null,
    "aria-keyshortcuts": shortcuts ? String(index + 1) : null }, one.label)));
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  keyButton.hidden = !session.keys_required || !session.scopes.length;
  keyButton.textContent = session.name ? `Key: ${session.name}` : "";
  keyButton.title = `Scopes: ${session.scopes.join(", ")}. Press to use another key.`;
}

function signIn(root, message = "") {
  document.title = "API key · Inflight";
  tellLive("", "");
  const input = h("input", { type: "password", id: "api-key", autocomplete: "off", required: true, "aria-describedby": "key-hint key-error", spellcheck: "false" });
  const error = h("p", { class: "error", id: "key-error", role: "alert" }, message);
  const form = h("form", { class: "sign-in" }, h("h1", { tabindex: "-1" }, "API key"),
    h("label", { for: "api-key" }, "This gateway needs a key"), input,
    h("p", { class: "hint", id: "key-hint" }, "It stays in this tab and is forgotten with it. Make one with ", h("code", {}, "inflight keys add NAME --scope read --scope predict"), "."),
    error, h("button", { class: "primary" }, "Continue"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    key.set(input.value.trim());
    try {
      session = await get("/v1/console/session");
      await draw();
      focusHeading();
    } catch (problem) {
      key.clear();
      error.textContent = problem.status === 401 ? "This key is not valid: it may be mistyped, revoked or expired." : `${problem.title}: ${problem.message}`;
      input.select();
      input.focus();
    }
  });
  root.append(form);
  input.focus();
}

/** The key was refused while in use: ask for another one. */
onRefused(() => {
  if (!key.get() || !session.scopes.length) return;
  key.clear();
  leaving.abort();
  session = { keys_required: true, name: null, scopes: [] };
  nav([], null);
  const root = h("div", { class: "view" });
  main.replaceChildren(root);
  signIn(root, "The key is not valid any more.");
});

function focusHeading() {
  main.querySelector("h1")?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function theme() {
  const button = document.getElementById("theme");
  const current = () => localStorage.getItem("inflight-theme") ?? "system";
  const label = () => { button.replaceChildren(h("span", { class: "roomy" }, "Theme: "), THEMES[current()] ?? THEMES.system); };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(current()) + 1) % names.length];
    localStorage.setItem("inflight-theme", next);
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    label();
  });
  label();
}

function help() {
  const views = VIEWS.filter(allowed);
  const box = h("input", { type: "checkbox", checked: shortcuts });
  box.addEventListener("change", () => { shortcuts = box.checked; localStorage.setItem("inflight-shortcuts", shortcuts ? "on" : "off"); });
  const entry = (keys, text) => h("div", {}, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, text));
  const dialog = h("dialog", { "aria-labelledby": "help-title" }, h("form", { method: "dialog" }, h("h2", { id: "help-title" }, "Keyboard"),
    h("dl", { class: "keys" }, views.map((one, index) => entry(String(index + 1), one.label)), entry("/", "Search by request id"), entry("← →", "Read a chart, or move in the heat map"),
      entry("↑ ↓", "From prediction to prediction"), entry("?", "This help")),
    h("label", { class: "check" }, box, " Shortcuts of one key"), h("div", { class: "actions" }, h("button", { class: "primary" }, "Close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !shortcuts) return;
  if (event.target.closest("input, textarea, select, dialog")) return;
  const views = VIEWS.filter(allowed);
  if (event.key === "?") help();
  else if (event.key === "/" && views.some((one) => one.name === "predictions")) {
    event.preventDefault();
    const search = document.getElementById("search");
    if (search) search.focus();
    else { location.hash = "#/predictions"; addEventListener("drawn", () => document.getElementById("search")?.focus(), { once: true }); }
  } else if (views[Number(event.key) - 1]) location.hash = `#/${views[Number(event.key) - 1].name}`;
});
document.getElementById("help").addEventListener("click", help);
keyButton.addEventListener("click", () => { key.clear(); start(); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("hashchange", () => {
  draw();
  focusHeading();
  dispatchEvent(new Event("drawn"));
});

/** Ask what the caller may do, until the gateway answers. */
async function start() {
  try {
    session = await get("/v1/console/session");
  } catch (error) {
    if (error.status === 401) {
      key.clear();
      return start();
    }
    tellLive("bad", "Gateway away");
    show(main, h("div", { class: "note away", role: "alert" }, h("strong", {}, `${error.title}: `), `${error.message} Trying again …`));
    setTimeout(start, 2000);
    return undefined;
  }
  return draw();
}

theme();
start();
