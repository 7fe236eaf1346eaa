// A form from a JSON Schema: what a model declares is what the form asks, with units, ranges and examples.

import { h } from "./dom.js";

const LONG_TEXT = 300;

/**
 * A form. `read()` returns the row, or null after it has shown what is wrong; `fill(row)` writes one;
 * `complain(field, message)` shows an error of the gateway at its field, and tells whether there is such a field.
 */
export function schemaForm(schema, example) {
  const whole = resolve(schema, schema);
  const required = new Set(whole.required ?? []);
  const fields = Object.entries(whole.properties ?? {}).map(([name, one]) => field(name, one, schema, required.has(name), example?.[name]));
  const element = h("div", { class: "fields" }, fields.map((one) => one.element));
  return {
    element,
    read() {
      const row = {};
      let wrong = null;
      for (const one of fields) {
        const { value, error } = one.read();
        one.complain(error ?? "");
        if (error) wrong ??= one;
        else if (value !== undefined) row[one.name] = value;
      }
      wrong?.input.focus();
      return wrong ? null : row;
    },
    fill(row) {
      for (const one of fields) { one.write(row?.[one.name]); one.complain(""); }
    },
    complain(name, message) {
      const found = fields.find((one) => one.name === name);
      if (!found) return false;
      found.complain(message);
      found.input.focus();
      return true;
    },
  };
}

function resolve(schema, root) {
  let found = schema;
  for (let depth = 0; found?.$ref && depth < 20; depth += 1) {
    const { $ref, ...rest } = found;
    found = { ...root.$defs?.[$ref.replace("#/$defs/", "")], ...rest };
  }
  return found ?? {};
}

/** One schema of a value that may be null, and the annotations of both. */
function single(schema, root) {
  const whole = resolve(schema, root);
  const choices = (whole.anyOf ?? whole.oneOf ?? [whole]).map((one) => resolve(one, root));
  const values = choices.filter((one) => one.type !== "null");
  const first = values.length === 1 ? values[0] : {};
  const { anyOf, oneOf, ...annotations } = whole;
  const found = { ...first, ...annotations, description: annotations.description ?? first.description, examples: annotations.examples ?? first.examples };
  const types = [found.type].flat().filter((one) => one && one !== "null");
  return {
    ...found,
    type: types.length === 1 ? types[0] : undefined,
    enum: found.enum?.filter((one) => one !== null),
    nullable: values.length < choices.length || [found.type].flat().includes("null") || found.enum?.includes(null),
  };
}

function field(name, schema, root, required, example) {
  const one = single(schema, root);
  const id = `field-${name}`;
  const input = control(id, one, required);
  const error = h("p", { class: "error", id: `${id}-error` });
  const hint = [one.description, range(one)].filter(Boolean).join(" ");
  const sample = one.examples?.[0] ?? example;
  if (sample !== undefined && sample !== null && "placeholder" in input) input.placeholder = String(typeof sample === "object" ? JSON.stringify(sample) : sample);
  input.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  if (required) input.setAttribute("aria-required", "true");
  const wide = input.tagName === "TEXTAREA";
  const element = h("div", { class: `field${wide ? " wide" : ""}` },
    h("label", { for: id }, name, required ? null : h("small", {}, " optional")), input, h("p", { class: "hint", id: `${id}-hint` }, hint), error);
  return {
    name,
    element,
    input,
    read: () => reading(input.value, one, required),
    write(value) { input.value = value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value); },
    complain(message) {
      error.textContent = message;
      if (message) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
  };
}

function control(id, one, required) {
  if (one.enum || one.type === "boolean") {
    const values = one.enum ?? [true, false];
    return h("select", { id }, h("option", { value: "" }, required ? "Choose …" : "(none)"), values.map((value) => h("option", { value: String(value) }, String(value))));
  }
  if (one.type === "number" || one.type === "integer") return h("input", { id, type: "text", inputmode: one.type === "integer" ? "numeric" : "decimal", autocomplete: "off" });
  if (one.type === "string" && (one.maxLength ?? 0) <= LONG_TEXT && one.maxLength) return h("input", { id, type: "text", autocomplete: "off", maxlength: one.maxLength });
  if (one.type === "string") return h("textarea", { id, rows: one.maxLength > 1000 ? 5 : 2, maxlength: one.maxLength ?? null });
  return h("textarea", { id, rows: 4, class: "mono", spellcheck: "false" });
}

function range(one) {
  const parts = [];
  if (one.exclusiveMinimum !== undefined) parts.push(`more than ${one.exclusiveMinimum}`);
  if (one.minimum !== undefined) parts.push(`at least ${one.minimum}`);
  if (one.exclusiveMaximum !== undefined) parts.push(`less than ${one.exclusiveMaximum}`);
  if (one.maximum !== undefined) parts.push(`at most ${one.maximum.toLocaleString("en")}`);
  if (one.type === "string" && one.maxLength > 1000) parts.push(`at most ${one.maxLength.toLocaleString("en")} characters`);
  const text = parts.join(", ");
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
}

function reading(text, one, required) {
  if (text.trim() === "") return required ? { error: "This field is needed." } : {};
  if (one.enum) return { value: one.enum.find((value) => String(value) === text) };
  if (one.type === "boolean") return { value: text === "true" };
  if (one.type === "string") return text.length < (one.minLength ?? 0) ? { error: `At least ${one.minLength} characters.` } : { value: text };
  if (one.type === "number" || one.type === "integer") return numeric(text, one);
  try {
    return { value: JSON.parse(text) };
  } catch {
    return { error: "This is not JSON." };
  }
}

function numeric(text, one) {
  const value = Number(text.trim());
  if (!Number.isFinite(value)) return { error: "Write a number, with a point before decimals." };
  if (one.type === "integer" && !Number.isInteger(value)) return { error: "Write a whole number." };
  const outside = (one.minimum !== undefined && value < one.minimum) || (one.exclusiveMinimum !== undefined && value <= one.exclusiveMinimum)
    || (one.maximum !== undefined && value > one.maximum) || (one.exclusiveMaximum !== undefined && value >= one.exclusiveMaximum);
  return outside ? { error: range(one) } : { value };
}
