// One agent: how it is, what it did, what it has in its hands, and what can be done about it.

import { actOnAgents, actOnMessages, restoreAgents } from "./actions.js";
import { agentPath, get, post, withQuery } from "./api.js";
import { charts } from "./charts.js";
import { tried } from "./dialogs.js";
import { ago, button, card, h, moment, now, setText, span } from "./dom.js";
import { findingsTable } from "./doctor.js";
import { agentChanges } from "./history.js";
import { messageList } from "./messages.js";
import { badge, reasonOf, standing } from "./states.js";
import { usageTable } from "./usage.js";

const REFRESH_MS = 5000;
const MAX_LINES = 200;
const SHOWN_FIELDS = new Set(["timestamp", "level", "event", "logger", "agent"]);

const isLong = (value) => typeof value === "string" && value.trim().includes("\n");

/** A line of the log: its event, and its other fields as they are; a stack or a traceback can be opened. */
function logLine(fields) {
  const shown = Object.entries(fields).filter(([name]) => !SHOWN_FIELDS.has(name));
  const rest = shown.filter(([, value]) => !isLong(value))
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
  const long = shown.filter(([, value]) => isLong(value))
    .map(([name, value]) => h("details", {}, h("summary", {}, name), h("pre", { tabindex: "0" }, value.trim())));
  return h("li", { class: fields.level }, fields.timestamp ? moment(Date.parse(fields.timestamp) / 1000) : null,
    h("b", {}, `${fields.level || ""} ${fields.event || ""}`.trim()), h("span", { class: "rest" }, rest), long);
}

function stateLine({ state, was, since, reason }) {
  return h("li", {}, moment(since), h("b", { class: state }, badge(state)), h("span", { class: "rest" }, reason || `after ${was}`));
}

class Agent {
  constructor({ board, query, go }) {
    this.board = board;
    this.id = query.get("agent");
    this.title = this.id;
    this.go = go;
    this.full = board.access === "full";
    this.build();
    this.follow();
    this.refresh();
    this.refreshing = setInterval(() => document.hidden || this.refresh(), REFRESH_MS);
  }

  build() {
    this.heading = h("h2", { class: "title" }, this.id);
    this.state = h("span", { class: "state" });
    this.reason = h("p", { class: "why" });
    this.facts = h("dl", { class: "facts" });
    this.charts = h("div", {});
    this.hands = h("div", {});
    this.states = h("ol", { class: "lines" });
    this.lines = h("ol", { class: "lines" });
    this.settings = h("div", {});
    this.conversations = h("div", {});
    this.usage = h("div", {});
    this.findings = h("div", {});
    this.changes = agentChanges(this.board, this.id);
    this.messages = messageList({ board: this.board, agent: this.id });
    const parts = {
      tools: this.tools(), hour: card("The last hour", this.charts), hands: card("In its hands", this.hands),
      settings: h("div", { class: "two" }, card("Settings", this.settings), card("Conversations", this.conversations)),
      usage: card("Usage of the last week", this.usage),
    };
    // Of one that is registered no more there is only what it did.
    this.living = Object.values(parts);
    this.element = h("div", { class: "agent-page" },
      h("section", { class: "card", "aria-label": "This agent" },
        h("div", { class: "row spread" }, h("div", { class: "row" }, this.heading, this.state), parts.tools),
        h("p", { class: "mono muted" }, this.id), this.reason, this.facts, this.findings),
      parts.hour, parts.hands,
      card("Messages", this.messages.element),
      h("div", { class: "two" }, card("States", this.states), card("Log", this.lines)),
      parts.settings, parts.usage, card("History", this.changes.element));
  }

  tools() {
    if (!this.full) return h("div", {});
    const act = (action) => () => actOnAgents(action, [this.id]).then(() => this.refresh());
    this.pause = button("Pause", () => act(this.agent?.paused ? "resume" : "pause")());
    const remove = async () => { if (await actOnAgents("remove", [this.id], { names: [this.title] })) this.go("/"); };
    return h("div", { class: "row" }, this.pause, button("Try again now", act("resume")), button("Reload", act("reload")),
      h("a", { class: "button", href: `/?agent=${encodeURIComponent(this.id)}&edit` }, "Edit"),
      button("Examine", () => this.examine()), button("Remove", remove, "danger"));
  }

  /** What the board tells of it, at once. */
  update() {
    const agent = this.board.agents.get(this.id);
    if (!agent) {
      if (!this.gone) this.showGone();
      return;
    }
    if (this.gone) this.showLiving(true);
    this.agent = agent;
    this.title = agent.name || agent.id;
    setText(this.heading, this.title);
    const word = standing(agent);
    setText(this.state, badge(word));
    this.state.className = `state ${word}`;
    setText(this.reason, reasonOf(agent, ago));
    if (this.pause) setText(this.pause, agent.paused ? "Resume" : "Pause");
    this.showFacts(agent);
  }

  showLiving(there) {
    this.gone = !there;
    for (const part of this.living) part.hidden = !there;
  }

  showGone() {
    this.showLiving(false);
    this.reason.replaceChildren("No agent of this id is registered.");
    this.offerBack().catch((error) => { if (error.constructor !== Error) throw error; });
  }

  /** Of one that was removed within a day there is a way back. */
  async offerBack() {
    const removed = (await get("/api/v1/removals")).find(({ agent_id: id }) => id === this.id);
    if (!removed || !this.gone) return;
    const restore = this.full ? button("Restore it", () => restoreAgents([this.id]), "first") : null;
    this.reason.replaceChildren("This agent was removed at ", moment(removed.removed_at), ". It can be restored for a day. ", restore || "");
  }

