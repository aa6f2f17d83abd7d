// The live table of all agents: changed in place, so that a selection, the focus and the scroll position stay.

import { actOnAgents } from "./actions.js";
import { ago, button, h, many, now, setText, span } from "./dom.js";
import { Replicas } from "./replicas.js";
import { WORST_FIRST, badge, conditions, countConditions, reasonOf, standing } from "./states.js";

const name = (agent) => (agent.name || agent.id).toLowerCase();
/** Columns: title, kind, what is sorted by, what is shown. */
const COLUMNS = {
  state: ["State", "state", (agent) => WORST_FIRST.indexOf(standing(agent)), null],
  agent: ["Agent", "agent", name, null],
  handler: ["Handler", "mono handler", (agent) => agent.handler, (agent) => agent.handler],
  since: ["Since", "since", (agent) => -(agent.since || 0), (agent) => ago(agent.since)],
  conversations: ["Conv.", "number", (agent) => -agent.conversations, (agent) => String(agent.conversations)],
  waiting: ["Waiting", "number", (agent) => -agent.inbox.available, (agent) => String(agent.inbox.available)],
  running: ["Running", "number", (agent) => -agent.inbox.running, (agent) => String(agent.inbox.running)],
  dead: ["Dead", "number dead", (agent) => -agent.inbox.dead, (agent) => String(agent.inbox.dead)],
  token: ["Token", "token", (agent) => agent.auth_expires_at ?? Infinity, tokenOf],
};
const TICK_MS = 5000;

function tokenOf({ auth_expires_at: expiry }) {
  return expiry === null ? "–" : expiry > now() ? `${span(expiry - now())} left` : "expired";
}

/** Whether an agent has what a filter asks for, as the supervisor's selectors do. */
function fits(agent, { q, states, label, handler }) {
  if (states.length && !states.some((word) => conditions(agent).has(word))) return false;
  if (label && !Object.entries(agent.labels).some(([key, value]) => `${key}=${value}` === label)) return false;
  if (handler && handler !== agent.handler && handler !== agent.handler.split(":")[0]) return false;
  return !q || `${agent.id} ${agent.name} ${agent.handler} ${agent.reason}`.toLowerCase().includes(q);
}

/** One row, which knows how to become what its agent is. */
class Row {
  constructor(agent, onselect) {
    this.box = h("input", { type: "checkbox", onchange: () => onselect(this.agent.id, this.box.checked) });
    this.link = h("a", { href: `/?agent=${encodeURIComponent(agent.id)}` });
    this.id = h("small", { class: "mono" });
    this.reason = h("small", {});
    this.cells = {};
    for (const [column, [title, kind]] of Object.entries(COLUMNS)) {
      this.cells[column] = h("td", { class: kind, "data-title": title });
    }
    this.cells.agent.append(this.link, this.id, this.reason);
    this.element = h("tr", {}, h("td", { class: "pick" }, this.box), Object.values(this.cells));
    this.update(agent);
  }

  update(agent) {
    this.agent = agent;
    const word = standing(agent);
    setText(this.cells.state, badge(word));
    if (this.word !== word) this.cells.state.className = `state ${this.word = word}`;
    setText(this.link, agent.name || agent.id);
    setText(this.id, agent.name ? agent.id : "");
    setText(this.reason, reasonOf(agent, ago));
    this.box.setAttribute("aria-label", `Select ${agent.name || agent.id}`);
    for (const [column, [, , , shown]] of Object.entries(COLUMNS)) {
      if (shown) setText(this.cells[column], shown(agent));
    }
    this.cells.dead.classList.toggle("some", agent.inbox.dead > 0);
  }
}

class Fleet {
  constructor({ board, query }) {
    this.title = "";
    this.board = board;
    this.rows = new Map();
    this.order = [];
    this.selected = new Set();
    this.filter = { q: query.get("q") || "", states: query.getAll("state"), label: query.get("label") || "", handler: query.get("handler") || "" };
    this.everything = false;
    this.sort = { column: COLUMNS[query.get("sort")] ? query.get("sort") : "state", down: query.has("down") };
    this.build();
    this.ticking = setInterval(() => document.hidden || this.tick(), TICK_MS);
  }

