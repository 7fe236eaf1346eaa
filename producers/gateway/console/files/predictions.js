// The last predictions, and the search for one by its id.

import { get, poll, query } from "./api.js";
import { badge, empty, h, rows, show, table } from "./dom.js";
import { clock, count, duration, moment, plain } from "./format.js";

const LIMIT = 200;

export function mount(root, context) {
  const search = h("input", { type: "search", id: "search", placeholder: "Part of an id, or a whole one", autocomplete: "off", spellcheck: "false", maxlength: "256" });
  const form = h("form", { class: "filters", role: "search" },
    h("div", { class: "grow search" }, h("label", {}, h("span", {}, "Request id"), search), h("button", { class: "primary" }, "Show its story")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (search.value.trim()) context.go(`#/predictions/${encodeURIComponent(search.value.trim())}`);
    else search.focus();
  });
  root.append(h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "Predictions")), form);
  list(root, form, search, context);
}

function list(root, form, search, context) {
  let turn = () => {};
  const state = { model: "", outcome: "", paused: false };
  const model = h("select", { onchange: (event) => { state.model = event.target.value; turn(); } }, h("option", { value: "" }, "All models"));
  const outcome = h("select", { onchange: (event) => { state.outcome = event.target.value; turn(); } },
    h("option", { value: "" }, "All outcomes"), h("option", { value: "completed" }, "Completed"), h("option", { value: "failed" }, "Failed"));
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    state.paused = !state.paused;
    pause.setAttribute("aria-pressed", String(state.paused));
    pause.textContent = state.paused ? "Go on" : "Pause";
    turn();
  } }, "Pause");
  const status = h("p", { class: "foot", role: "status" });
  search.addEventListener("input", () => turn());
  form.append(h("label", {}, h("span", {}, "Model"), model), h("label", {}, h("span", {}, "Outcome"), outcome), pause);
  const found = table("The last predictions", [{ name: "Time" }, { name: "Request id" }, { name: "Model" }, { name: "Outcome" }, { name: "Prediction", className: "wide" },
    { name: "Latency", number: true }]);
  const note = h("div");
  found.frame.hidden = true;
  root.append(status, found.frame, note);
  get("/v1/console/models", context.signal).then(({ models }) => model.append(...models.map((one) => h("option", { value: one.name }, one.name))), () => {});
  found.body.addEventListener("keydown", move);

  turn = poll(2, context.signal, async () => (state.paused ? null : get(query("/v1/console/predictions",
    { limit: LIMIT, model: state.model, outcome: state.outcome, id: search.value.trim() }), context.signal)), (answer) => {
    if (!answer) return;
    context.report(answer);
    const filtered = state.model || state.outcome || search.value.trim();
    rows(found.body, answer.predictions, (one) => one.request_id, row);
    found.frame.hidden = !answer.predictions.length;
    status.textContent = answer.predictions.length
      ? `The last ${count(answer.predictions.length)} of ${count(answer.matching)}${filtered ? " that match" : " kept here"}, since ${clock(answer.since)}.`
      : "";
    show(note, answer.predictions.length ? [] : [nothing(filtered, answer)]);
  }, context.fail);
}

function nothing(filtered, answer) {
  if (answer.problem) return empty("The stream can't be read.", `${answer.problem}. The console tries again by itself.`);
  if (filtered) return empty("None of the predictions kept here match.", "Older ones are found by their whole id: press Enter.");
  if (!answer.complete) return empty("The stream is being read.");
  return empty("No prediction in the last hour.", "Send one with ", h("a", { href: "#/try" }, "Try it"), ", or from a shell with ",
    h("code", {}, "inflight replay titanic -n 100"), ".");
}

function row(one) {
  return h("tr", {},
    h("td", {}, h("time", { datetime: one.at, title: moment(one.at) }, clock(one.at))),
    h("td", { class: "mono id" }, h("a", { href: `#/predictions/${encodeURIComponent(one.request_id)}`, title: one.request_id }, one.request_id)),
    h("td", { class: "nowrap" }, one.model, " ", h("small", {}, one.model_version ?? "")),
    h("td", {}, one.outcome === "completed" ? badge("completed", "good") : badge(one.error ?? "failed", "bad")),
    h("td", { class: "wide" }, told(one.prediction)),
    h("td", { class: "number" }, duration(one.total_seconds)));
}

/** A prediction on one line: its plain values by name, or what there is of its JSON. */
function told(preview) {
  if (!preview) return "–";
  try {
    const value = JSON.parse(preview);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return plain(value);
    return Object.entries(value).filter(([, one]) => one === null || typeof one !== "object").map(([name, one]) => `${name} ${plain(one)}`).join(", ") || preview;
  } catch {
    return h("span", { class: "mono" }, preview);
  }
}

/** Arrow keys go from story to story. */
function move(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && event.target.closest("tr")?.[step]?.querySelector("a");
  if (next) {
    event.preventDefault();
    next.focus();
  }
}
