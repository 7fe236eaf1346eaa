// The live overview: throughput, outcomes, latency and lag.

import { get, poll, query } from "./api.js";
import { chart } from "./chart.js";
import { badge, empty, h, rows, show, table } from "./dom.js";
import { clock, count, duration, rate, share, short, when } from "./format.js";

const WINDOWS = [[300, "5 min"], [900, "15 min"], [3600, "1 h"]];
export function mount(root, context) {
  let seconds = 300;
  let turn = () => {};
  const tiles = new Map([["rate", "Predictions a second"], ["latency", "Latency, p99"], ["failed", "Failed"], ["lag", "Waiting for a worker"]]
    .map(([name, label]) => [name, tile(label)]));
  const throughput = chart({
    title: "Throughput and outcomes, a second",
    stacked: true,
    lines: [{ name: "completed", label: "Completed" }, { name: "failed", label: "Failed" }, { name: "dead_letters", label: "Dead letters" }],
    unit: rate,
  });
  const latency = chart({
    title: "Latency from acceptance to outcome",
    lines: [{ name: "p50", label: "p50" }, { name: "p95", label: "p95" }, { name: "p99", label: "p99" }],
    unit: duration,
  });
  const note = h("div", { class: "notes" });
  const models = table("Models in this time", [{ name: "Model" }, { name: "Completed", number: true }, { name: "Failed", number: true },
    { name: "Dead letters", number: true },
    { name: "Queue, mean", number: true }, { name: "Model, mean", number: true }, { name: "p50", number: true }, { name: "p99", number: true }]);
  const lag = table("Lag of the consumer groups", [{ name: "Process" }, { name: "Topics", className: "topics" }, { name: "Waiting", number: true }, { name: "Oldest", number: true }]);
  const events = h("ol", { class: "events" });
  const modelsPart = h("section", {}, h("h2", {}, "Models"), models.frame, h("div", {}));
  const lagPart = h("section", {}, h("h2", {}, "Lag"), lag.frame, h("div", {}));
  const eventsPart = h("section", {}, h("h2", {}, "Events of models"), events, h("div", {}));
  const choice = h("div", { class: "segments", role: "radiogroup", "aria-label": "Time shown" }, WINDOWS.map(([value, label]) =>
    h("label", {}, h("input", { type: "radio", name: "window", value, checked: value === seconds, onchange: () => { seconds = value; turn(); } }), h("span", {}, label))));
  for (const one of [models.frame, lag.frame, events]) one.hidden = true;
  root.append(
    h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "Overview"), choice), note,
    h("div", { class: "tiles" }, [...tiles.values()].map((one) => one.element)),
    h("div", { class: "columns" }, h("section", {}, throughput.element), h("section", {}, latency.element)),
    modelsPart, h("div", { class: "columns" }, lagPart, eventsPart));

  function tell(found) {
    context.report(found);
    show(note, notes(found));
    const { series, total } = found;
    const step = series.step_seconds;
    const perSecond = (name) => series[name].map((value) => (value === null ? null : value / step));
    const now = series.completed.slice(-3).filter((value) => value !== null);
    const recent = now.length ? sum(series.completed.slice(-3)) + sum(series.failed.slice(-3)) : null;
    const worker = found.lag.filter((one) => one.group === "inflight-worker");
    const oldest = worker.map((one) => one.waiting_seconds).filter((value) => value !== null);
    set(tiles, "rate", recent === null ? "–" : rate(recent / (now.length * step)), `${count(total.completed + total.failed)} in ${label(found.seconds)}`);
    set(tiles, "latency", duration(total.p99), total.p50 === null ? "no prediction in this time" : `p50 ${duration(total.p50)}, p95 ${duration(total.p95)}`);
    set(tiles, "failed", share(total.failed, total.completed + total.failed), `${count(total.failed)} failed, ${count(total.dead_letters)} dead letters`, total.failed >= 0.01 * (total.completed + total.failed || 1));
    set(tiles, "lag", worker.length ? count(sum(worker.map((one) => one.records))) : "–", oldest.length ? `the oldest for ${duration(Math.max(...oldest))}` : worker.length ? "nothing waits" : "not known", oldest.length > 0 && Math.max(...oldest) > 5);
    throughput.update({ at: series.at, step, columns: { completed: perSecond("completed"), failed: perSecond("failed"), dead_letters: perSecond("dead_letters") } });
    latency.update({ at: series.at, step, columns: series });
    const busy = found.models.filter((one) => one.completed + one.failed + one.dead_letters > 0);
    rows(models.body, busy, (one) => one.name, modelRow);
    hint(modelsPart, models.frame, busy.length, () => empty("No prediction in this time.", "Send one with ", h("a", { href: "#/try" }, "Try it"),
      ", or choose a longer time above."));
    rows(lag.body, byProcess(found.lag), (one) => one.group, lagRow);
    hint(lagPart, lag.frame, found.lag.length, () => (found.lag_problem && !found.lag_problem.includes("not been read")
      ? empty("The lag is not known.", `${found.lag_problem}. The console tries again every two seconds.`) : empty("The lag is being read.")));
    rows(events, together(found.events), (one) => one.first + JSON.stringify(one.event), eventRow);
    hint(eventsPart, events, found.events.length, () => empty("Nothing has happened to a model yet.", "Promotions and drift will be here: ", h("code", {}, "inflight models promote"), " and ", h("code", {}, "inflight drift-monitor"), "."));
  }

  turn = poll(2, context.signal, () => get(query("/v1/console/overview", { seconds }), context.signal), tell, context.fail);
}

