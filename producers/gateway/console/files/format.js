// Numbers, durations and times as people read them. Durations come in seconds.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const THREE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const FOUR = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const NONE = "–";

export function count(value) {
  return value === null || value === undefined ? NONE : WHOLE.format(value);
}

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return value >= 100 || Number.isInteger(value) ? WHOLE.format(value) : value.toFixed(1);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 1) return `${THREE.format(seconds * 1000)} ms`;
  if (seconds < 60) return `${THREE.format(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.round((seconds % 86400) / 3600)} h`;
}

export function share(part, whole) {
  if (!whole) return NONE;
  const percent = 100 * part / whole;
  return percent === 0 ? "0 %" : percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 1024) return `${value} B`;
  if (value < 1024 * 1024) return `${THREE.format(value / 1024)} KiB`;
  return `${THREE.format(value / 1024 / 1024)} MiB`;
}

export function number(value) {
  return typeof value === "number" ? FOUR.format(value) : NONE;
}

export function clock(iso) {
  return iso ? new Date(iso).toLocaleTimeString("en-GB") : NONE;
}

export function clockMs(iso) {
  return iso ? `${clock(iso)}.${String(new Date(iso).getMilliseconds()).padStart(3, "0")}` : NONE;
}

export function moment(iso) {
  if (!iso) return NONE;
  const at = new Date(iso);
  const day = at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
  return `${day}, ${at.toLocaleTimeString("en-GB")}`;
}

/** A time in a list: the time of day, and the date with it if it is another day. */
export function when(iso) {
  if (!iso) return NONE;
  const at = new Date(iso);
  if (at.toDateString() === new Date().toDateString()) return clock(iso);
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${clock(iso)}`;
}

/** A field that was measured, by its own name. */
export function short(name) {
  return name.replace(/^(features|predictions)\./, "");
}

/** A value of JSON on one line. */
export function plain(value) {
  if (typeof value === "string") return value;
  if (typeof value === "number" && !Number.isInteger(value)) return FOUR.format(value);
  return JSON.stringify(value);
}
