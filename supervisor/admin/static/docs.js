// Shows what /openapi.json describes, and lets it be tried; needs nothing from elsewhere, so it works offline.

import { byId, h, setText } from "./dom.js";

const SHOWN_CHARS = 20000;
const STREAM = "text/event-stream";

function typeOf(schema) {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `list of ${schema.items ? typeOf(schema.items) : "any"}`;
  return schema.type || "any";
}

/** Text of people, in which what stands between backticks is code. */
const prose = (text) => text.split(/`+/).map((part, index) => (index % 2 ? h("code", {}, part) : part));

/** A schema itself, whatever refers to it. */
const resolved = (schema, api) => (schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema);

/** A value that fits a schema: its own example, or one that is made of its fields. */
function exampleOf(given, api) {
  const schema = resolved(given, api);
  if (!schema) return null;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return exampleOf(schema.anyOf.find((one) => one.type !== "null"), api);
  if (schema.type === "object") {
    return Object.fromEntries(Object.entries(schema.properties || {}).map(([name, field]) => [name, exampleOf(field, api)]));
  }
  return { array: [], string: "", integer: 1, number: 1, boolean: false }[schema.type] ?? null;
}

function parameterField(parameter) {
  const id = `p${parameterField.count = (parameterField.count || 0) + 1}`;
  const input = h("input", { id, required: parameter.required, placeholder: typeOf(parameter.schema) });
  return [parameter, input, h("div", {}, h("label", { for: id }, `${parameter.name}`,
    h("span", { class: "muted" }, ` ${parameter.in}${parameter.description ? ": " : ""}`, prose(parameter.description || ""))), input)];
}

/** Fills a path and its query in; what is empty is left out. */
function address(path, fields) {
  const query = new URLSearchParams();
  let filled = path;
  for (const [{ name, in: where }, input] of fields) {
    if (where === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (where === "query" && input.value) for (const one of input.value.split(",")) query.append(name, one.trim());
  }
  return query.size ? `${filled}?${query}` : filled;
}

async function answered(method, target, body) {
  const headers = { ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
  const token = byId("bearer").value;
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(target, { method, headers, body, cache: "no-store" });
  let text = await answer.text();
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch { /* it is no JSON, and is shown as it is */ }
  return `${answer.status} ${answer.statusText}\n\n${text.slice(0, SHOWN_CHARS)}${text.length > SHOWN_CHARS ? "\n…" : ""}`;
}

/** A form that sends the request, for what changes something too: it says so on the button. */
function tryForm(method, path, operation, api) {
  const streams = Object.values(operation.responses || {}).some((one) => one.content?.[STREAM]);
  const fields = (operation.parameters || []).filter((one) => one.in !== "header").map(parameterField);
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  const id = `${method}${path}`.replace(/\W+/g, "-");
  const body = schema ? h("textarea", { id, rows: 8, spellcheck: "false" }, JSON.stringify(exampleOf(schema, api), null, 2)) : null;
  const result = h("pre", { tabindex: "0", role: "status", "aria-label": "Answer", hidden: true });
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    result.hidden = false;
    const target = address(path, fields);
    setText(result, streams ? `curl -N ${location.origin}${target}` : "…");
    if (!streams) setText(result, await answered(method.toUpperCase(), target, body?.value).catch((error) => error.message));
  } }, fields.map(([, , element]) => element),
  body ? [h("label", { for: id }, "Body"), body] : null,
  h("p", {}, h("button", { type: "submit", class: method === "get" ? "first" : "" }, streams ? "Show the command" : method === "get" ? "Ask" : "Send; it changes something")), result);
  return h("details", {}, h("summary", {}, "Try it"), form);
}

function endpoint(method, path, operation, api) {
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  const line = (text) => h("div", { class: "muted mono" }, text);
  return h("div", { class: "endpoint" },
    h("div", {}, h("span", { class: "method mono" }, method.toUpperCase()), h("code", {}, path)), h("p", {}, prose(operation.summary || "")),
    operation.description ? h("p", { class: "muted" }, prose(operation.description)) : null,
    (operation.parameters || []).map((one) => line(`${one.name}: ${typeOf(one.schema)} (${one.in}${one.required ? ", required" : ""})`)),
    schema ? line(`body: ${typeOf(schema)}`) : null,
    Object.entries(operation.responses || {}).map(([status, answer]) => {
      const kind = answer.content?.["application/json"]?.schema;
      return line(`${status} ${answer.description}${kind && Object.keys(kind).length ? `: ${typeOf(kind)}` : ""}`);
    }),
    tryForm(method, path, operation, api));
}

function schemaBox(name, schema) {
  return h("div", { class: "endpoint" }, h("code", {}, name), h("p", { class: "muted" }, prose(schema.description?.split("\n")[0] || "")),
    Object.entries(schema.properties || {}).map(([field, kind]) =>
      h("div", { class: "muted mono" }, `${field}: ${typeOf(kind)}${schema.required?.includes(field) ? "" : " (may be left out)"}`)));
}

const section = (title, boxes) => h("section", { class: "card" }, h("h2", {}, title), boxes);

async function main() {
  const api = await (await fetch("/openapi.json")).json();
  setText(byId("version"), api.info.version);
  byId("description").replaceChildren(`${api.info.description || ""} Where a token is set, send the header `
    + "Authorization: Bearer <token>; a browser that is signed in to the console needs none. What goes wrong is answered as {\"error\": \"…\"}.",
  h("label", { for: "bearer" }, "Token for what is tried here"), h("input", { id: "bearer", type: "password", autocomplete: "off", placeholder: "none: signed in, or none is asked for" }));
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] || "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(endpoint(method, path, operation, api));
    }
  }
  const schemas = Object.entries(api.components?.schemas || {}).filter(([, schema]) => schema.properties);
  byId("groups").replaceChildren(...[...groups].map(([tag, boxes]) => section(tag, boxes)),
    section("schemas", schemas.map(([name, schema]) => schemaBox(name, schema))));
}

main().catch((error) => setText(byId("groups"), `openapi.json could not be read: ${error.message}`));
