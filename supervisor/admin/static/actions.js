// What is done to agents and messages: asked for first where it cannot be undone, and told afterwards.

import { agentPath, ask, post } from "./api.js";
import { confirmed, toast, tried } from "./dialogs.js";
import { many } from "./dom.js";

const DONE = { pause: "paused", resume: "resumed", reload: "reloading", remove: "removed",
  replay: "replayed", discard: "discarded", cancel: "cancelled" };
const BACK = { pause: "resume", resume: "pause" };
const ASKED = {
  remove: ["Remove", "They go offline, and what waits for them is cancelled. Their rows are gone."],
  discard: ["Discard", "Nobody will look at them again; they get no answer."],
  cancel: ["Cancel", "Their handlers are stopped for good; they get no answer."],
};

function tell(what, action, { done, refused }, undo) {
  const refusals = Object.values(refused);
  if (done) toast(`${many(done, what)} ${DONE[action]}`, { undo });
  if (refusals.length) toast(`${many(refusals.length, what)} not ${DONE[action]}: ${refusals[0]}`, { bad: true });
}

/** Does the same to many; resolves to whether it was done. */
async function doToMany(what, path, action, ids, undo) {
  if (!ids.length) return false;
  if (ASKED[action]) {
    const [verb, text] = ASKED[action];
    if (!await confirmed(`${verb} ${many(ids.length, what)}?`, text, verb)) return false;
  }
  return tried(async () => tell(what, action, await post(path, { action, ids }), undo));
}

export function actOnAgents(action, ids, undoable = true) {
  const undo = undoable && BACK[action] ? () => actOnAgents(BACK[action], ids, false) : null;
  return doToMany("agent", "/api/v1/bulk/agents", action, ids, undo);
}

export const actOnMessages = (action, ids) => doToMany("message", "/api/v1/bulk/messages", action, ids, null);

export async function saveAgent(id, values, isNew) {
  if (isNew) await post("/api/v1/agents", { id, ...values });
  else await ask("PATCH", agentPath(id), values);
  toast(isNew ? "Agent added; it is on its way online" : "Changed; the agent follows at once");
}
