// The page: which agents there are, which conversation is open, what was said in it.

import { ask, getToken } from "./requests.js";
import { ChatSocket } from "./socket.js";
import { dayOf, daySeparator, element, isFromPerson, messageElement, paintAvatar, unlocks, unseenThere } from "./view.js";

const byId = (id) => document.getElementById(id);
const ui = Object.fromEntries(
  [
    "shell", "profile", "connection", "search-row", "search", "agents", "no-agents", "no-match", "register-hint",
    "welcome", "thread", "back", "agent-avatar", "agent-name", "agent-state", "agent-id", "log", "newer", "typing",
    "typing-text", "notice", "form", "composer", "send", "locked",
  ].map((id) => [id, byId(id)]),
);

const SEARCH_FROM = 8;
const REFRESH_MS = 250;
const TYPING_REPEAT_MS = 2500;
const TYPING_IDLE_MS = 4000;
// Any typing of an agent, on or off, shows dots for so long: 3 to 10 s in the platform's widgets.
const DOTS_MS = 5000;

const state = {
  info: null,
  socket: null,
  agents: new Map(),
  selected: null,
  conversations: new Map(), // agent id -> conversation id
  owners: new Map(), // conversation id -> agent id
  unread: new Map(), // agent id -> number
  locked: new Set(), // conversation ids in which the platform's widget would not let the person write
  shown: new Set(), // message ids in the open conversation
  lastDay: "",
  opening: 0,
  arrived: null, // messages that came while the open conversation's history is on its way
  sendWhenOpen: null, // the agent to whom the written message goes as soon as the conversation is open
};

// Agents

let refreshTimer = 0;

function refreshSoon() {
  if (!refreshTimer) refreshTimer = setTimeout(refresh, REFRESH_MS);
}

async function refresh() {
  refreshTimer = 0;
  try {
    const { agents } = await ask("GET", "/sandbox/agents");
    state.agents = new Map(agents.map((agent) => [agent.id, agent]));
    drawAgents();
    drawHead();
  } catch {
    // The sandbox is restarting; the socket's return asks again.
  }
}

function drawAgents() {
  const wanted = ui.search.value.trim().toLowerCase();
  const all = [...state.agents.values()].sort(
    (left, right) => right.online - left.online || left.name.localeCompare(right.name, undefined, { numeric: true }),
  );
  const matching = all.filter((agent) => `${agent.name} ${agent.id}`.toLowerCase().includes(wanted));
  const focused = document.activeElement?.dataset?.agent;
  ui.agents.replaceChildren(...matching.map(agentRow));
  if (focused) ui.agents.querySelector(`[data-agent="${CSS.escape(focused)}"]`)?.focus();
  ui["search-row"].hidden = all.length < SEARCH_FROM;
  ui["no-agents"].hidden = all.length > 0;
  ui["no-match"].hidden = all.length === 0 || matching.length > 0;
}

function agentRow(agent) {
  const avatar = element("span", { class: "avatar", "aria-hidden": "true" });
  paintAvatar(avatar, agent);
  const unread = state.unread.get(agent.id) ?? 0;
  const word = agent.online ? "online" : "offline";
  const button = element(
    "button",
    {
      type: "button",
      class: "agent",
      "data-agent": agent.id,
      "data-testid": `agent-${agent.id}`,
      "data-online": String(agent.online),
      "aria-current": agent.id === state.selected ? "true" : null,
    },
    avatar,
    element("span", { class: "agent-text" }, element("strong", {}, agent.name), element("small", {}, word)),
    unread ? element("span", { class: "badge", "aria-label": `${unread} unread` }, String(unread)) : null,
  );
  button.addEventListener("click", () => select(agent.id, { focus: true }));
  return element("li", {}, button);
}

function drawHead() {
  const agent = state.agents.get(state.selected);
  if (!agent) return;
  ui["agent-name"].textContent = agent.name;
  ui["agent-id"].textContent = agent.id;
  ui["agent-state"].textContent = agent.online ? "online" : "offline: it will find your message when it returns";
  ui["agent-state"].dataset.online = String(agent.online);
  paintAvatar(ui["agent-avatar"], agent);
  document.title = `${agent.name} · AIWM sandbox`;
}

// Conversations

async function select(agentId, { focus = false } = {}) {
  state.selected = agentId;
  state.sendWhenOpen = null;
  state.unread.delete(agentId);
  ui.shell.dataset.view = "thread";
  ui.welcome.hidden = true;
  ui.thread.hidden = false;
  const address = new URL(location.href);
  address.searchParams.set("agent", agentId);
  history.replaceState(null, "", address);
  hideDots();
  drawLocked();
  notice("");
  drawAgents();
  drawHead();
  updateSend();
  await openConversation(agentId);
  if (focus) ui.composer.focus();
}