  build() {
    this.problems = h("ul", { class: "problems", "aria-label": "Problems and notices" });
    this.tiles = h("section", { class: "tiles", "aria-label": "Figures" });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Filter by state" });
    this.search = h("input", { id: "search", type: "search", placeholder: "Find by id, name, handler …",
      "aria-label": "Find agents", value: this.filter.q, oninput: () => { this.filter.q = this.search.value; this.refilter(); } });
    this.body = h("tbody", { id: "agents" });
    this.all = h("input", { type: "checkbox", "aria-label": "Select all agents that are shown",
      onchange: () => this.selectAll(this.all.checked) });
    this.heads = Object.fromEntries(Object.entries(COLUMNS).map(([column, [title, kind]]) => [column,
      h("th", { scope: "col", class: kind }, button(title, () => this.sortBy(column), "sort"))]));
    this.note = h("p", { id: "empty", class: "muted empty", hidden: true });
    [this.label, this.handler] = ["label", "handler"].map((kind) =>
      h("button", { type: "button", class: "chip", onclick: () => { this.filter[kind] = ""; this.refilter(); } }));
    const add = this.board.access === "full" ? h("a", { class: "button first", href: "/?view=add" }, "Add an agent") : null;
    this.bulk = this.bulkBar();
    this.replicas = new Replicas(this.board.access === "full");
    this.element = h("div", {}, this.problems, this.tiles, this.replicas.element,
      h("section", { class: "card fleet", "aria-label": "Agents" },
        h("div", { class: "row spread" }, this.chips, h("div", { class: "row" }, this.label, this.handler, this.search, add)),
        h("div", { class: "table" }, h("table", {},
          h("thead", {}, h("tr", {}, h("th", { class: "pick", scope: "col" }, this.all), Object.values(this.heads))), this.body)),
        this.note), this.bulk);
  }

  bulkBar() {
    this.count = h("b", {});
    const act = (action) => async () => {
      const picked = this.picked();
      const back = ["pause", "resume"].includes(action) ? picked.filter((id) => this.board.agents.get(id).paused !== (action === "pause")) : picked;
      const names = picked.map((id) => this.board.agents.get(id).name || id);
      if (await actOnAgents(action, picked, { where: this.everything ? this.where : null, back, names })) this.selectAll(false);
    };
    return h("div", { class: "bulk", role: "group", "aria-label": "Do to all that are selected", hidden: true },
      this.count, button("Pause", act("pause")), button("Resume", act("resume")), button("Reload", act("reload")),
      button("Remove", act("remove"), "danger"), button("Clear", () => this.selectAll(false), "quiet"));
  }

  /** What the filter asks for, in the supervisor's words. */
  get where() {
    const { q, states, label, handler } = this.filter;
    return { labels: label ? [label] : [], states, handlers: handler ? [handler] : [], text: q.trim() };
  }

  /** The selected ones that are there still. */
  picked() {
    return [...this.selected].filter((id) => this.board.agents.has(id));
  }

  update() {
    const { agents, overview } = this.board;
    this.showProblems(overview);
    this.showTiles(overview, agents.size);
    this.replicas.update(overview.replicas);
    this.showChips();
    for (const [id, row] of this.rows) {
      if (!agents.has(id)) {
        row.element.remove();
        this.rows.delete(id);
        this.selected.delete(id);
      }
    }
    for (const [id, agent] of agents) {
      const row = this.rows.get(id);
      if (!row) this.rows.set(id, new Row(agent, (one, on) => this.select(one, on)));
      else if (row.agent !== agent) row.update(agent);
    }
    this.arrange();
    this.showSelection();
  }

