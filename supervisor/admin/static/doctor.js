// The doctor, run from the page: what it finds and what to change.

import { post } from "./api.js";
import { tried } from "./dialogs.js";
import { button, card, h, table } from "./dom.js";

const SYMBOLS = { ok: "● ok", warn: "⚠ warn", fail: "✖ fail" };
const WORST_FIRST = ["fail", "warn", "ok"];

/** What the command would end with, and what that means; as its help says. */
const EXITS = { 0: "nothing failed", 3: "something is configured wrongly", 4: "refused by the platform", 5: "the platform is ill",
  6: "deaf: connected to where nothing is ever delivered", 7: "an agent that is online is failing or stuck" };

function outcome(findings) {
  const code = Math.min(...findings.map((one) => one.exit_code).filter(Boolean), Infinity);
  const exit = code === Infinity ? 0 : code;
  return h("p", { class: "outcome", role: "status" }, h("b", { class: exit ? "level-fail" : "level-ok" }, exit ? "✖ " : "● ", EXITS[exit]),
    " · ", h("code", {}, "supervisor doctor"), ` would end with ${exit}`);
}

/** Whom a finding concerns: a link to the one agent, or the words about several. */
function agentOf(text) {
  return /[ ,]/.test(text) ? text : h("a", { href: `/?agent=${encodeURIComponent(text)}` }, text);
}

export function findingsTable(findings) {
  const ordered = [...findings].sort((a, b) => WORST_FIRST.indexOf(a.level) - WORST_FIRST.indexOf(b.level));
  const rows = ordered.map((one) => [h("span", { class: `level level-${one.level}` }, SYMBOLS[one.level]), one.check,
    h("div", {}, one.agent ? h("b", { class: "mono" }, agentOf(one.agent), ": ") : null, one.text,
      one.advice ? h("p", { class: "advice" }, `→ ${one.advice}`) : null)]);
  return h("div", {}, outcome(findings), table([["Level"], ["Check"], ["What was found"]], rows, "Nothing was found."));
}

export function doctorView({ board }) {
  const body = h("div", {}, h("p", { class: "muted empty" }, board.access === "full"
    ? "Checks the deployment's settings, handlers and registry, each agent's row, handler, secret and token, and goes the way to the platform with up to twenty that are not online."
    : "A token that reads only may not send the doctor."));
  const run = button("Examine", async () => {
    run.disabled = true;
    body.replaceChildren(h("p", { class: "muted", role: "status" }, "Examining …"));
    await tried(async () => body.replaceChildren(findingsTable(await post("/api/v1/doctor"))));
    run.disabled = false;
  }, "first");
  return { title: "Doctor", element: card("Doctor", body, board.access === "full" ? [run] : []) };
}