async function openConversation(agentId) {
  const turn = ++state.opening;
  // What comes while the history is on its way may be missing from it.
  const arrived = (state.arrived = []);
  try {
    const conversationId = await enter(agentId);
    state.conversations.set(agentId, conversationId);
    state.owners.set(conversationId, agentId);
    drawLocked();
    const { messages } = await ask("GET", `/sandbox/conversations/${conversationId}/messages`);
    if (turn !== state.opening || state.selected !== agentId) return;
    clearLog();
    [...messages, ...arrived].forEach((message) => addMessage(message));
    if (!messages.length && !arrived.length) ui.log.append(emptyThread());
    notice("");
    scrollDown();
    updateSend();
    if (state.sendWhenOpen === agentId) send();
  } catch (error) {
    if (turn === state.opening) notice(`Cannot open the conversation: ${error.message}`);
  } finally {
    if (turn === state.opening) state.arrived = null;
  }
}

// v1 has one conversation an agent, which a person joins; later ones make one for each pair.
async function enter(agentId) {
  if (state.info.profile !== "v1") {
    const answer = await state.socket.emit("agent:connect", { agentId });
    if (!answer.success) throw new Error(answer.error);
    return answer.conversationId;
  }
  const { conversationId } = await ask("POST", `/sandbox/agents/${agentId}/conversation`, {});
  const answer = await state.socket.emit("conversation:join", { conversationId });
  if (!answer.success) throw new Error(answer.error);
  return conversationId;
}

function clearLog() {
  ui.log.replaceChildren();
  state.shown.clear();
  state.lastDay = "";
  ui.newer.hidden = true;
}

function emptyThread() {
  const name = state.agents.get(state.selected)?.name ?? "this agent";
  return element("p", { class: "quiet start", "data-testid": "empty-thread" }, `Nothing said yet. Say hello to ${name}.`);
}

function addMessage(message) {
  if (message._id && state.shown.has(message._id)) return;
  if (message._id) state.shown.add(message._id);
  ui.log.querySelector(".start")?.remove();
  const date = message.createdAt ? new Date(message.createdAt) : new Date();
  if (dayOf(date) !== state.lastDay) {
    state.lastDay = dayOf(date);
    ui.log.append(daySeparator(date));
  }
  ui.log.append(messageElement(message, date, state.info.profile));
}

function isAtBottom() {
  return ui.log.scrollHeight - ui.log.scrollTop - ui.log.clientHeight < 80;
}

function scrollDown() {
  ui.log.scrollTop = ui.log.scrollHeight;
  ui.newer.hidden = true;
}

function receive(message) {
  const owner = state.owners.get(message.conversationId);
  if (!owner) return;
  const fromPerson = isFromPerson(message);
  if (unlocks(message, state.info.profile)) setLocked(message.conversationId, false);
  if (owner !== state.selected) {
    if (!fromPerson) state.unread.set(owner, (state.unread.get(owner) ?? 0) + 1);
    drawAgents();
    return;
  }
  const follow = fromPerson || isAtBottom();
  if (!fromPerson && !unseenThere(message, state.info.profile)) hideDots();
  state.arrived?.push(message);
  addMessage(message);
  if (follow) scrollDown();
  else ui.newer.hidden = false;
}

let dotsTimer = 0;

function showDots() {
  clearTimeout(dotsTimer);
  const follow = isAtBottom();
  ui.typing.hidden = false;
  ui["typing-text"].textContent = `${state.agents.get(state.selected)?.name ?? "The agent"} is typing`;
  dotsTimer = setTimeout(hideDots, DOTS_MS);
  if (follow) scrollDown();
}

function hideDots() {
  clearTimeout(dotsTimer);
  ui.typing.hidden = true;
}

// The widget locks its input; this page only says so, that much can be tried at once.
function setLocked(conversationId, isLocked) {
  if (isLocked) state.locked.add(conversationId);
  else state.locked.delete(conversationId);
  drawLocked();
}

function drawLocked() {
  ui.locked.hidden = !state.locked.has(state.conversations.get(state.selected));
}

function notice(text) {
  ui.notice.textContent = text;
  ui.notice.hidden = !text;
}

// Writing

function updateSend() {
  ui.send.disabled = !(state.socket?.connected && state.conversations.has(state.selected) && ui.composer.value.trim());
}

