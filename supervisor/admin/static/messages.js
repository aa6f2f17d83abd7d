// Messages: dead letters and what waits or runs; what they say is hidden until it is asked for.

import { actOnMessages } from "./actions.js";
import { agentPath, get, withQuery } from "./api.js";
import { button, card, h, many, moment, setText } from "./dom.js";

const REFRESH_MS = 5000;
const PAGE = 100;
const MOST = 500;
const OPEN = ["available", "running", "retryable"];
const SHOWS = {
  dead: ["Dead letters", {}], open: ["Waiting and running", { state: OPEN }],
  undelivered: ["Replies not sent", { undelivered: true }],
  all: ["All", { state: [...OPEN, "dead", "done", "cancelled"] }],
};
const NOTHING = {
  dead: "No dead letters: every message has been answered, or is being answered.",
  open: "Nothing waits and nothing runs.", undelivered: "Every reply has arrived.", all: "No messages yet.",
};

/** What is known of one message: its text, its failure, its replies, and where its handler stands. */
async function details(message, full) {
  const [one, agent] = await Promise.all([get(`/api/v1/messages/${message.id}`),
    message.state === "running" ? get(agentPath(message.agent_id)).catch(() => null) : null]);
  const hands = agent?.handling.find((each) => each.message === message.id);
  const part = (title, text) => (text ? [h("h3", {}, title), h("pre", { tabindex: "0" }, text)] : []);
  if (!full) return h("div", {}, h("p", { class: "muted" }, "A token that reads only sees no text and no traceback."));
  return h("div", { class: "details" },
    ...part("What it says", one.content || "(no text)"), ...part("Where its handler stands", hands?.stack),
    ...part("Why it failed", one.error),
    ...one.replies.flatMap((reply) => part(`Reply ${reply.part}: ${reply.type}, ${reply.state}${reply.reason ? `, ${reply.reason}` : ""}`, reply.content)));
}

class MessageRow {
  constructor(list, message) {
    this.list = list;
    this.box = h("input", { type: "checkbox", "aria-label": `Select message ${message.id}`,
      onchange: () => list.select(message.id, this.box.checked) });
    this.state = h("td", { "data-title": "State" });
    this.reason = h("td", { class: "rest", "data-title": "Reason" });
    this.attempts = h("td", { class: "number", "data-title": "Attempts" });
    this.toggle = button("Show", () => this.open(), "quiet");
    this.toggle.setAttribute("aria-expanded", "false");
    this.toggle.setAttribute("aria-label", `Show message ${message.id}`);
    const who = list.board.agents.get(message.agent_id);
    const agent = h("a", { href: `/?agent=${encodeURIComponent(message.agent_id)}` }, who?.name || message.agent_id);
    this.element = h("tr", {},
      h("td", { class: "pick" }, this.box), h("td", { class: "number mono", "data-title": "Id" }, String(message.id)), this.state,
      list.agent ? null : h("td", { "data-title": "Agent" }, agent), h("td", { "data-title": "Came" }, moment(message.received_at)),
      h("td", { class: "number", "data-title": "Characters" }, String(message.content_chars)), this.attempts, this.reason,
      h("td", {}, this.toggle));
    this.below = h("tr", { class: "below", hidden: true }, h("td", { colspan: list.agent ? 8 : 9 }));
    this.update(message);
  }

  update(message) {
    this.message = message;
    setText(this.state, message.state);
    this.state.className = `message-${message.state}`;
    setText(this.reason, message.reason);
    setText(this.attempts, String(message.attempts));
  }

  async open() {
    const hidden = !this.below.hidden;
    this.below.hidden = hidden;
    this.toggle.setAttribute("aria-expanded", String(!hidden));
    setText(this.toggle, hidden ? "Show" : "Hide");
    // Read anew each time, and forgotten when it is closed.
    this.below.firstElementChild.replaceChildren(...(hidden ? [] : [await details(this.message, this.list.full).catch((error) => error.message)]));
  }
}

