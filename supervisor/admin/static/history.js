// Who changed what, of one agent or of all, and the way back.

import { restoreAgents, rollBack } from "./actions.js";
import { agentPath, get, withQuery } from "./api.js";
import { button, card, h, moment, setText, table } from "./dom.js";

const PAGE = 50;
const REFRESH_MS = 5000;
const ALIKE = new Set(["settings", "labels"]);
/** Longer values are shown folded. */
const SHORT_CHARS = 160;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const written = (value) => (typeof value === "string" ? value || "(empty)" : JSON.stringify(value));

/** What became of what: [name, before, after] for each field, and for each key of settings and labels. */
function differences(before, after) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return names.flatMap((name) => {
    const [old, now] = [before[name], after[name]];
    if (same(old, now)) return [];
    if (!ALIKE.has(name) || !isObject(old ?? {}) || !isObject(now ?? {})) return [[name, old, now]];
    return differences(old ?? {}, now ?? {}).map(([key, was, is]) => [`${name}.${key}`, was, is]);
  });
}

function value(tag, given) {
  if (given === undefined) return h("span", { class: "muted" }, "nothing");
  const text = written(given);
  if (text.length <= SHORT_CHARS) return h(tag, {}, text);
  return h("details", {}, h("summary", {}, `${text.length.toLocaleString("en")} characters`), h(tag, {}, h("pre", { tabindex: "0" }, text)));
}

/** What an event changed, as a list; null where there is nothing to tell. */
function changes({ subject, before, after }) {
  if (subject === "deed") return told(Object.entries(after || {}).filter(([, one]) => one !== null), ([, one]) => [value("span", one)]);
  // Of a row that came or went all of it is new or gone: its actions say that.
  if (subject === "row" && (!before || !after)) return null;
  const found = differences(before || {}, after || {}).filter(([name]) => name !== "chars");
  return told(found, ([, was, is]) => [value("del", was), " → ", value("ins", is)]);
}

function told(entries, shown) {
  if (!entries.length) return null;
  return h("dl", { class: "changes" }, entries.map((entry) => h("div", {}, h("dt", { class: "mono" }, entry[0]), h("dd", {}, shown(entry)))));
}

const shownActor = ({ kind, address }) => (address ? `${kind}: ${address}` : kind);

/** Whether a row can be as it was after an event. */
const isVersion = ({ subject, after }) => subject === "row" && after && !after.problem && after.left_out_bytes === undefined;

class Changes {
  constructor({ board, agent = null }) {
    Object.assign(this, { board, agent, events: [] });
    this.full = board.access === "full";
    this.list = h("ol", { class: "events" });
    this.note = h("p", { class: "muted empty" }, "Reading …");
    this.more = button("Older ones", () => this.read(this.events.at(-1)?.id));
    this.more.hidden = true;
    const hidden = this.full ? null : h("p", { class: "muted" }, "A token that reads only sees who changed something and when, not what.");
    this.element = h("div", {}, hidden, this.list, this.note, this.more);
    this.refresh();
  }

  /** Reads what is new; or, with a number, the page of what came before it. */
  async read(before = null) {
    let page;
    try {
      page = await get(withQuery(this.agent ? agentPath(this.agent, "/history") : "/api/v1/history", { limit: PAGE, before_id: before }));
    } catch (error) {
      if (error.constructor !== Error) throw error;
      if (!this.events.length) setText(this.note, error.message);
      return;
    }
    const known = new Set(this.events.map(({ id }) => id));
    const found = page.filter(({ id }) => !known.has(id));
    if (before !== null || !this.events.length) this.more.hidden = page.length < PAGE;
    this.events = before === null ? [...found, ...this.events] : [...this.events, ...found];
    setText(this.note, this.events.length ? "" : "No change is known yet.");
    if (found.length || !this.events.length) this.list.replaceChildren(...this.events.map((event) => this.item(event)));
  }

  refresh() {
    return this.read();
  }

  item(event) {
    const current = this.agent && this.events.find(({ subject }) => subject === "row");
    const back = this.agent && this.full && isVersion(event) && event !== current && current?.after
      ? button("Back to this", async () => { if (await rollBack(this.agent, event.id, current.id)) await this.refresh(); }) : null;
    back?.setAttribute("aria-label", `Back to version ${event.id}`);
    const who = this.agent || !event.agent_id ? null
      : h("a", { href: `/?agent=${encodeURIComponent(event.agent_id)}` }, this.nameOf(event));
    return h("li", {},
      h("div", { class: "row spread" },
        h("div", {}, h("b", {}, event.action), " ", who, " ", h("span", { class: "muted" }, `by ${shownActor(event.actor)}`)),
        h("div", { class: "row" }, event === current ? h("span", { class: "muted" }, "now") : null, back,
          h("span", { class: "mono muted" }, `version ${event.id}`), moment(event.at))),
      this.full ? changes(event) : null);
  }

  nameOf({ agent_id: id, after, before }) {
    return this.board.agents.get(id)?.name || after?.name || before?.name || id;
  }
}

export const agentChanges = (board, agent) => new Changes({ board, agent });

/** What was removed within a day, each with the way back. */
function removedTable(removals, restore) {
  const rows = removals.map((one) => [h("b", {}, one.name || one.agent_id), h("span", { class: "mono" }, one.agent_id), one.handler,
    moment(one.removed_at), shownActor(one.actor), restore ? button("Restore", () => restore([one.agent_id])) : null]);
  return table([["Agent"], ["Id"], ["Handler", "mono"], ["Removed"], ["By"], [""]], rows, "Nothing was removed within a day.");
}

export function historyView({ board }) {
  const changed = new Changes({ board });
  const removed = h("div", {});
  const full = board.access === "full";
  let seen = "";
  const look = async () => {
    await changed.refresh();
    const removals = await get("/api/v1/removals").catch(() => null);
    if (!removals || JSON.stringify(removals) === seen) return;
    seen = JSON.stringify(removals);
    const restore = async (ids) => { if (await restoreAgents(ids)) await look(); };
    const everything = full && removals.length > 1 ? button("Restore all", () => restore(removals.map((one) => one.agent_id))) : null;
    removed.replaceChildren(card("Removed within a day", removedTable(removals, full ? restore : null), [everything].filter(Boolean)));
  };
  look();
  const looking = setInterval(() => document.hidden || look(), REFRESH_MS);
  return { title: "History", element: h("div", {}, removed, card("Who changed what", changed.element)), close: () => clearInterval(looking) };
}
