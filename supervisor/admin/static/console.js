// The console: who is signed in, which page is shown, and the board that all pages read.

import { SignedOut, ask, get, post } from "./api.js";
import { byId, h, setText } from "./dom.js";
import { agentView } from "./agent.js";
import { doctorView } from "./doctor.js";
import { fleetView } from "./fleet.js";
import { formView } from "./form.js";
import { historyView } from "./history.js";
import { messagesView } from "./messages.js";
import { attention } from "./states.js";
import { usageView } from "./usage.js";

const VIEWS = { fleet: fleetView, messages: messagesView, usage: usageView, history: historyView, doctor: doctorView, agent: agentView, form: formView };

/** What all pages know: agents by id and the overview, as the board last told; access: "full" or "read". */
const board = { agents: new Map(), overview: null, access: null, stream: null };
const HIDDEN_LOOK_MS = 15_000;
let shown = null;
let coming = null;
let looking = null;

function health(text, kind) {
  setText(byId("health"), text);
  byId("health").className = `pill ${kind}`;
}

function showOverview() {
  const { overview } = board;
  const count = attention(overview);
  const name = overview.deployment || "Supervisor";
  document.title = `${count ? `(${count}) ` : ""}${shown?.title ? `${shown.title} · ` : ""}${name}`;
  const icon = count ? `/favicon-${Math.min(count, 9)}.svg` : "/static/favicon.svg";
  if (byId("icon").getAttribute("href") !== icon) byId("icon").href = icon;
  byId("deployment").hidden = !overview.deployment;
  setText(byId("deployment"), overview.deployment);
  const reads = board.access === "read" ? " · you may look, and change nothing" : "";
  setText(byId("where"), `Version ${overview.version} · ${overview.registry} · pid ${overview.pid}${reads}`);
  if (overview.problems.length) health("not ready", "bad");
  else if (count || overview.notices.length) health(count ? `ready, ${count} need you` : "ready, with notices", "warn");
  else health("ready", "good");
}

function take(change) {
  if (change.first) coming = new Map();
  const agents = coming || board.agents;
  for (const agent of change.agents) agents.set(agent.id, agent);
  for (const id of change.gone) agents.delete(id);
  board.overview = change.overview;
  if (change.more) return;
  if (coming) [board.agents, coming] = [coming, null];
  // Pages begin with what the board knows: names and states.
  if (!shown) route();
  showOverview();
  shown.update?.();
}

function follow() {
  board.stream?.close();
  if (document.hidden) return rest();
  clearInterval(looking);
  board.stream = new EventSource("/api/v1/board");
  board.stream.addEventListener("board", (event) => take(JSON.parse(event.data)));
  board.stream.addEventListener("error", async () => {
    health("no answer; trying again", "bad");
    if (board.stream.readyState !== EventSource.CLOSED) return;
    // Refused rather than cut: somebody has to sign in, or there is no room.
    if (await signedIn()) setTimeout(follow, 3000);
  });
}

/** A hidden tab holds no stream, since a browser has six connections for all tabs of a host; its title and icon stay true. */
function rest() {
  shown?.rest?.();
  clearInterval(looking);
  looking = setInterval(look, HIDDEN_LOOK_MS);
  look();
}

async function look() {
  try {
    board.overview = await get("/api/v1/status");
    showOverview();
  } catch (error) {
    if (error instanceof SignedOut) throw error;
    health("no answer; trying again", "bad");
  }
}

document.addEventListener("visibilitychange", () => {
  if (board.access === null) return;
  follow();
  if (!document.hidden) shown?.wake?.();
});

async function signedIn() {
  const { access, token_required: required } = await get("/session").catch(() => ({ access: board.access }));
  board.access = access;
  byId("login").hidden = access !== null;
  byId("pages").hidden = access === null;
  byId("sign-out").hidden = access === null || !required;
  byId("view").hidden = access === null;
  if (access === null) {
    // Nothing that was to be seen stays, and nothing is asked any more.
    clearInterval(looking);
    board.stream?.close();
    shown?.close?.();
    shown = null;
    byId("view").replaceChildren();
    health("signed out", "warn");
    byId("token").focus();
  }
  return access !== null;
}

function route() {
  const query = new URLSearchParams(location.search);
  const name = query.get("edit") !== null || query.get("view") === "add" ? "form"
    : query.get("agent") !== null ? "agent" : query.get("view") || "fleet";
  const view = VIEWS[name] ? name : "fleet";
  for (const link of byId("pages").children) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  shown?.close?.();
  shown = VIEWS[view]({ board, query, go });
  byId("view").replaceChildren(shown.element);
  showOverview();
  shown.update?.();
}

/** Goes to another page of the console. */
function go(path) {
  history.pushState(null, "", path);
  route();
  byId("main").focus({ preventScroll: true });
  scrollTo(0, 0);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  const own = link && (link.pathname === "/") && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
  if (!own) return;
  event.preventDefault();
  go(link.href);
});
addEventListener("popstate", () => shown && route());
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof SignedOut) {
    event.preventDefault();
    signedIn();
  }
});
/** Who signs out in one tab is signed out in all of them. */
const session = new BroadcastChannel("session");
session.addEventListener("message", signedIn);
byId("sign-out").addEventListener("click", async () => {
  await ask("DELETE", "/session");
  session.postMessage("ended");
  await signedIn();
});
byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = byId("token").value;
  try {
    await post("/session", { token });
    byId("token").value = "";
    setText(byId("login-error"), "");
    await begin();
  } catch (error) {
    setText(byId("login-error"), error.message);
  }
});

async function begin() {
  if (!await signedIn()) return;
  byId("view").replaceChildren(h("p", { class: "muted" }, "Reading the fleet …"));
  shown?.close?.();
  shown = null;
  follow();
}

begin();
