// A form for each model that is in service: predicts, and shows what happened.

import { get, post } from "./api.js";
import { copyButton, empty, h, show } from "./dom.js";
import { duration, number, plain } from "./format.js";
import { schemaForm } from "./form.js";
import { follow } from "./story.js";

export async function mount(root, context) {
  const list = h("nav", { class: "pills", "aria-label": "Models" });
  const body = h("div");
  root.append(h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "Try it")), list, body);
  const { models } = await get("/v1/models", context.signal);
  if (!models.length) {
    show(body, empty("No model is in service.", "Train one with ", h("code", {}, "inflight train"), ": the first version is promoted at once."));
    return;
  }
  const chosen = models.find((one) => one.name === context.parts[0]) ?? models[0];
  list.append(...models.map((one) => h("a", { href: `#/try/${encodeURIComponent(one.name)}`, "aria-current": one === chosen ? "page" : null },
    one.name, " ", h("small", {}, one.version))));
  body.append(workbench(chosen, context));
}

function workbench(model, context) {
  const carried = context.carried();
  const fields = schemaForm(model.features_schema, model.example);
  const result = h("section", { class: "result", "aria-live": "polite" }, h("h2", {}, "Prediction"), waiting());
  const submit = h("button", { class: "primary" }, "Predict");
  const path = model.path || `/v1/models/${model.name}/predictions`;
  const form = h("form", { class: "try", novalidate: true, "aria-label": `Features of ${model.name}` }, fields.element,
    h("div", { class: "actions" }, submit,
      h("button", { type: "button", onclick: () => fields.fill(model.example) }, "Fill with the example"),
      h("button", { type: "button", class: "quiet small", onclick: () => fields.fill({}) }, "Clear"),
      copyButton(() => curl(path, model, fields.read() ?? model.example), "Copy as curl")));
  if (carried) fields.fill(carried);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const row = fields.read();
    if (!row) return;
    submit.disabled = true;
    show(result, h("h2", {}, "Prediction"), h("p", { class: "foot" }, "On its way through the stream …"));
    try {
      await predict(result, path, model, row, fields, context);
    } finally {
      submit.disabled = false;
    }
  });
  return h("div", { class: "bench" }, h("section", {}, h("p", { class: "mono route" }, `POST ${path}`), form), result);
}

function waiting() {
  return empty("Fill the form, and press Predict.", "The prediction and the trace of the request will be here.");
}

async function predict(result, path, model, row, fields, context) {
  const started = performance.now();
  let request;
  let shown;
  try {
    const answer = await post(path, model.path ? row : { features: row }, { Prefer: "wait=10" }, context.signal);
    request = answer.body.request_id;
    const { request_id: _, model_version: __, ...flat } = answer.body;
    shown = answer.status === 200 ? values(model.path ? flat : answer.body.prediction) : h("p", {}, "Accepted; it still runs.");
  } catch (error) {
    if (error.name === "AbortError") return;
    request = error.body?.request_id;
    if (error.status === 504) shown = h("p", {}, "Accepted, and not answered yet: is a worker running? Its story goes on below.");
    else {
      const atField = error.field && fields.complain(error.field, error.message);
      show(result, h("h2", {}, "Prediction"), h("div", { class: "note" }, h("strong", {}, `${error.title}: `), error.message, atField ? " (see the field)" : ""));
      if (!request || error.status === 503) return;
    }
  }
  const seconds = (performance.now() - started) / 1000;
  const story = h("div", {}, h("p", { class: "foot" }, "Its log is on the way …"));
  if (shown) {
    show(result, h("h2", {}, "Prediction"), shown, h("p", { class: "foot" }, `Answered in ${duration(seconds)}, over HTTP and the stream. Request `,
      h("a", { class: "mono", href: `#/predictions/${encodeURIComponent(request)}` }, request)), story);
  } else result.append(story);
  await follow(story, request, context, seconds);
}

/** The prediction's own fields, the first one large. */
function values(prediction) {
  if (prediction === null || typeof prediction !== "object") return h("p", { class: "answer" }, plain(prediction));
  const [[name, first] = [], ...rest] = Object.entries(prediction);
  return h("div", {}, h("p", { class: "answer" }, h("small", {}, name), typeof first === "number" ? number(first) : plain(first)),
    rest.length ? h("dl", { class: "facts" }, rest.map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, flat(value))))) : null);
}

function flat(value) {
  if (value === null || typeof value !== "object") return plain(value);
  return Object.entries(value).map(([key, one]) => (Array.isArray(value) ? plain(one) : `${key} ${plain(one)}`)).join(", ");
}

function curl(path, model, row) {
  const body = JSON.stringify(model.path ? row : { features: row }).replaceAll("'", "'\\''");
  return `curl -s ${location.origin}${path} -H 'Content-Type: application/json' -d '${body}'`;
}
