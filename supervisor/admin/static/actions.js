// What is done to agents and messages: asked for first where it cannot be undone, and told afterwards.

import { agentPath, ask, get, post } from "./api.js";
import { confirmed, toast, tried } from "./dialogs.js";
import { many } from "./dom.js";

const DONE = { pause: "paused", resume: "resumed", reload: "reloading", remove: "removed",
  replay: "replayed", discard: "discarded", cancel: "cancelled" };
const BACK = { pause: "resume", resume: "pause" };
const ASKED = {
  remove: "They go offline, and what waits for them is cancelled. Their rows can be restored for a day, under History.",
  discard: "Nobody will look at them again; they get no answer.",
  cancel: "Their handlers are stopped for good; they get no answer.",
};
/** More are counted, not named. */
const MOST_NAMES = 5;
const verb = (action) => action[0].toUpperCase() + action.slice(1);

function tell(what, action, { done, refused }, undo) {
  const refusals = Object.values(refused);
  if (done) toast(`${many(done, what)} ${DONE[action]}`, { undo });
  if (refusals.length) toast(`${many(refusals.length, what)} not ${DONE[action]}: ${refusals[0]}`, { bad: true });
}

/** What a person is asked before it is done to them: a few by their names. */
function question(action, what, ids, names) {
  const few = names.length === ids.length && names.length <= MOST_NAMES;
  return `${verb(action)} ${few ? names.join(", ") : many(ids.length, what)}?`;
}

/**
 * Does the same to many; resolves to whether it was done.
 *
 * With ``where`` it is done to all that match it: the supervisor counts them, the person is asked with that count, and
 * nothing is done where others match by then. ``names`` are what the person calls those of the ids.
 */
async function doToMany(what, path, action, { ids, where = null, undo = null, names = [] }) {
  let body = { action, ids };
  if (where) {
    let count = 0;
    if (!await tried(async () => { count = (await post(path, { action, where, dry_run: true })).matched; })) return false;
    body = { action, where, expected: count };
    if (!await confirmed(`${verb(action)} ${many(count, what)}?`, ASKED[action] || "All that match the filter, as the supervisor counts them now.", verb(action))) return false;
  } else if (!ids.length) {
    return false;
  } else if (ASKED[action] && !await confirmed(question(action, what, ids, names), ASKED[action], verb(action))) {
    return false;
  }
  return tried(async () => tell(what, action, await post(path, body), undo));
}

/**
 * Pauses, resumes, reloads or removes agents: those of some ids, or all that match ``where``.
 *
 * ``back`` are the ids of those that are others for it: only to them it is undone. ``names`` are those of the ids.
 */
export function actOnAgents(action, ids, { where = null, back = ids, names = [] } = {}) {
  const undo = !back.length ? null
    : BACK[action] ? () => actOnAgents(BACK[action], back, { back: [] })
      : action === "remove" ? () => restoreAgents(back) : null;
  return doToMany("agent", "/api/v1/bulk/agents", action, { ids, where, undo, names });
}

/** Replays, discards or cancels messages: those of some numbers, or all that match ``where``. */
export const actOnMessages = (action, ids, where = null) => doToMany("message", "/api/v1/bulk/messages", action, { ids, where });

/** Undoes removals; resolves to whether all of them are. */
export function restoreAgents(ids) {
  return tried(async () => {
    for (const id of ids) await post(agentPath(id, "/restore"));
    toast(`${many(ids.length, "agent")} restored`);
  });
}

/** Has a replica give its agents to the others, once the person confirms. */
export async function drainReplica(id) {
  const text = "Its agents go to the other replicas, one after the other and without a gap; it gets none until it is started anew.";
  if (!await confirmed(`Drain replica ${id}?`, text, "Drain")) return;
  await tried(async () => {
    await post(`/api/v1/replicas/${id}/drain`);
    toast(`Replica ${id} gives its agents to the others`);
  });
}

/** Has an agent be as it was after a change, once the person confirms; ``current`` is the version that it is at. */
export async function rollBack(id, version, current) {
  const text = "Its row becomes what it was after that change, and the agent follows at once. Secrets stay as they are: the history does not keep them.";
  if (!await confirmed(`Back to version ${version}?`, text, "Go back", "first")) return false;
  return tried(async () => {
    await post(agentPath(id, "/rollback"), { to: version });
    toast(`Back at version ${version}`, { undo: () => tried(async () => post(agentPath(id, "/rollback"), { to: current })) });
  });
}

/** Adds an agent or changes it; a change can be undone. */
export async function saveAgent(id, values, isNew) {
  if (isNew) {
    await post("/api/v1/agents", { id, ...values });
    toast("Agent added; it is on its way online", { undo: () => actOnAgents("remove", [id]) });
    return;
  }
  await ask("PATCH", agentPath(id), values);
  const [now, before] = (await get(agentPath(id, "/history"))).filter((event) => event.subject === "row");
  const undo = before && now.action === "changed"
    ? () => tried(async () => { await post(agentPath(id, "/rollback"), { to: before.id }); toast("Changed back"); }) : null;
  toast("Changed; the agent follows at once", { undo });
}
