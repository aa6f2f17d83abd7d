"use strict";
// Lists what /openapi.json describes; needs nothing from elsewhere, so it works offline.

const byId = (id) => document.getElementById(id);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function typeOf(schema) {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `list of ${schema.items ? typeOf(schema.items) : "any"}`;
  return schema.type || "any";
}

function endpoint(method, path, operation) {
  const box = element("div", undefined, "endpoint");
  const head = element("div");
  const shown = path.includes("{") || method !== "get" ? element("code", path) : element("a", path, "mono");
  if (shown.tagName === "A") shown.href = path;
  head.append(element("span", method.toUpperCase(), "method mono"), shown);
  box.append(head, element("p", operation.summary || ""));
  for (const parameter of operation.parameters || []) {
    box.append(element("div", `${parameter.name}: ${typeOf(parameter.schema)} (${parameter.in})`, "muted mono"));
  }
  for (const [status, answer] of Object.entries(operation.responses || {})) {
    const schema = answer.content?.["application/json"]?.schema;
    const kind = schema && Object.keys(schema).length ? `: ${typeOf(schema)}` : "";
    box.append(element("div", `${status} ${answer.description}${kind}`, "muted mono"));
  }
  return box;
}

function schemaBox(name, schema) {
  const box = element("div", undefined, "endpoint");
  box.append(element("code", name), element("p", schema.description?.split("\n")[0] || "", "muted"));
  for (const [field, kind] of Object.entries(schema.properties || {})) {
    box.append(element("div", `${field}: ${typeOf(kind)}`, "muted mono"));
  }
  return box;
}

function section(title, boxes) {
  const card = element("section", undefined, "card");
  card.append(element("h2", title), ...boxes);
  return card;
}

async function main() {
  const api = await (await fetch("/openapi.json")).json();
  byId("version").textContent = api.info.version;
  byId("description").textContent = `${api.info.description || ""} Where a token is set, send the header `
    + "Authorization: Bearer <token>. What goes wrong is answered as {\"error\": \"…\"}.";
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] || "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(endpoint(method, path, operation));
    }
  }
  const schemas = Object.entries(api.components?.schemas || {}).filter(([, schema]) => schema.properties);
  byId("groups").replaceChildren(
    ...[...groups].map(([tag, boxes]) => section(tag, boxes)),
    section("schemas", schemas.map(([name, schema]) => schemaBox(name, schema))),
  );
}

main().catch((error) => { byId("groups").textContent = `openapi.json could not be read: ${error.message}`; });