  /** Brings the rows that fit into their order; where it stands already nothing moves. */
  arrange() {
    const filter = { ...this.filter, q: this.filter.q.trim().toLowerCase() };
    const key = COLUMNS[this.sort.column][2];
    const keyed = [...this.rows.values()].filter((row) => fits(row.agent, filter)).map((row) => [key(row.agent), name(row.agent), row]);
    const turn = this.sort.down ? -1 : 1;
    keyed.sort((a, b) => turn * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) || (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0));
    this.order = keyed.map(([, , row]) => row);
    const wanted = new Set(this.order.map((row) => row.element));
    for (const element of [...this.body.children]) if (!wanted.has(element)) element.remove();
    let place = this.body.firstElementChild;
    for (const { element } of this.order) {
      if (element === place) place = place.nextElementSibling;
      else this.body.insertBefore(element, place);
    }
    this.showNote();
    for (const [column, head] of Object.entries(this.heads)) {
      if (column === this.sort.column) head.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  showNote() {
    const none = !this.order.length;
    this.note.hidden = !none;
    setText(this.note, !none ? "" : this.rows.size ? "No agent fits. Clear the search or the states above."
      : "No agents yet. Add one above, or in a terminal: supervisor agents add ID --handler echo --secret-env AGENT_SECRET");
  }

  showProblems({ problems, notices }) {
    // The rest of a notice names a command, for those who read it in a terminal; here it is in the table below.
    const short = (text) => text.replace(/; see: supervisor .*$/, "");
    const texts = [...problems.map((text) => [text, "problem"]), ...notices.map((text) => [short(text), ""])];
    const key = JSON.stringify(texts);
    if (key === this.told) return;
    this.told = key;
    this.problems.replaceChildren(...texts.map(([text, kind]) => h("li", { class: kind }, text)));
  }

  showTiles({ agents, inbox, started_at: since, undelivered }, total) {
    const figures = [
      [`${agents.online || 0} / ${total}`, "agents online", null], [inbox.available, "messages waiting", "/?view=messages&show=open"],
      [inbox.running, "being answered", "/?view=messages&show=open"], [inbox.dead, "dead letters", "/?view=messages"],
      ...(undelivered ? [[undelivered, "replies not sent", "/?view=messages&show=undelivered"]] : []), [ago(since), "up", null],
    ];
    if (this.tiles.childElementCount !== figures.length) {
      this.tiles.replaceChildren(...figures.map(([, label, path]) => h(path ? "a" : "div", { class: "tile", href: path },
        h("b", {}), h("span", {}, label))));
    }
    figures.forEach(([value], index) => setText(this.tiles.children[index].firstElementChild, value.toLocaleString("en")));
  }

  showChips() {
    const counts = countConditions(this.board.agents.values());
    const words = WORST_FIRST.filter((word) => counts[word] || this.filter.states.includes(word));
    if (words.join() !== [...this.chips.children].map((chip) => chip.dataset.state).join()) {
      this.chips.replaceChildren(...words.map((word) => h("button", { type: "button", class: `chip ${word}`, "data-state": word,
        onclick: () => this.toggle(word) })));
    }
    for (const chip of this.chips.children) {
      const word = chip.dataset.state;
      setText(chip, `${badge(word)} ${counts[word] || 0}`);
      chip.setAttribute("aria-pressed", String(this.filter.states.includes(word)));
    }
    for (const [chip, text] of [[this.label, this.filter.label], [this.handler, this.filter.handler]]) {
      chip.hidden = !text;
      setText(chip, `${text} ✕`);
      chip.setAttribute("aria-label", `No longer only ${text}`);
    }
  }

  toggle(word) {
    const { states } = this.filter;
    this.filter.states = states.includes(word) ? states.filter((one) => one !== word) : [...states, word];
    this.refilter();
  }

  sortBy(column) {
    this.sort = { column, down: this.sort.column === column && !this.sort.down };
    this.refilter();
  }

  /** The filters changed: the address says so, for a reload and for somebody who is sent it. */
  refilter() {
    const query = new URLSearchParams();
    if (this.filter.q) query.set("q", this.filter.q);
    for (const state of this.filter.states) query.append("state", state);
    for (const kind of ["label", "handler"]) if (this.filter[kind]) query.set(kind, this.filter[kind]);
    if (this.sort.column !== "state") query.set("sort", this.sort.column);
    if (this.sort.down) query.set("down", "");
    history.replaceState(null, "", query.size ? `/?${query}` : "/");
    if (!this.board.overview) return;
    this.showChips();
    // What was selected is what matched another filter.
    this.everything = false;
    this.arrange();
    this.showSelection();
  }

  select(id, on) {
    this.everything = false;
    if (on) this.selected.add(id);
    else this.selected.delete(id);
    this.showSelection();
  }

  /** Selects all that fit the filter, those too that come to fit it: what is done then is done by the filter. */
  selectAll(on) {
    this.everything = on;
    this.selected = new Set(on ? this.order.map((row) => row.agent.id) : []);
    for (const [id, row] of this.rows) row.box.checked = this.selected.has(id);
    this.showSelection();
  }

  showSelection() {
    if (this.everything) {
      this.selected = new Set(this.order.map((row) => row.agent.id));
      for (const [id, row] of this.rows) row.box.checked = this.selected.has(id);
    }
    const count = this.selected.size;
    this.bulk.hidden = !count || this.board.access !== "full";
    setText(this.count, this.everything ? `All ${many(count, "agent")} that match` : `${many(count, "agent")} selected`);
    this.all.checked = count > 0 && count === this.order.length;
    this.all.indeterminate = count > 0 && count < this.order.length;
  }

  /** Time goes on though nothing changes. */
  tick() {
    for (const row of this.order) {
      setText(row.cells.since, ago(row.agent.since));
      setText(row.cells.token, tokenOf(row.agent));
    }
  }

  close() {
    clearInterval(this.ticking);
  }
}

export const fleetView = (given) => new Fleet(given);
