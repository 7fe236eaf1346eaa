// The whole story of one request.

import { get, post } from "./api.js";
import { badge, copyButton, empty, h, show, svg, table } from "./dom.js";
import { clockMs, count, duration, moment, plain } from "./format.js";

const RUNNING = new Set(["running", "scored"]);
const MAX_VALUE = 20_000;

export async function mount(root, context) {
  const id = context.parts.join("/");
  const body = h("div", {}, empty("Looking for it …"));
  root.append(
    h("p", { class: "back" }, h("a", { href: "#/predictions" }, "← Predictions")),
    h("div", { class: "heading" }, h("h1", { tabindex: "-1", class: "mono" }, id), copyButton(() => id, "Copy id")), body);
  await follow(body, id, context);
}

/** Show the story of a request, and again until it has ended. */
export async function follow(body, id, context, http = null) {
  while (!context.signal.aborted) {
    try {
      const found = await get(`/v1/console/predictions/${encodeURIComponent(id)}`, context.signal);
      context.report({});
      show(body, story(found, context, http));
      if (!RUNNING.has(found.status)) {
        if (http !== null || found.label || ["dead_letter", "batch"].includes(found.status)) return;
        // A label may still come.
        await pause(3000, context.signal);
        continue;
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 404 && http === null) {
        show(body, empty("Nobody knows a request with this id.", "Check the id. Requests that the stream has deleted are found while the prediction log holds them."));
        return;
      }
      if (error.status !== 404) { context.fail(error); show(body, empty(error.title, error.message)); }
    }
    await pause(http === null ? 1000 : 250, context.signal);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

function story(found, context, http) {
  return [
    h(http === null ? "section" : "div", {}, h("dl", { class: "facts" },
      fact("Outcome", outcome(found)), fact("Model", found.model ? h("a", { href: `#/models/${encodeURIComponent(found.model)}` }, `${found.model} ${found.model_version ?? ""}`) : "–"),
      found.total_seconds !== undefined ? fact("Latency", duration(found.total_seconds)) : null,
      found.batch_size ? fact("Scored in a batch of", count(found.batch_size)) : null,
      found.partition >= 0 ? fact("Partition and offset", h("span", { class: "mono" }, `${found.partition}:${found.offset}`)) : null,
      found.trace_id ? fact("Trace", h("span", { class: "mono" }, found.trace_id)) : null,
      found.source ? fact("Source", found.source === "stream" ? "the stream" : found.source) : null)),
    found.rows ? h("section", {}, h("h2", {}, `Its ${count(found.rows.length)} rows`), h("ul", { class: "plain mono" },
      found.rows.map((one) => h("li", {}, h("a", { href: `#/predictions/${encodeURIComponent(one)}` }, one))))) : null,
    found.error ? h("div", { class: "note" }, h("strong", {}, `${found.error.type}: `), found.error.message) : null,
    found.times ? h("section", {}, h("h2", {}, "What happened"), timeline(found)) : null,
    // Beside a form the features and the prediction are in sight already.
    found.features !== undefined && http === null ? h("div", { class: "columns" },
      h("section", {}, h("div", { class: "heading" }, h("h2", {}, "Features"), again(found, context)),
        found.features_hidden ? empty("What was sent is shown to keys with the scope admin.") : values(found.features, found.redacted)),
      h("section", {}, h("h2", {}, "Prediction"), found.prediction === null ? empty("There is none: the request failed.") : values(found.prediction),
        h("h2", {}, "Label"), label(found, context))) : null,
    found.dead_letters?.length ? h("section", {}, h("h2", {}, "Dead letters"), h("ul", { class: "plain" }, found.dead_letters.map((one) => h("li", {},
      badge(one.reason, "bad"), " ", one.message, " ", h("small", {}, `${moment(one.at)}, dead letter ${one.address}`))))) : null,
  ];
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function outcome(found) {
  const kinds = { completed: ["completed", "good"], failed: ["failed", "bad"], dead_letter: ["dead letter", "bad"],
    batch: ["batch"], running: ["waits for a worker", "warn"], scored: ["scored, its log is on the way", "warn"] };
  return badge(...(kinds[found.status] ?? [found.status]));
}

/** How long each part took, as a bar, and the steps with their times since the request. */
function timeline(found) {
  const times = found.times;
  const after = Math.max(0, found.total_seconds - found.queue_seconds - found.score_seconds);
  const parts = [["queue", "Waited in the topic", found.queue_seconds], ["score", "Model predicted", found.score_seconds], ["rest", "Rest of the batch, and publishing", after]];
  const total = parts.reduce((sum, [, , seconds]) => sum + seconds, 0) || 1;
  let x = 0;
  const bar = svg("svg", { viewBox: "0 0 1000 14", preserveAspectRatio: "none", class: "bar", "aria-hidden": "true" }, parts.map(([name, , seconds]) => {
    const width = 1000 * seconds / total;
    x += width;
    return svg("rect", { x: x - width, y: 0, width: Math.max(width, seconds > 0 ? 2 : 0), height: 14, class: `bar-${name}` });
  }));
  const steps = [["Requested", times.requested], ["Accepted by the broker", times.accepted], ["Scoring began", times.scoring],
    ["Scored", times.scored], ["Outcome written", times.completed], ["Logged", times.logged], ["Label reported", found.label?.reported_at]].filter(([, at]) => at);
  const since = (at) => (new Date(at) - new Date(steps[0][1])) / 1000;
  return h("div", {}, bar,
    h("ul", { class: "legend" }, parts.map(([name, text, seconds]) => h("li", { class: "entry" }, h("i", { class: `dot bar-dot-${name}` }), `${text} `, h("span", { class: "reading" }, duration(seconds))))),
    h("ol", { class: "steps" }, steps.map(([text, at], index) => h("li", {}, h("time", { datetime: at, title: moment(at) }, clockMs(at)), h("span", {}, text),
      h("small", {}, index && since(at) >= 0 ? `+${duration(since(at))}` : "")))));
}

function values(content, redacted = []) {
  if (content === null || typeof content !== "object" || Array.isArray(content)) return h("pre", { tabindex: "0" }, cut(JSON.stringify(content, null, 2)));
  const { frame, body } = table("Values by field", [{ name: "Field" }, { name: "Value" }]);
  frame.classList.add("values");
  const hidden = new Set(redacted);
  body.append(...Object.entries(content).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name),
    h("td", { class: typeof value === "number" ? "mono" : "text" }, cut(plain(value)), hidden.has(name) || hidden.has("*") ? [" ", badge("redacted")] : null))));
  for (const name of hidden) if (name !== "*" && !(name in content)) body.append(h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, badge("redacted"))));
  return frame;
}

