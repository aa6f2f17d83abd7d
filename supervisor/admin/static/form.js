// Adding and editing an agent: a form made of what its handler says it has, and of the supervisor's own settings.

import { agentPath, get } from "./api.js";
import { saveAgent } from "./actions.js";
import { button, card, h, setText } from "./dom.js";

const NUMBERS = ["integer", "number"];

/** What a schema's property takes: "choice", "number", "list", "secret", "text", "json" or "any"; of a choice, its values. */
function kindOf(property) {
  const one = property.anyOf?.find((each) => each.type !== "null") || property;
  const values = one.type === "boolean" ? [true, false] : one.enum || (one.const !== undefined ? [one.const] : null);
  if (values) return { kind: "choice", values };
  if (NUMBERS.includes(one.type)) return { kind: "number", step: one.type === "integer" ? "1" : "any" };
  if (one.type === "array") return { kind: one.items?.type === "string" ? "list" : "json", shape: "[…]" };
  if (one.type === "object") return { kind: "json", shape: "{…}" };
  if (one.type === "string") return { kind: one.format === "password" ? "secret" : "text" };
  return { kind: "any" };
}

const isJson = (text) => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

/** A value as it stands in a field: a list of texts line by line. */
function written(value, kind) {
  if (value === undefined || value === null) return "";
  if (kind === "list" && Array.isArray(value) && value.every((one) => typeof one === "string")) return value.join("\n");
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** What stands in a field as a value. */
function read(text, kind) {
  if (kind === "text" || kind === "secret") return text;
  if (kind === "list") return isJson(text) && Array.isArray(JSON.parse(text)) ? JSON.parse(text) : text.split("\n").map((line) => line.trim()).filter(Boolean);
  return isJson(text) ? JSON.parse(text) : text;
}

const isReference = (text) => /^(env|file):/.test(text);

class Setting {
  /** ``unset`` says what a setting is that has no value here. */
  constructor(name, property, value, unset) {
    const taken = kindOf(property);
    Object.assign(this, { name, kind: taken.kind, values: taken.values || [], before: written(value, taken.kind) });
    this.field = this.made(`setting-${name}`, taken, unset);
    this.field.setAttribute("aria-describedby", `about-${name}`);
    this.element = h("div", { class: "field" }, h("label", { for: this.field.id }, name), this.field,
      h("small", { class: "muted", id: `about-${name}` }, [property.description, this.kind === "list" ? "One a line." : ""].filter(Boolean).join(" ")));
  }

  made(id, { kind, values, step, shape }, unset) {
    const { before } = this;
    const plain = { id, spellcheck: "false", autocomplete: "off", placeholder: shape ? `${unset}; ${shape}` : unset };
    if (kind === "choice") {
      const words = values.map((one) => written(one));
      // What a row says already can be chosen still, whatever it is.
      if (before && !words.includes(before)) words.push(before);
      return h("select", { id }, ["", ...words].map((one) => h("option", { value: one, selected: one === before }, one || unset)));
    }
    if (kind === "list") return h("textarea", { ...plain, rows: Math.min(6, Math.max(2, before.split("\n").length)) }, before);
    if (kind === "number" && (!before || Number.isFinite(Number(before)))) return h("input", { ...plain, value: before, type: "number", step });
    if (kind !== "secret") return h("input", { ...plain, value: before, type: "text" });
    // A reference is no secret; what is none is not shown.
    const look = () => { field.type = !field.value || isReference(field.value) ? "text" : "password"; };
    const field = h("input", { ...plain, value: before, oninput: look });
    look();
    return field;
  }

  /** What is to change: [name, value], null for one that goes, nothing for one that stays. */
  get change() {
    const text = this.field.value;
    // What is shown as [redacted] and was left alone is left alone.
    if (text === this.before) return [];
    if (this.kind === "json" && text && !isJson(text)) throw new Error(`${this.name} is no JSON`);
    const chosen = this.values.find((one) => written(one) === text);
    return [[this.name, text === "" ? null : chosen ?? read(text, this.kind)]];
  }
}

class Form {
  constructor({ board, query, go }) {
    Object.assign(this, { board, go, id: query.get("agent"), settings: [] });
    this.isNew = this.id === null;
    this.title = this.isNew ? "Add an agent" : "Edit";
    this.body = h("div", {}, h("p", { class: "muted" }, "Reading …"));
    this.element = card(this.isNew ? "Add an agent" : `Edit ${board.agents.get(this.id)?.name || this.id}`, this.body);
    this.load().catch((error) => this.body.replaceChildren(h("p", { class: "bad" }, error.message)));
  }

  async load() {
    [this.handlers, this.schema, this.agent] = await Promise.all([get("/api/v1/handlers"), get("/api/v1/settings-schema"),
      this.isNew ? { id: "", name: "", handler: "", labels: {}, settings: {}, paused: false } : get(agentPath(this.id))]);
    this.build();
  }

  build() {
    const { agent } = this;
    const field = (id, label, value, about, more = {}) => {
      this[id] = h("input", { id: `agent-${id}`, value, spellcheck: "false", autocomplete: "off", ...more });
      return h("div", { class: "field" }, h("label", { for: `agent-${id}` }, label), this[id], about ? h("small", { class: "muted" }, about) : null);
    };
    this.own = h("fieldset", {});
    this.deployments = h("details", {}, h("summary", {}, "The supervisor's own settings of this agent"), h("div", { class: "fields" }));
    this.error = h("p", { class: "bad", role: "alert" });
    this.about = h("small", { class: "muted" });
    const handlers = h("datalist", { id: "handlers" }, this.handlers.map(({ name, about }) => h("option", { value: name }, about)));
    this.body.replaceChildren(h("form", { class: "agent-form", onsubmit: (event) => this.save(event) },
      h("div", { class: "fields" },
        this.isNew ? field("newId", "Id", "", "Of the platform: 24 hex digits.", { required: true }) : null,
        field("name", "Name", agent.name, "For people; empty is the platform's."),
        field("handler", "Handler", agent.handler, null, { required: true, list: "handlers", onchange: () => this.showSettings() }),
        field("secret", "Secret", "", `A reference, env:NAME or file:/path, never the secret itself.${this.isNew ? "" : ` Empty keeps ${agent.secret || "the one there is"}.`}`,
          { required: this.isNew, placeholder: "env:AGENT_SECRET" }),
        field("labels", "Labels", Object.entries(agent.labels).map(([key, value]) => `${key}=${value}`).join(", "), "team=support, region=eu"),
        h("div", { class: "field" }, h("label", {}, this.paused = h("input", { type: "checkbox", checked: agent.paused }), " Paused: it stays offline"))),
      handlers, this.about, this.own, this.deployments, this.error,
      h("div", { class: "row end" }, h("a", { class: "button", href: this.back }, "Cancel"),
        h("button", { type: "submit", class: "first" }, this.isNew ? "Add the agent" : "Save"))));
    this.showSettings();
  }

  get back() {
    return this.isNew ? "/" : `/?agent=${encodeURIComponent(this.id)}`;
  }

  showSettings() {
    const handler = this.handlers.find(({ name }) => name === this.handler.value.split(":")[0]);
    const { settings } = this.agent;
    const known = this.schema.properties;
    const names = new Set([...(handler?.settings || []), ...Object.keys(settings)].filter((name) => !known[name]));
    const own = [...names].map((name) => new Setting(name, handler?.settings_schema[name] || {}, settings[name], "not set"));
    const deployments = Object.entries(known).map(([name, property]) => new Setting(name, property, settings[name],
      property["x-deployment"] ? `as ${property["x-deployment"]} says` : "not set"));
    this.settings = [...own, ...deployments];
    const hint = handler?.settings ? "" : "This handler does not say what settings it has; name one to set it.";
    setText(this.about, [handler?.about, ...(handler?.missing || []).map((command) => `It needs: ${command}`)].filter(Boolean).join(" "));
    this.own.replaceChildren(h("legend", {}, "The handler's settings"), h("div", { class: "fields" }, own.map((one) => one.element)),
      h("p", { class: "muted" }, own.length ? "" : hint || "It has none."), button("Another setting", () => this.another(), "quiet"));
    this.deployments.lastElementChild.replaceChildren(...deployments.map((one) => one.element));
    this.deployments.open = deployments.some((one) => one.before);
  }

  /** A field for a setting whose name the person gives. */
  another() {
    const name = h("input", { "aria-label": "Name of the setting", placeholder: "name" });
    const value = h("input", { "aria-label": "Value of the setting", placeholder: "value" });
    this.settings.push({ get change() { return name.value.trim() && value.value !== "" ? [[name.value.trim(), read(value.value, "any")]] : []; } });
    this.own.querySelector(".fields").append(h("div", { class: "field row" }, name, value));
    name.focus();
  }

  labelChanges() {
    const wanted = Object.fromEntries(this.labels.value.split(",").map((pair) => pair.trim()).filter(Boolean).map((pair) => {
      const [key, ...rest] = pair.split("=");
      if (!rest.length) throw new Error(`A label is key=value, and this is none: ${pair}`);
      return [key.trim(), rest.join("=").trim()];
    }));
    const gone = this.isNew ? [] : Object.keys(this.agent.labels).filter((key) => !(key in wanted));
    return { ...wanted, ...Object.fromEntries(gone.map((key) => [key, null])) };
  }

  async save(event) {
    event.preventDefault();
    try {
      const settings = Object.fromEntries(this.settings.flatMap((one) => one.change).filter(([, value]) => !this.isNew || value !== null));
      const values = { name: this.name.value, handler: this.handler.value, settings, labels: this.labelChanges(), paused: this.paused.checked };
      if (this.secret.value) values.secret = this.secret.value;
      const id = this.isNew ? this.newId.value.trim() : this.id;
      await saveAgent(id, values, this.isNew);
      this.go(`/?agent=${encodeURIComponent(id)}`);
    } catch (error) {
      setText(this.error, error.message);
    }
  }
}

export const formView = (given) => new Form(given);
