// The supervisors that share the registry: how each is, how many agents it runs, and the way to empty one.

import { drainReplica } from "./actions.js";
import { ago, button, card, h, table } from "./dom.js";

const SYMBOLS = { living: "● living", draining: "◌ draining", silent: "✖ silent" };
const COLUMNS = [["Replica"], ["State"], ["Agents online"], ["Host"], ["Version"], ["Up"], [""]];

function row(one, full) {
  const silent = one.state === "silent";
  return [`${one.id}${one.me ? ", which you look at" : ""}`,
    h("div", {}, h("b", { class: one.state }, SYMBOLS[one.state] || one.state), one.reason ? h("small", {}, one.reason) : null),
    one.online === null || silent ? `? of ${one.agents}` : `${one.online} of ${one.agents}`,
    one.host ? `${one.host}, pid ${one.pid}` : "–", one.version || "–", silent ? `last heard of ${ago(one.heard_at)} ago` : ago(one.started_at || null),
    full && one.state === "living" ? button("Drain", () => drainReplica(one.id)) : null];
}

/** Shown where several share the registry; made anew where something about them changed, so that nothing moves else. */
export class Replicas {
  constructor(full) {
    this.full = full;
    this.element = h("div", {});
  }

  update(replicas) {
    // Their ages change all the time, and are not worth it.
    const key = JSON.stringify(replicas.map(({ beat_age_seconds: _beat, heard_at: _heard, ...one }) => one));
    if (key === this.told) return;
    this.told = key;
    const rows = replicas.map((one) => row(one, this.full));
    this.element.replaceChildren(...(rows.length < 2 ? [] : [card("Replicas", table(COLUMNS, rows, ""))]));
  }
}
