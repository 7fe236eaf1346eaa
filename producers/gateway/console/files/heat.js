// Drift as a heat map: fields by windows of time. A table, so that it is read by keyboard and aloud as well.

import { badge, h } from "./dom.js";
import { clock, count, moment, number, short } from "./format.js";

const STEPS = [0.02, 0.05, 0.1, 0.25];

/** Class of a cell: 0 (equal) to 4 (differs much), by its population stability index. */
function level(psi) {
  return STEPS.filter((limit) => psi >= limit).length;
}

export function heatMap(windows) {
  const fields = [...new Set(windows.flatMap((one) => one.fields.map((field) => field.field)))];
  const worst = (name) => Math.max(...windows.map((one) => one.fields.find((field) => field.field === name)?.psi ?? 0));
  fields.sort((one, other) => worst(other) - worst(one) || one.localeCompare(other));
  const told = new Map();
  const body = h("tbody", {}, fields.map((name) => h("tr", {},
    h("th", { scope: "row" }, short(name)), windows.map((one) => {
      const field = one.fields.find((found) => found.field === name);
      const made = cell(field);
      told.set(made, () => reading(one, name, field));
      return made;
    }))));
  const head = h("tr", {}, h("th", { scope: "col" }, h("span", { class: "hidden" }, "Field")), windows.map((one) => h("th", { scope: "col" },
    h("span", { class: "hidden" }, `Window that ended ${moment(one.window_end)}`))));
  const ends = h("tr", {}, h("td", {}), h("td", { class: "ends", colspan: windows.length },
    h("div", {}, h("span", {}, clock(windows[0].window_end)), windows.length > 3 ? h("span", {}, clock(windows.at(-1).window_end)) : null)));
  const caption = "Drift by field and window; more color is more drift, a dot marks a field that has drifted";
  const frame = h("div", { class: "scroll heat", role: "region", tabindex: "0", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, head), body, h("tfoot", { "aria-hidden": "true" }, ends)));
  const detail = h("div", { class: "detail", "aria-live": "polite" }, summary(windows.at(-1)));
  const tell = (target) => {
    const found = told.get(target.closest("td"));
    if (found) detail.replaceChildren(...found());
  };
  frame.addEventListener("pointerover", (event) => tell(event.target));
  frame.addEventListener("focusin", (event) => tell(event.target));
  frame.addEventListener("keydown", (event) => move(event, body));
  const first = body.querySelector("td");
  if (first) first.tabIndex = 0;
  return h("div", { class: "drift" }, h("div", {}, frame, scale()), detail);
}

function cell(field) {
  if (!field) return h("td", { class: "psi none", tabindex: "-1" }, h("span", { class: "hidden" }, "not measured"));
  return h("td", { class: `psi psi-${level(field.psi)}${field.drifted ? " drifted" : ""}`, tabindex: "-1" },
    h("span", { class: "hidden" }, `${number(field.psi)}${field.drifted ? " drifted" : ""}`));
}

/** What is told before a cell is chosen: how it stands now. */
function summary(window) {
  const drifted = window.fields.filter((one) => one.drifted).map((one) => short(one.field));
  return [
    h("p", { class: "lead" }, drifted.length ? `${drifted.length} of ${window.fields.length} fields ${drifted.length === 1 ? "has" : "have"} drifted` : "No field has drifted"),
    h("p", {}, `in the last window, ${clock(window.window_start)} to ${clock(window.window_end)}${drifted.length ? `: ${drifted.join(", ")}` : ""}.`),
    h("p", {}, "Point at a cell, or move with the arrow keys, to read it."),
  ];
}

function reading(window, name, field) {
  const lead = h("p", { class: "lead" }, short(name), " ", field?.drifted ? badge("has drifted", "bad") : null);
  const span = h("p", {}, `${clock(window.window_start)} to ${clock(window.window_end)}, ${window.model_version}, ${count(window.rows)} rows`);
  if (!field) return [lead, span, h("p", {}, "Not measured in this window.")];
  const facts = [["PSI", number(field.psi)], ["Adjusted p", field.p_adjusted < 0.0001 ? "< 0.0001" : number(field.p_adjusted)],
    ["Missing", `${percent(field.missing_rate)}, in training ${percent(field.reference_missing_rate)}`],
    ["Unseen values", percent(field.unseen_rate)], ["Out of range", percent(field.out_of_range_rate)]];
  return [lead, span, h("dl", { class: "pairs" }, facts.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text)))),
    field.detail ? h("p", {}, field.detail) : null].filter(Boolean);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function scale() {
  const steps = ["< 0.02", "0.02", "0.05", "0.1", "≥ 0.25"];
  return h("div", { class: "scale" }, h("span", {}, "PSI"), steps.map((text, index) => h("span", { class: "step" }, h("i", { class: `psi psi-${index}` }), text)),
    h("span", { class: "step" }, h("i", { class: "psi psi-0 drifted" }), "has drifted"));
}

function move(event, body) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const current = event.target.closest("td");
  if (!current || !(event.key in moves)) return;
  event.preventDefault();
  const [down, right] = moves[event.key];
  const row = body.children[[...body.children].indexOf(current.parentElement) + down];
  const next = row?.children[current.cellIndex + right];
  if (next?.matches("td")) {
    current.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}
