// Drift as a heat map: fields by windows of time. A table, so that it is read by keyboard and aloud as well.

import { h } from "./dom.js";
import { clock, count, moment, number } from "./format.js";

const STEPS = [0.02, 0.05, 0.1, 0.25];

/** Class of a cell: 0 (equal) to 4 (differs much), by its population stability index. */
function level(psi) {
  return STEPS.filter((limit) => psi >= limit).length;
}

export function heatMap(windows) {
  const fields = [...new Set(windows.flatMap((one) => one.fields.map((field) => field.field)))];
  const worst = (name) => Math.max(...windows.map((one) => one.fields.find((field) => field.field === name)?.psi ?? 0));
  fields.sort((one, other) => worst(other) - worst(one) || one.localeCompare(other));
  const detail = h("p", { class: "detail", "aria-live": "polite" }, "Point at a cell, or move with the arrow keys.");
  const body = h("tbody", {}, fields.map((name) => h("tr", {},
    h("th", { scope: "row" }, name.replace(/^(features|predictions)\./, "")),
    windows.map((one) => cell(one, one.fields.find((field) => field.field === name), name)))));
  const head = h("tr", {}, h("th", { scope: "col" }, "Field"), windows.map((one) => h("th", { scope: "col", class: "window" },
    h("span", { class: "hidden" }, `Window that ended ${moment(one.window_end)}`))));
  const caption = "Drift by field and window; more color is more drift, a dot marks a field that has drifted";
  const frame = h("div", { class: "scroll heat", role: "region", tabindex: "0", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, head), body));
  const tell = (target) => { if (target.dataset?.tell) detail.textContent = target.dataset.tell; };
  frame.addEventListener("pointerover", (event) => tell(event.target));
  frame.addEventListener("focusin", (event) => tell(event.target));
  frame.addEventListener("keydown", (event) => move(event, body));
  const first = body.querySelector("td");
  if (first) first.tabIndex = 0;
  return h("div", {}, frame, scale(windows), detail);
}

function cell(window, field, name) {
  if (!field) return h("td", { class: "none", "data-tell": `${name}: not measured in this window` });
  const told = `${name}, ${clock(window.window_start)} to ${clock(window.window_end)}, ${window.model_version}, `
    + `${count(window.rows)} rows: PSI ${number(field.psi)}, adjusted p ${number(field.p_adjusted)}`
    + `${field.drifted ? ", has drifted" : ""}${field.detail ? ` (${field.detail})` : ""}; missing ${percent(field.missing_rate)}`
    + ` (in training ${percent(field.reference_missing_rate)}), unseen ${percent(field.unseen_rate)}, out of range ${percent(field.out_of_range_rate)}`;
  return h("td", { class: `psi psi-${level(field.psi)}${field.drifted ? " drifted" : ""}`, tabindex: "-1", "data-tell": told },
    h("span", { class: "hidden" }, `${number(field.psi)}${field.drifted ? " drifted" : ""}`));
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function scale(windows) {
  const steps = ["< 0.02", "0.02", "0.05", "0.1", "≥ 0.25"];
  return h("div", { class: "scale" },
    h("span", {}, `${clock(windows[0].window_end)}`), h("span", { class: "line" }), h("span", {}, `${clock(windows.at(-1).window_end)}`),
    h("span", { class: "steps" }, "PSI ", steps.map((text, index) => h("span", { class: "step" }, h("i", { class: `psi-${index}` }), text))));
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