function notes(found) {
  const texts = [];
  const same = found.gateway.problem === found.problem;
  if (found.gateway.problem && same) texts.push(["No predictions now, and nothing new to see", found.problem]);
  else if (found.gateway.problem) texts.push(["The gateway takes no predictions now", found.gateway.problem]);
  if (found.problem && !same) texts.push(["The stream can't be read", found.problem]);
  if (found.lag_problem && found.lag.length) texts.push(["The lag below is old", found.lag_problem]);
  return texts.map(([title, text]) => h("div", { class: "note" }, h("strong", {}, `${title}: `), text));
}

function tile(text) {
  const value = h("p", { class: "value" }, "–");
  const more = h("p", { class: "more" }, "\u00a0");
  return { element: h("div", { class: "tile" }, h("h2", { class: "label" }, text), value, more), value, more };
}

function set(tiles, name, value, more, bad = false) {
  const one = tiles.get(name);
  one.value.textContent = value;
  one.more.textContent = more;
  one.element.classList.toggle("bad", bad);
}

/** Show what to do next in place of an empty list. */
function hint(part, list, filled, make) {
  list.hidden = !filled;
  show(part.lastElementChild, filled ? [] : [make()]);
}

function modelRow(one) {
  const cell = (text) => h("td", { class: "number" }, text);
  const name = one.name ? h("a", { href: `#/models/${encodeURIComponent(one.name)}` }, one.name) : "(no model named)";
  return h("tr", {}, h("th", { scope: "row" }, name), cell(count(one.completed)), cell(alarm(one.failed)), cell(alarm(one.dead_letters)),
    cell(duration(one.queue_seconds)), cell(duration(one.score_seconds)), cell(duration(one.p50)), cell(duration(one.p99)));
}

/** A number that should be 0. */
function alarm(value) {
  return value ? badge(count(value), "bad") : "0";
}

/** One line for each process, with all of its topics. */
function byProcess(groups) {
  const found = new Map();
  for (const one of groups) {
    const known = found.get(one.group) ?? { group: one.group, topics: [], records: 0, waiting: null, active: false };
    known.topics.push(one.records && one.active ? `${one.topic} (${count(one.records)})` : one.topic);
    known.records += one.records;
    known.active ||= one.active;
    if (one.waiting_seconds !== null) known.waiting = Math.max(known.waiting ?? 0, one.waiting_seconds);
    found.set(one.group, known);
  }
  return [...found.values()].sort((one, other) => other.active - one.active || one.group.localeCompare(other.group));
}

function lagRow(one) {
  const process = one.group.replace(/^inflight-/, "");
  const topics = h("td", { class: "topics" }, one.topics.join(", "));
  if (!one.active) return h("tr", { class: "off" }, h("th", { scope: "row" }, process), topics, h("td", { class: "number", colspan: "2" }, "never started"));
  return h("tr", {}, h("th", { scope: "row" }, process), topics, h("td", { class: "number" }, count(one.records)),
    h("td", { class: "number" }, one.waiting === null ? "–" : duration(one.waiting)));
}

/** Drift of a version that goes on for many windows is one event. Newest first. */
function together(events) {
  const found = [];
  for (const { at, event } of events) {
    const last = found.at(-1);
    const goesOn = last && event.type.startsWith("drift") && ["type", "model", "model_version"].every((name) => last.event[name] === event[name]);
    if (goesOn) { last.windows += 1; last.first = at; } else found.push({ at, event, windows: 1, first: at });
  }
  return found;
}

function eventRow({ at, event, windows, first }) {
  const model = h("a", { href: `#/models/${encodeURIComponent(event.model)}` }, event.model);
  const text = event.type.startsWith("model.promoted")
    ? [model, ` ${event.model_version} is the champion`, event.previous_version ? `, in place of ${event.previous_version}` : "", event.reason ? `: ${event.reason}` : ""]
    : [badge("drift", "warn"), " ", model, ` ${event.model_version}: ${event.fields.map((one) => short(one.field)).join(", ")}`,
      windows > 1 ? h("small", {}, ` (${windows} windows since ${clock(first)})`) : null];
  return h("li", {}, h("time", { datetime: at }, when(at)), h("span", {}, text));
}

function sum(values) {
  return values.reduce((total, value) => total + (value ?? 0), 0);
}

function label(seconds) {
  return WINDOWS.find(([value]) => value === seconds)[1];
}
