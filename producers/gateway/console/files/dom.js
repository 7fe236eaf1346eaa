// Elements are made from text alone: nothing that a producer wrote can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Attributes whose value is null, undefined or false are left out; `on*` are listeners. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

/** Replace what is in an element, unless it would look the same: a screen reader would tell it again. */
export function show(element, ...children) {
  const next = document.createElement("div");
  next.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  if (!element.childNodes.length || !same(element, next)) element.replaceChildren(...next.childNodes);
}

function same(one, other) {
  return one.childNodes.length === other.childNodes.length
    && [...one.childNodes].every((node, index) => node.isEqualNode(other.childNodes[index]));
}

/** Bring the rows of a list up to date: those that are the same stay, with their focus. */
export function rows(parent, items, keyOf, render) {
  const known = new Map([...parent.children].map((row) => [row.dataset.key, row]));
  const wanted = items.map((item) => {
    const key = String(keyOf(item));
    const signature = JSON.stringify(item);
    const old = known.get(key);
    if (old && old.signature === signature) return old;
    const row = render(item);
    row.dataset.key = key;
    row.signature = signature;
    return row;
  });
  const keep = new Set(wanted);
  for (const row of [...parent.children]) if (!keep.has(row)) row.remove();
  wanted.forEach((row, index) => {
    if (parent.children[index] !== row) parent.insertBefore(row, parent.children[index] ?? null);
  });
}

/** A question with two answers; resolves to true for the first one. */
export function ask(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "ask-title" },
      h("form", { method: "dialog" },
        h("h2", { id: "ask-title" }, title), h("p", {}, text),
        h("div", { class: "actions" },
          h("button", { value: "yes", class: "primary" }, yes),
          h("button", { value: "no" }, "Cancel"))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A button that copies a text, and says so. */
export function copyButton(text, label = "Copy") {
  const button = h("button", { type: "button", class: "quiet small" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed here";
    }
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

/** A table in a frame of its own, which scrolls by keyboard too. Columns: {name, number, className}. */
export function table(caption, columns) {
  const body = h("tbody");
  const head = columns.map((one) => h("th", { scope: "col", class: one.number ? "number" : one.className }, one.name));
  const frame = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, head)), body));
  return { frame, body };
}

/** What stands where nothing is yet, and what to do next. */
export function empty(title, ...next) {
  return h("div", { class: "empty" }, h("p", { class: "lead" }, title), next.length ? h("p", {}, next) : null);
}

/** A number's name for programs and people: outcome, reason, scope. */
export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}` }, text);
}
