"use strict";
// The fleet, polled. Everything from outside goes into the page as text, never as markup.

const SYMBOLS = {
  online: "●", authenticating: "◔", connecting: "◑", registering: "◕", backoff: "↻",
  rejected: "✖", faulted: "▲", draining: "◌", paused: "‖", stopped: "○",
};
const WORST_FIRST = ["faulted", "rejected", "backoff", "registering", "connecting", "authenticating", "draining",
  "online", "paused", "stopped"];
const MAX_ROWS = 500;
const POLL_MS = 1500;
const KEY = "supervisor-admin-token";

const byId = (id) => document.getElementById(id);
const view = { agents: [], overview: null, state: null, search: "", token: sessionStorage.getItem(KEY) || "" };

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (whole >= size) return `${Math.floor(whole / size)} ${unit}`;
  }
  return `${whole} s`;
}

async function ask(path) {
  const headers = view.token ? { Authorization: `Bearer ${view.token}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store" });
  if (answer.status === 401) throw new Error("unauthorised");
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  return answer.json();
}

function health(text, kind) {
  const pill = byId("health");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${kind}`;
}

function showTiles() {
  const { agents, inbox, started_at } = view.overview;
  const total = Object.values(agents).reduce((sum, count) => sum + count, 0);
  const figures = [
    [`${agents.online || 0} / ${total}`, "agents online"],
    [inbox.available, "messages waiting"],
    [inbox.running, "being answered"],
    [inbox.dead, "dead letters"],
    [span(Date.now() / 1000 - started_at), "up"],
  ];
  byId("tiles").replaceChildren(...figures.map(([value, label]) => {
    const tile = element("div", undefined, "tile");
    tile.append(element("b", String(value)), element("span", label));
    return tile;
  }));
}

function showProblems() {
  const { problems, notices } = view.overview;
  byId("problems").replaceChildren(
    ...problems.map((text) => element("li", text, "problem")),
    ...notices.map((text) => element("li", text)),
  );
  if (problems.length) health("not ready", "bad");
  else if (notices.length) health("ready, with notices", "warn");
  else health("ready", "good");
}

function showStates() {
  const counts = view.overview.agents;
  const states = WORST_FIRST.filter((state) => counts[state] || view.state === state);
  const focused = document.activeElement?.dataset?.state;
  byId("states").replaceChildren(...states.map((state) => {
    const chip = element("button", `${SYMBOLS[state]} ${state} ${counts[state] || 0}`, state);
    chip.type = "button";
    chip.dataset.state = state;
    chip.setAttribute("aria-pressed", String(view.state === state));
    chip.addEventListener("click", () => {
      view.state = view.state === state ? null : state;
      show();
    });
    return chip;
  }));
  if (focused) byId("states").querySelector(`[data-state="${focused}"]`)?.focus();
}

function agentRow(agent) {
  const now = Date.now() / 1000;
  const row = element("tr");
  row.append(element("td", `${SYMBOLS[agent.state] || "?"} ${agent.state}`, `state ${agent.state}`));
  const who = element("td", agent.name || agent.id, "agent");
  if (agent.name) who.append(element("small", agent.id, "mono"));
  if (agent.reason) who.append(element("small", agent.reason));
  if (agent.health !== "ok") who.append(element("small", "health: " + agent.health, "failing"));
  row.append(who, element("td", agent.handler, "handler mono"));
  row.append(element("td", agent.since === null ? "–" : span(now - agent.since), "since"));
  for (const figure of [agent.conversations, agent.inbox.available, agent.inbox.running, agent.inbox.dead]) {
    row.append(element("td", String(figure), "number"));
  }
  const expiry = agent.auth_expires_at;
  row.append(element("td", expiry === null ? "–" : expiry > now ? `${span(expiry - now)} left` : "expired", "token"));
  return row;
}

function showAgents() {
  const wanted = view.search.toLowerCase();
  const fits = view.agents.filter((agent) => (!view.state || agent.state === view.state)
    && (!wanted || `${agent.id} ${agent.name} ${agent.handler}`.toLowerCase().includes(wanted)));
  fits.sort((a, b) => WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state)
    || (a.name || a.id).localeCompare(b.name || b.id));
  byId("agents").replaceChildren(...fits.slice(0, MAX_ROWS).map(agentRow));
  const note = byId("empty");
  note.hidden = fits.length > 0 && fits.length <= MAX_ROWS;
  note.textContent = fits.length ? `Showing ${MAX_ROWS} of ${fits.length} agents; search to narrow them down.`
    : view.agents.length ? "No agent fits." : "No agents yet. Add one: supervisor agents add ID --handler echo --secret-env AGENT_SECRET";
}

function show() {
  byId("version").textContent = view.overview.version;
  showTiles();
  showProblems();
  showStates();
  showAgents();
}

function showLogin(visible) {
  byId("login").hidden = !visible;
  byId("fleet").hidden = visible || !view.overview;
  if (visible) health("signed out", "warn");
}

async function refresh() {
  try {
    [view.overview, view.agents] = await Promise.all([ask("/api/v1/status"), ask("/api/v1/agents")]);
    showLogin(false);
    show();
    return true;
  } catch (error) {
    if (error.message === "unauthorised") {
      byId("login-error").textContent = view.token ? "That token was refused." : "";
      view.token = "";
      sessionStorage.removeItem(KEY);
      showLogin(true);
      return false;
    }
    health(`no answer (${error.message})`, "bad");
    return true;
  }
}

async function poll() {
  const goOn = document.hidden || await refresh();
  if (goOn) setTimeout(poll, POLL_MS);
}

byId("search").addEventListener("input", (event) => {
  view.search = event.target.value;
  if (view.overview) showAgents();
});
byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  view.token = byId("token").value;
  byId("token").value = "";
  sessionStorage.setItem(KEY, view.token);
  poll();
});
poll();