class MessageList {
  constructor({ board, agent = null, show = "dead" }) {
    Object.assign(this, { board, agent, show: agent ? "all" : show, rows: new Map(), selected: new Set(), limit: PAGE });
    this.full = board.access === "full";
    this.body = h("tbody", {});
    this.note = h("p", { class: "muted empty" });
    this.more = button("Older ones", () => { this.limit = Math.min(MOST, this.limit + PAGE); this.refresh(); });
    this.count = h("b", {});
    this.all = h("input", { type: "checkbox", "aria-label": "Select all messages that are shown", onchange: () => this.selectAll(this.all.checked) });
    const titles = ["Id", "State", ...(agent ? [] : ["Agent"]), "Came", "Characters", "Attempts", "Reason", ""];
    const head = h("tr", {}, h("th", { class: "pick", scope: "col" }, this.all),
      titles.map((title) => (title ? h("th", { scope: "col", class: ["Id", "Characters", "Attempts"].includes(title) ? "number" : "" }, title) : h("td", {}))));
    this.rest = button("", () => { this.everything = true; this.showSelection(); }, "quiet");
    this.bulk = h("div", { class: "bulk", role: "group", "aria-label": "Do to all that are selected", hidden: true }, this.count, this.rest,
      ...["replay", "discard", "cancel"].map((action) => button(action[0].toUpperCase() + action.slice(1), () => this.act(action), action === "replay" ? "" : "danger")));
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Which messages" },
      Object.entries(SHOWS).map(([name, [title]]) => h("button", { type: "button", class: "chip", "data-show": name, onclick: () => this.choose(name) }, title)));
    this.element = h("div", { class: "messages" }, this.chips, h("div", { class: "table" }, h("table", {}, h("thead", {}, head), this.body)), this.note, this.more, this.bulk);
    this.choose(this.show);
    this.refreshing = setInterval(() => document.hidden || this.refresh(), REFRESH_MS);
  }

  choose(name) {
    this.show = name;
    for (const chip of this.chips.children) chip.setAttribute("aria-pressed", String(chip.dataset.show === name));
    this.selectAll(false);
    this.onchoose?.(name);
    this.refresh();
  }

  async refresh() {
    const asked = this.show;
    let found;
    try {
      found = await get(withQuery("/api/v1/messages", { ...SHOWS[asked][1], agent_id: this.agent, limit: this.limit }));
    } catch (error) {
      if (error.constructor !== Error) throw error;
      setText(this.note, error.message);
      return;
    }
    if (asked !== this.show) return;
    const ids = new Set(found.map((one) => one.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.element.remove();
      row.below.remove();
      this.rows.delete(id);
      this.selected.delete(id);
    }
    let place = this.body.firstElementChild;
    for (const message of found) {
      const row = this.rows.get(message.id);
      if (row) {
        row.update(message);
        place = row.below.nextElementSibling;
      } else {
        const made = new MessageRow(this, message);
        this.rows.set(message.id, made);
        this.body.insertBefore(made.element, place);
        this.body.insertBefore(made.below, place);
      }
    }
    setText(this.note, found.length ? "" : NOTHING[asked]);
    this.more.hidden = found.length < this.limit;
    this.more.disabled = this.limit >= MOST;
    this.showSelection();
  }

  /** What the list shows, in the supervisor's words. */
  get where() {
    const { state = [], undelivered = false } = SHOWS[this.show][1];
    return { agent_id: this.agent, states: state, undelivered };
  }

  select(id, on) {
    this.everything = false;
    if (on) this.selected.add(id);
    else this.selected.delete(id);
    this.showSelection();
  }

  selectAll(on) {
    this.everything = false;
    this.selected = new Set(on ? this.rows.keys() : []);
    for (const row of this.rows.values()) row.box.checked = on;
    this.showSelection();
  }

  showSelection() {
    const count = this.selected.size;
    this.bulk.hidden = !count || !this.full;
    const shown = SHOWS[this.show][0].toLowerCase();
    setText(this.count, this.everything ? `All that match: ${shown}` : `${many(count, "message")} selected`);
    // Only so many are shown: what is beyond them can be meant too.
    this.rest.hidden = this.everything || this.more.hidden || count < this.rows.size;
    setText(this.rest, `Select all that match: ${shown}`);
    this.all.checked = count > 0 && count === this.rows.size;
    this.all.indeterminate = count > 0 && count < this.rows.size;
  }

  async act(action) {
    if (await actOnMessages(action, [...this.selected], this.everything ? this.where : null)) {
      this.selectAll(false);
      await this.refresh();
    }
  }

  close() {
    clearInterval(this.refreshing);
  }
}

export const messageList = (given) => new MessageList(given);

export function messagesView({ board, query }) {
  const list = messageList({ board, show: SHOWS[query.get("show")] ? query.get("show") : "dead" });
  list.onchoose = (name) => history.replaceState(null, "", withQuery("/", { view: "messages", show: name === "dead" ? null : name }));
  return { title: "Messages", element: card("Messages", list.element), close: () => list.close() };
}
