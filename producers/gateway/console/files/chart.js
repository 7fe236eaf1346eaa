// Small charts of time: stacked areas or lines in SVG, with a reading by pointer and arrow keys.

import { h, svg } from "./dom.js";
import { clock } from "./format.js";

const LEFT = 52;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 22;
const HEIGHT = 190;

/**
 * A chart. `update({at, step, columns})` draws columns of numbers or nulls, by the names of `lines`.
 *
 * lines: [{name, label}]; their colors are the classes `line-NAME` and `area-NAME`.
 */
export function chart({ title, lines, stacked = false, unit }) {
  const readings = new Map(lines.map((one) => [one.name, h("span", { class: "reading" })]));
  const when = h("span", { class: "when" });
  const legend = h("div", { class: "legend" },
    lines.map((one) => h("span", { class: "entry" }, h("i", { class: `dot dot-${one.name}` }), one.label, " ",
      readings.get(one.name))), when);
  const plot = svg("svg", { role: "img", tabindex: "0", height: HEIGHT, class: "plot" });
  const element = h("figure", { class: "chart" }, h("figcaption", {}, title), legend, plot);
  let data = null;
  let chosen = null;
  let width = 0;

  function read() {
    const last = data ? data.at.length - 1 : -1;
    const index = chosen === null ? last : Math.min(chosen, last);
    const at = index >= 0 ? clock(data.at[index] * 1000) : "";
    const parts = lines.map((one) => {
      const value = index >= 0 ? data.columns[one.name][index] : null;
      const text = value === null || value === undefined ? "–" : unit(value);
      readings.get(one.name).textContent = text;
      return `${one.label} ${text}`;
    });
    when.textContent = at;
    plot.setAttribute("aria-label", `${title}. At ${at || "no time yet"}: ${parts.join(", ")}. Arrow keys read other times.`);
  }

  function draw() {
    if (!data || !width) return;
    plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    plot.setAttribute("width", width);
    const count = data.at.length;
    const tops = stacked ? stack(lines, data.columns, count) : null;
    const highest = Math.max(0, ...lines.flatMap((one) => (stacked ? tops[one.name] : data.columns[one.name]))
      .filter((value) => value !== null && value !== undefined));
    const scale = niceScale(highest);
    const x = (index) => LEFT + (count < 2 ? 0 : index * (width - LEFT - RIGHT) / (count - 1));
    const y = (value) => HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM) / scale.end;
    const parts = [
      scale.ticks.map((value) => [
        svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        svg("text", { class: "tick", x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, highest ? unit(value) : value ? "" : "0"),
      ]),
      times(data.at, width).map(([index, anchor]) => svg("text",
        { class: "tick", x: x(index), y: HEIGHT - 5, "text-anchor": anchor }, clock(data.at[index] * 1000).slice(0, data.step < 60 ? 8 : 5))),
    ];
    const ordered = stacked ? [...lines].reverse() : lines;
    for (const one of ordered) {
      const values = stacked ? tops[one.name] : data.columns[one.name];
      if (stacked) parts.push(svg("path", { class: `area-${one.name}`, d: area(values, x, y) }));
      parts.push(svg("path", { class: `line line-${one.name}`, d: line(values, x, y) }));
    }
    if (lines.every((one) => data.columns[one.name].every((value) => value === null))) {
      parts.push(svg("text", { class: "tick", x: (LEFT + width - RIGHT) / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "Nothing in this time"));
    }
    if (chosen !== null && chosen < count) {
      parts.push(svg("line", { class: "cursor", x1: x(chosen), x2: x(chosen), y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    plot.replaceChildren(...parts.flat(3));
  }

  function choose(index) {
    if (!data) return;
    chosen = index === null ? null : Math.max(0, Math.min(data.at.length - 1, index));
    read();
    draw();
  }

  plot.addEventListener("pointermove", (event) => {
    if (!data) return;
    const box = plot.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    choose(Math.round(part * (data.at.length - 1)));
  });
  plot.addEventListener("pointerleave", () => choose(null));
  plot.addEventListener("blur", () => choose(null));
  plot.addEventListener("keydown", (event) => {
    const last = data ? data.at.length - 1 : 0;
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -last, End: last };
    if (event.key === "Escape") choose(null);
    else if (event.key in moves) {
      event.preventDefault();
      choose((chosen ?? last) + moves[event.key]);
    }
  });
  new ResizeObserver(([entry]) => {
    // The figure's width; that of the plot would follow what is drawn in it.
    const found = Math.floor(entry.contentRect.width);
    if (found && found !== width) { width = found; draw(); }
  }).observe(element);
  read();
  return { element, update(next) { data = next; read(); draw(); } };
}

/** Parts of a whole on top of one another. */
function stack(lines, columns, count) {
  const sums = new Array(count).fill(0);
  return Object.fromEntries(lines.map((one) => [one.name, columns[one.name].map((value, index) => {
    if (value === null) return null;
    sums[index] += value;
    return sums[index];
  })]));
}

function line(values, x, y) {
  let drawing = false;
  let path = "";
  values.forEach((value, index) => {
    if (value === null) { drawing = false; return; }
    const alone = !drawing && (index + 1 >= values.length || values[index + 1] === null);
    path += `${drawing ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}${alone ? "h0.01" : ""}`;
    drawing = true;
  });
  return path;
}

function area(values, x, y) {
  let path = "";
  let start = null;
  const close = (end) => { path += `L${x(end).toFixed(1)} ${y(0)}L${x(start).toFixed(1)} ${y(0)}Z`; start = null; };
  values.forEach((value, index) => {
    if (value === null) { if (start !== null) close(index - 1); return; }
    path += `${start === null ? "M" : "L"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    start ??= index;
  });
  if (start !== null) close(values.length - 1);
  return path;
}

/** Round numbers from 0 to a little above the highest. */
function niceScale(highest) {
  const rough = (highest || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((one) => one * power >= rough) * power;
  const ticks = [];
  for (let number = 0; number * step < highest + step && number < 6; number += 1) ticks.push(number * step);
  if (ticks.length < 2) ticks.push(step);
  return { ticks, end: ticks.at(-1) };
}

/** Where the times stand: at both ends, and in the middle if there is room. */
function times(at, width) {
  const last = at.length - 1;
  if (last < 1) return [];
  const middle = width > 420 ? [[Math.round(last / 2), "middle"]] : [];
  return [[0, "start"], ...middle, [last, "end"]];
}
