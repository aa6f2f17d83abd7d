// Adding and editing an agent: a form made of what its handler says it has, and of the supervisor's own settings.

import { agentPath, get } from "./api.js";
import { saveAgent } from "./actions.js";
import { button, card, h, setText } from "./dom.js";

/** What a schema's property takes: its type and, of a choice, the words. */
function kindOf(property) {
  const one = property.anyOf?.find((each) => each.type !== "null") || property;
  return { type: one.type || "any", words: one.enum || (one.const ? [one.const] : null) };
}

/** A value as it stands in a field. */
const written = (value) => (value === undefined || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value));

/** What stands in a field as a value: JSON where it is JSON, else text; a field that wants text takes it as it is. */
function read(text, { type }) {
  if (type === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

class Setting {
  constructor(name, about, kind, value) {
    Object.assign(this, { name, kind, before: written(value) });
    const id = `setting-${name}`;
    const choices = kind.type === "boolean" ? ["true", "false"] : kind.words;
    this.field = choices
      ? h("select", { id }, ["", ...choices].map((one) => h("option", { value: one, selected: one === this.before }, one || "as the deployment says")))
      : h("input", { id, value: this.before, type: "text", spellcheck: "false", inputmode: ["integer", "number"].includes(kind.type) ? "decimal" : null,
        placeholder: { object: "{…}", array: "[…]" }[kind.type] || (kind.type === "any" ? "not set" : "as the deployment says") });
    this.element = h("div", { class: "field" }, h("label", { for: id }, name), this.field,
      about ? h("small", { class: "muted" }, about) : null);
  }

  /** What is to change: [name, value], null for one that goes, nothing for one that stays. */
  get change() {
    const text = this.field.value;
    // What is shown as [redacted] and was left alone is left alone.
    if (text === this.before) return [];
    return [[this.name, text === "" ? null : read(text, this.kind)]];
  }
}

class Form {
  constructor({ board, query, go }) {
    Object.assign(this, { board, go, id: query.get("agent"), settings: [] });
    this.isNew = this.id === null;
    this.title = this.isNew ? "Add an agent" : "Edit";
    this.body = h("div", {}, h("p", { class: "muted" }, "Reading …"));
    this.element = card(this.isNew ? "Add an agent" : `Edit ${this.id}`, this.body);
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
        field("secret", "Secret", "", `A reference, env:NAME or file:/path, never the secret itself.${this.isNew ? "" : " Empty keeps the one there is."}`,
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
    const own = [...names].map((name) => new Setting(name, null, { type: "any" }, settings[name]));
    const deployments = Object.entries(known).map(([name, property]) => new Setting(name, property.description, kindOf(property), settings[name]));
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
    this.settings.push({ get change() { return name.value.trim() && value.value !== "" ? [[name.value.trim(), read(value.value, { type: "any" })]] : []; } });
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