function cut(text) {
  return text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE)}… (${count(text.length)} characters)` : text;
}

function again(found, context) {
  if (!context.session.scopes.includes("predict") || found.redacted.length || typeof found.features !== "object" || !found.features) return null;
  return h("button", { type: "button", class: "quiet small", onclick: () => {
    context.carry(found.features);
    context.go(`#/try/${encodeURIComponent(found.model)}`);
  } }, "Try again with these");
}

function label(found, context) {
  if (found.label) {
    const { value, observed_at: observed } = found.label;
    return [values(value === null || typeof value !== "object" ? { label: value } : value), observed ? h("p", { class: "foot" }, `Observed ${moment(observed)}.`) : null];
  }
  if (!context.session.scopes.includes("label") || found.status !== "completed") return empty("No label yet.");
  const input = h("input", { id: "label-value", autocomplete: "off", "aria-describedby": "label-hint" });
  const hint = h("p", { id: "label-hint", class: "foot", role: "status" }, "JSON: a number, true, or \"text\" in quotes. It goes on the stream like every other label.");
  const form = h("form", { class: "filters" }, h("label", {}, h("span", {}, "True outcome"), input), h("button", {}, "Report label"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const value = JSON.parse(input.value);
      await post(`/v1/predictions/${encodeURIComponent(found.request_id)}/label`, { label: value, model: found.model });
      hint.textContent = "Accepted. It will be in this story as soon as it is read back.";
    } catch (error) {
      hint.textContent = error instanceof SyntaxError ? "This is not JSON: write text in quotes, such as \"positive\"." : error.message;
      input.focus();
    }
  });
  return h("div", {}, form, hint);
}