  showFacts(agent) {
    const expiry = agent.auth_expires_at;
    const labels = Object.entries(agent.labels).map(([key, value]) =>
      h("a", { class: "chip", href: withQuery("/", { label: `${key}=${value}` }) }, `${key}=${value}`));
    const facts = {
      Handler: h("a", { href: withQuery("/", { handler: agent.handler }) }, agent.handler), Since: ago(agent.since), Conversations: agent.conversations,
      Waiting: agent.inbox.available, Running: agent.inbox.running, "Dead letters": agent.inbox.dead,
      Token: expiry === null ? "none yet" : expiry > now() ? `${span(expiry - now())} left` : "expired",
      ...(agent.secret ? { Secret: agent.secret } : {}),
      "Oldest message": agent.oldest_at === null ? "none" : ago(agent.oldest_at),
      "Replies not sent": agent.undelivered ? `${agent.undelivered}: ${agent.undelivered_reason}` : "none",
      ...(agent.replica === null ? {} : { Replica: agent.replica }),
      ...(agent.stale_since === null ? {} : { "Last heard of": `${ago(agent.stale_since)} ago` }),
    };
    const key = JSON.stringify([facts, agent.handler, agent.labels, agent.notes]);
    if (key === this.told) return;
    this.told = key;
    this.facts.replaceChildren(...Object.entries(facts).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value instanceof Node ? value : String(value)))),
      ...(labels.length ? [h("div", { class: "wide" }, h("dt", {}, "Labels"), h("dd", { class: "chips" }, labels))] : []),
      ...agent.notes.map((note) => h("div", { class: "wide" }, h("dt", {}, "Note"), h("dd", {}, note))));
  }

  /** What only is asked for while somebody looks at this agent. */
  async refresh() {
    this.changes.refresh();
    const [agent, minutes, conversations, usage] = await Promise.all([
      get(agentPath(this.id)), get(agentPath(this.id, "/activity")), get(agentPath(this.id, "/conversations")),
      get(withQuery("/api/v1/usage", { agent_id: this.id, days: 7 }))]).catch((error) => {
      if (error.constructor !== Error) throw error;
      return [null];
    });
    if (!agent) return;
    this.charts.replaceChildren(charts(minutes, now()));
    this.showHands(agent.handling);
    this.show(this.settings, "settings", agent.settings, () => (!this.full ? "A token that reads only sees no settings."
      : Object.keys(agent.settings).length ? h("pre", { tabindex: "0" }, JSON.stringify(agent.settings, null, 2))
        : "None of its own: all is as the deployment says. Edit sets some."));
    this.show(this.conversations, "conversations", conversations, () => (conversations.length
      ? h("ul", { class: "ids mono" }, conversations.slice(0, 50).map((id) => h("li", {}, id)))
      : "None yet: somebody has to open one with it on the platform."));
    this.show(this.usage, "usage", usage, () => usageTable(usage, this.board, false));
  }

  /** Makes a part anew where what it shows has changed. */
  show(element, name, value, made) {
    const key = JSON.stringify(value);
    this.seen ??= {};
    if (this.seen[name] === key) return;
    this.seen[name] = key;
    element.replaceChildren(made());
  }

  showHands(handling) {
    this.show(this.hands, "handling", handling, () => (handling.length ? h("ul", { class: "plain" }, handling.map((one) => h("li", {},
      h("div", { class: "row spread" },
        h("span", {}, `Message ${one.message} for `, ago(one.since), `, attempt ${one.attempt}${one.left_behind ? ", left behind: nobody waits for it" : ""}`),
        this.full && !one.left_behind ? button("Cancel", () => actOnMessages("cancel", [one.message]).then(() => this.refresh()), "danger") : null),
      one.stack ? h("details", { open: true }, h("summary", {}, "Where it stands"), h("pre", { tabindex: "0" }, one.stack)) : null)))
      : h("p", { class: "muted empty" }, "Nothing: no handler of it runs.")));
  }

  async examine() {
    this.findings.replaceChildren(h("p", { class: "muted", role: "status" }, "Going the way to the platform …"));
    if (!await tried(async () => {
      this.findings.replaceChildren(findingsTable(await post(withQuery("/api/v1/doctor", { agent_id: this.id }))));
    })) this.findings.replaceChildren();
  }

  follow() {
    if (!this.full) this.lines.replaceChildren(h("li", {}, "A token that reads only sees no log."));
    this.stream = new EventSource(withQuery("/api/v1/events", { agent_id: this.id, last: MAX_LINES }));
    this.stream.addEventListener("state", (event) => this.addLine(this.states, stateLine(JSON.parse(event.data))));
    this.stream.addEventListener("log", (event) => this.addLine(this.lines, logLine(JSON.parse(event.data))));
  }

  addLine(list, line) {
    list.prepend(line);
    if (list.childElementCount > MAX_LINES) list.lastElementChild.remove();
  }

  /** While nobody looks the stream is given back. */
  rest() {
    this.stream.close();
  }

  wake() {
    this.states.replaceChildren();
    this.lines.replaceChildren();
    this.follow();
  }

  close() {
    clearInterval(this.refreshing);
    this.rest();
    this.messages.close();
  }
}

export const agentView = (given) => new Agent(given);