function fitComposer() {
  ui.composer.style.setProperty("height", "auto");
  ui.composer.style.setProperty("height", `${Math.min(ui.composer.scrollHeight + 2, 200)}px`);
}

async function send() {
  const content = ui.composer.value.trim();
  const agentId = state.selected;
  const conversationId = state.conversations.get(agentId);
  // Whoever writes faster than the conversation opens need not press Enter again.
  state.sendWhenOpen = content && !(conversationId && state.socket?.connected) ? agentId : null;
  if (!content || state.sendWhenOpen) return;
  ui.composer.value = "";
  fitComposer();
  updateSend();
  notice("");
  tellTyping(false);
  setLocked(conversationId, true);
  try {
    const answer = await state.socket.emit("message:send", { conversationId, role: "user", content });
    if (!answer.success) throw new Error(answer.error);
  } catch (error) {
    setLocked(conversationId, false);
    if (agentId === state.selected && !ui.composer.value) ui.composer.value = content;
    fitComposer();
    updateSend();
    notice(`Not sent: ${error.message}`);
  }
}

let toldTypingAt = 0;
let idleTimer = 0;

function tellTyping(isTyping) {
  clearTimeout(idleTimer);
  const now = Date.now();
  if (isTyping) idleTimer = setTimeout(() => tellTyping(false), TYPING_IDLE_MS);
  if (isTyping ? now - toldTypingAt < TYPING_REPEAT_MS : toldTypingAt === 0) return;
  toldTypingAt = isTyping ? now : 0;
  const conversationId = state.conversations.get(state.selected);
  if (conversationId) state.socket.emit("message:typing", { conversationId, isTyping }).catch(() => {});
}

// Events of the platform

const handlers = {
  "message:new": receive,
  "agent:typing": (update) => {
    if (state.owners.get(update.conversationId) === state.selected) showDots();
  },
  // Presence names an agent, not a socket: an "offline" may be an old socket's, so the list is asked for anew.
  "presence:update": (update) => update.type === "agent" && refreshSoon(),
};

async function stateChanged(connection) {
  ui.connection.dataset.state = connection;
  ui.connection.textContent = connection;
  updateSend();
  if (connection !== "live") return;
  await refresh();
  if (state.selected) await openConversation(state.selected);
}

// Wiring

ui.form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
ui.composer.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
ui.composer.addEventListener("input", () => {
  fitComposer();
  updateSend();
  if (ui.composer.value.trim()) tellTyping(true);
});
ui.search.addEventListener("input", drawAgents);
ui.newer.addEventListener("click", scrollDown);
ui.log.addEventListener("scroll", () => {
  if (isAtBottom()) ui.newer.hidden = true;
});
ui.back.addEventListener("click", () => {
  ui.shell.dataset.view = "agents";
  ui.agents.querySelector("[aria-current]")?.focus();
});

async function begin() {
  state.info = await ask("GET", "/sandbox/info");
  const stage = state.info.stage ? ` (${state.info.stage})` : "";
  ui.profile.textContent = `Profile ${state.info.profile}${stage} · ${location.host}`;
  ui["register-hint"].textContent =
    `curl ${location.origin}/sandbox/agents -d '{"id": "${"a".repeat(24)}", "secret": "…", "name": "Ada"}'`;
  await refresh();
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  state.socket = new ChatSocket({
    url: `${scheme}://${location.host}${state.info.enginePath}/?EIO=4&transport=websocket`,
    namespace: state.info.namespace,
    getToken,
  });
  state.socket.addEventListener("event", ({ detail }) => handlers[detail.name]?.(detail.payload));
  state.socket.addEventListener("state", ({ detail }) => stateChanged(detail.state));
  const linked = new URLSearchParams(location.search).get("agent");
  state.socket.connect();
  if (linked) {
    await new Promise((resolve) => {
      const ready = ({ detail }) => {
        if (detail.state !== "live") return;
        state.socket.removeEventListener("state", ready);
        resolve();
      };
      state.socket.addEventListener("state", ready);
    });
    if (state.agents.has(linked)) await select(linked, { focus: true });
    else await linkedLater(linked);
  }
}

// A link to an agent that is not registered yet works as soon as it is.
async function linkedLater(agentId) {
  await refresh();
  if (state.selected) return;
  if (state.agents.has(agentId)) await select(agentId, { focus: true });
  else setTimeout(() => linkedLater(agentId), 1000);
}

begin().catch((error) => {
  ui.connection.dataset.state = "reconnecting";
  ui.connection.textContent = "offline";
  ui.welcome.append(element("p", { class: "notice", role: "alert" }, `The sandbox does not answer: ${error.message}`));
});
