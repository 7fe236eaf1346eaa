// Dead letters: which records were rejected, why, and their replay.

import { get, poll, post, query } from "./api.js";
import { ask, badge, copyButton, empty, h, rows, show, table } from "./dom.js";
import { bytes, count, moment, when } from "./format.js";

const LIMIT = 200;
const OUTCOMES = {
  accepted: ["published again", "good"],
  already_replayed: ["replayed before", "warn"],
  failed: ["refused by the broker", "bad"],
  indeterminate: ["perhaps published", "warn"],
  unknown_topic: ["its topic is not one of ours", "bad"],
  truncated: ["only a part is left", "bad"],
  gone: ["deleted by retention", "bad"],
};

export function mount(root, context) {
  let turn = () => {};
  let most = 50;
  const state = { reason: "", model: "" };
  const chosen = new Set();
  const told = new Map();
  const open = new Map();
  const reason = h("select", { onchange: (event) => filter("reason", event.target.value) }, h("option", { value: "" }, "All reasons"));
  const model = h("select", { onchange: (event) => filter("model", event.target.value) }, h("option", { value: "" }, "All models"));
  const replay = h("button", { class: "primary", type: "button", disabled: true, onclick: send }, "Replay");
  const status = h("p", { class: "foot", role: "status" });
  const all = h("input", { type: "checkbox", "aria-label": "Choose all", title: "Choose all", onchange: () => choose(all.checked) });
  const found = table("Dead letters", [{ name: all }, { name: "Time" }, { name: "Reason" }, { name: "What is wrong", className: "wide" },
    { name: "Request" }, { name: "From" }, { name: "Size", number: true }, { name: "Replay" }]);
  const note = h("div");
  const filters = h("div", { class: "filters" }, h("label", {}, h("span", {}, "Reason"), reason), h("label", {}, h("span", {}, "Model"), model), replay);
  found.frame.hidden = true;
  filters.hidden = true;
  root.append(
    h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "Dead letters")),
    h("p", { class: "intro" }, "Records that no process could read. A replay publishes them again, unchanged, to the topic they came from: do it once the reason is gone."),
    filters, status, found.frame, note);

  function filter(name, value) {
    state[name] = value;
    // Nothing is replayed that is out of sight.
    choose(false);
    turn();
  }

  /** Choose all of the list, as many as one replay takes, or none. */
  function choose(every) {
    chosen.clear();
    for (const box of found.body.querySelectorAll("input:enabled")) {
      box.checked = every && chosen.size < most;
      if (box.checked) chosen.add(box.value);
    }
    refresh();
  }

  function refresh() {
    all.checked = chosen.size > 0 && found.body.querySelectorAll("input:enabled:not(:checked)").length === 0;
    all.indeterminate = chosen.size > 0 && !all.checked;
    replay.disabled = !chosen.size || chosen.size > most;
    replay.textContent = chosen.size ? `Replay ${count(chosen.size)}` : "Replay";
    status.textContent = chosen.size >= most ? `At most ${most} at a time: for more use inflight dlq replay.` : "";
  }

  async function send() {
    const addresses = [...chosen];
    if (!await ask(`Replay ${count(addresses.length)} dead letter${addresses.length > 1 ? "s" : ""}?`,
      "They are published again, unchanged. What was replayed from this machine before is skipped.", "Replay")) return;
    replay.disabled = true;
    status.textContent = "Publishing …";
    try {
      const { body } = await post("/v1/console/dead-letters/replay", { addresses });
      for (const one of body.results) told.set(one.address, one.outcome);
      choose(false);
      status.textContent = `${count(body.accepted)} of ${count(addresses.length)} published again. If they are still wrong, new dead letters will tell.`;
    } catch (error) {
      refresh();
      status.textContent = `${error.title}: ${error.message}`;
    }
    turn();
  }

  function row(one) {
    const box = h("input", { type: "checkbox", value: one.address, "aria-label": `Choose ${one.address}`, checked: chosen.has(one.address), disabled: one.truncated });
    box.addEventListener("change", () => { if (box.checked) chosen.add(one.address); else chosen.delete(one.address); refresh(); });
    const [text, kind] = OUTCOMES[one.replay] ?? [one.truncated ? "only a part is left" : "–", ""];
    return h("tr", {}, h("td", {}, box), h("td", {}, h("time", { datetime: one.at, title: moment(one.at) }, when(one.at))),
      h("td", {}, badge(one.reason, "bad")),
      h("td", { class: "wide" }, one.message, " ", h("button", { type: "button", class: "link", onclick: () => look(one.address) }, "Show record")),
      h("td", { class: "id", title: one.request_id }, one.model ?? "–", one.request_id ? h("div", { class: "mono id" }, h("a", { href: `#/predictions/${encodeURIComponent(one.request_id)}` }, one.request_id)) : null),
      h("td", { class: "nowrap" }, one.topic, h("div", { class: "mono" }, `${one.partition}:${one.offset}`)), h("td", { class: "number" }, bytes(one.bytes)),
      h("td", {}, kind ? badge(text, kind) : text));
  }

  async function look(address) {
    if (open.has(address)) return;
    const dialog = h("dialog", { class: "record", "aria-labelledby": "record-title" }, h("h2", { id: "record-title" }, `Dead letter ${address}`), h("p", {}, "Reading …"));
    open.set(address, dialog);
    dialog.addEventListener("close", () => { open.delete(address); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
    let content;
    try {
      content = record(await get(`/v1/console/dead-letters/${address}`, context.signal));
    } catch (error) {
      content = [h("p", {}, `${error.title}: ${error.message}`)];
    }
    dialog.lastChild.replaceWith(h("div", {}, content), h("form", { method: "dialog", class: "actions" }, h("button", { autofocus: true }, "Close")));
    dialog.querySelector("form button").focus();
  }

  turn = poll(3, context.signal, () => get(query("/v1/console/dead-letters", { limit: LIMIT, ...state }), context.signal), (answer) => {
    context.report(answer);
    most = answer.max_replay;
    options(reason, answer.reasons);
    options(model, answer.models);
    rows(found.body, answer.dead_letters.map((one) => ({ ...one, replay: told.get(one.address) ?? "" })), (one) => one.address, row);
    found.frame.hidden = !answer.dead_letters.length;
    filters.hidden = !answer.reasons.length;
    show(note, answer.dead_letters.length ? [] : [nothing(answer, state)]);
    if (answer.matching > answer.dead_letters.length) note.replaceChildren(h("p", { class: "foot" }, `${count(answer.matching)} in all; the newest ${count(answer.dead_letters.length)} are shown.`));
  }, context.fail);
  context.signal.addEventListener("abort", () => { for (const dialog of open.values()) dialog.close(); });
}

function nothing(answer, state) {
  if (answer.problem) return empty("The stream can't be read.", `${answer.problem}. The console tries again by itself.`);
  if (!answer.complete) return empty("The stream is being read.");
  if (state.reason || state.model) return empty("No dead letter matches.", "Choose another reason or model.");
  return empty("No dead letters: every record could be read.", "Should one be rejected, its reason and its bytes will be here.");
}

function options(select, names) {
  const known = new Set([...select.options].map((one) => one.value));
  for (const name of names) if (!known.has(name)) select.append(h("option", { value: name }, name));
}

function record(letter) {
  const text = letter.value ?? "(null)";
  return [
    letter.key !== null ? h("p", {}, "Key ", h("code", {}, letter.key)) : null,
    h("pre", { tabindex: "0", "aria-label": "Value" }, text),
    h("p", { class: "foot" }, letter.bytes === null ? "The value is null." : letter.shown_bytes < letter.bytes
      ? `The first ${bytes(letter.shown_bytes)} of ${bytes(letter.bytes)}.` : bytes(letter.bytes), " ", copyButton(() => text)),
    letter.headers.length ? h("dl", { class: "facts" }, letter.headers.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, value ?? "null")))) : null,
  ];
}
