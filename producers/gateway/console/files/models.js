// The models of the registry: versions with their metrics, live quality, and drift.

import { get, poll } from "./api.js";
import { badge, empty, h, rows, show, table } from "./dom.js";
import { count, moment, number, when } from "./format.js";
import { heatMap } from "./heat.js";

export async function mount(root, context) {
  const heading = h("h1", { tabindex: "-1" }, "Models");
  const list = h("nav", { class: "pills", "aria-label": "Models" });
  const detail = h("div");
  root.append(h("div", { class: "heading" }, heading), list, detail);
  const found = (await get("/v1/console/models", context.signal)).models;
  if (!found.length) {
    show(detail, empty("There is no model yet.", "Train one with ", h("code", {}, "inflight train"), ", and come back: it will be here at once."));
    return;
  }
  const chosen = context.parts[0] ?? found[0].name;
  list.append(...found.map((one) => h("a", { href: `#/models/${encodeURIComponent(one.name)}`, "aria-current": one.name === chosen ? "page" : null },
    one.name, " ", h("small", {}, one.champion ?? "no champion"))));
  const parts = skeleton(detail, chosen);
  poll(5, context.signal, () => get(`/v1/console/models/${encodeURIComponent(chosen)}`, context.signal), (model) => {
    context.report(model);
    tell(parts, model);
  }, context.fail);
}

function skeleton(detail, name) {
  const versions = h("div");
  const drift = h("div");
  const quality = h("div");
  const history = h("ol", { class: "events" });
  const historyNote = h("div");
  detail.append(
    h("section", {}, h("div", { class: "heading" }, h("h2", {}, "Versions of ", name), h("a", { class: "button", href: `#/try/${encodeURIComponent(name)}` }, "Try it")), versions),
    h("section", {}, h("h2", {}, "Drift, field by field"), drift),
    h("div", { class: "columns" },
      h("section", {}, h("h2", {}, "Quality of live predictions"), quality),
      h("section", {}, h("h2", {}, "History"), history, historyNote)));
  return { versions, drift, quality, history, historyNote, signature: "", windows: "" };
}

function tell(parts, model) {
  const signature = JSON.stringify([model.versions, model.problem]);
  if (signature !== parts.signature) {
    parts.signature = signature;
    show(parts.versions, model.problem ? h("div", { class: "note" }, model.problem) : [], versionTable(model));
  }
  const windows = JSON.stringify(model.drift.map((one) => [one.window_id, one.rows]));
  if (windows !== parts.windows || !parts.drift.childNodes.length) {
    parts.windows = windows;
    show(parts.drift, model.drift.length ? heatMap(model.drift) : empty("No window has been compared with the training data yet.",
      "Start ", h("code", {}, "inflight drift-monitor"), "; it compares every 1,000 requests or five minutes."));
  }
  show(parts.quality, model.quality.length ? qualityTable(model.quality) : empty("No prediction has a label yet.",
    "Report labels, and start ", h("code", {}, "inflight label-joiner"), ": then live quality is here, beside that of the test."));
  rows(parts.history, model.history, (one) => one.at + one.alias, change);
  parts.history.hidden = !model.history.length;
  show(parts.historyNote, model.history.length ? [] : [empty("No version was promoted yet.", h("code", {}, `inflight models promote ${model.name}`))]);
}

function versionTable(model) {
  const names = [...new Set(model.versions.flatMap((one) => Object.keys(one.metrics ?? {})))];
  const primary = model.versions.find((one) => one.primary_metric)?.primary_metric;
  names.sort((one, other) => (other === primary) - (one === primary) || one.localeCompare(other));
  const { frame, body } = table(`Versions of ${model.name}`, [{ name: "Version" }, { name: "Trained" }, { name: "Replaces" },
    ...names.map((name) => ({ name: name === primary ? `${name} ★` : name, number: true }))]);
  body.append(...model.versions.map((one) => h("tr", {},
    h("th", { scope: "row" }, one.version, " ", one.aliases.map((alias) => [badge(alias, alias === "champion" ? "good" : ""), " "])),
    one.error ? h("td", { colspan: names.length + 2 }, badge("damaged", "bad"), " ", one.error)
      : [h("td", {}, h("time", { datetime: one.created_at }, moment(one.created_at))), h("td", {}, one.parent ?? "–"),
        names.map((name) => h("td", { class: "number" }, number(one.metrics[name])))])));
  const older = model.count - model.versions.length;
  return h("div", {}, frame, h("p", { class: "foot" }, primary ? `★ decides which version is better, on rows that no training saw.` : "",
    older > 0 ? ` ${count(older)} older versions are not shown.` : ""));
}

function qualityTable(measurements) {
  const { frame, body } = table("Live quality", [{ name: "Version" }, { name: "Metric" }, { name: "Live", number: true },
    { name: "Confidence interval", number: true }, { name: "Test", number: true }, { name: "Labels", number: true }]);
  for (const one of measurements) {
    body.append(...one.metrics.map((metric, index) => h("tr", {},
      h("th", { scope: "row" }, index ? h("span", { class: "hidden" }, one.model_version) : one.model_version),
      h("td", {}, metric.name), h("td", { class: "number" }, number(metric.value)),
      h("td", { class: "number" }, `${number(metric.lower)} to ${number(metric.upper)}`),
      h("td", { class: "number" }, number(metric.reference)), h("td", { class: "number" }, index ? "" : count(one.rows)))));
  }
  return h("div", {}, frame, h("p", { class: "foot" }, `Measured ${when(measurements.at(-1).measured_at)}, at ${100 * measurements[0].confidence} % confidence.`));
}

function change(one) {
  const text = one.version
    ? [badge(one.alias, one.alias === "champion" ? "good" : ""), ` ${one.version}`, one.previous ? ` in place of ${one.previous}` : ""]
    : [badge(one.alias), ` removed from ${one.previous}`];
  return h("li", {}, h("time", { datetime: one.at }, moment(one.at)), h("span", {}, text, one.rollback ? " (rollback)" : "",
    ` by ${one.by}`, one.reason ? `: ${one.reason}` : ""));
}
