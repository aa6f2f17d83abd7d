// The doctor, run from the page: what it finds and what to change.

import { post } from "./api.js";
import { tried } from "./dialogs.js";
import { button, card, h, table } from "./dom.js";

const SYMBOLS = { ok: "● ok", warn: "⚠ warn", fail: "✖ fail" };
const WORST_FIRST = ["fail", "warn", "ok"];

export function findingsTable(findings) {
  const ordered = [...findings].sort((a, b) => WORST_FIRST.indexOf(a.level) - WORST_FIRST.indexOf(b.level));
  const rows = ordered.map((one) => [h("span", { class: `level-${one.level}` }, SYMBOLS[one.level]), one.check,
    h("div", {}, one.agent ? h("b", { class: "mono" }, `${one.agent}: `) : null, one.text,
      one.advice ? h("p", { class: "advice" }, `→ ${one.advice}`) : null)]);
  return table([["Level"], ["Check"], ["What was found"]], rows, "Nothing to find: there are no agents yet.");
}

export function doctorView({ board }) {
  const body = h("div", {}, h("p", { class: "muted empty" }, board.access === "full"
    ? "Checks each agent's row, handler, secret and token, and goes the way to the platform with up to twenty that are not online."
    : "A token that reads only may not send the doctor."));
  const run = button("Examine the fleet", async () => {
    run.disabled = true;
    body.replaceChildren(h("p", { class: "muted", role: "status" }, "Examining …"));
    await tried(async () => body.replaceChildren(findingsTable(await post("/api/v1/doctor"))));
    run.disabled = false;
  }, "first");
  return { title: "Doctor", element: card("Doctor", body, board.access === "full" ? [run] : []) };
}
