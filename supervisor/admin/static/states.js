// States and troubles: their symbols, and in which order a person should look at them.

export const SYMBOLS = {
  faulted: "▲", failing: "⚠", stuck: "◷", spent: "⊘", unknown: "?", rejected: "✖", backoff: "↻", registering: "◕", connecting: "◑",
  authenticating: "◔", draining: "◌", online: "●", paused: "‖", stopped: "○",
};
export const WORST_FIRST = Object.keys(SYMBOLS);
const NEED_SOMEBODY = ["faulted", "failing", "stuck", "spent", "unknown", "rejected"];

/** What an agent is shown as: its trouble where it is online and has one, else its state. */
export const standing = (agent) => agent.trouble || agent.state;

export const badge = (word) => `${SYMBOLS[word] || "?"} ${word}`;

/** Why an agent needs somebody, in a line; empty where it does not. */
export function reasonOf(agent, ageOf) {
  if (agent.reason) return agent.reason;
  if (agent.trouble === "stuck") return `oldest message ${ageOf(agent.oldest_at)}`;
  return agent.health === "ok" ? "" : agent.health;
}

/** All that an agent is, in the words of filters: its state, and what troubles it while it is online. */
export function conditions(agent) {
  // Of one whose replica does not answer nobody knows the state.
  const state = agent.trouble === "unknown" && !agent.paused ? null : agent.state;
  return new Set([state, agent.trouble, agent.health !== "ok" && "failing"].filter(Boolean));
}

/** How many agents are what. */
export function countConditions(agents) {
  const counts = {};
  for (const agent of agents) for (const word of conditions(agent)) counts[word] = (counts[word] || 0) + 1;
  return counts;
}

/** How much needs somebody: problems of the supervisor and agents that are not well. */
export function attention(overview) {
  const { agents, failing, stuck, spent, unknown, problems } = overview;
  return problems.length + (agents.faulted || 0) + (agents.rejected || 0) + failing + stuck + spent + unknown;
}

export const needsSomebody = (word) => NEED_SOMEBODY.includes(word);
