// What agents used of language models, and what it cost.

import { get, withQuery } from "./api.js";
import { card, h, table } from "./dom.js";

const figure = (value) => value.toLocaleString("en");

const money = (value, currency) => value.toLocaleString("en",
  { style: "currency", currency, minimumFractionDigits: 2, maximumFractionDigits: value < 1 ? 4 : 2 });

function cost(record, currency) {
  if (record.requests && record.unpriced_requests >= record.requests) return "no price";
  return `${record.unpriced_requests ? "≥ " : ""}${money(record.cost, currency)}`;
}

export function usageTable(records, board, withAgent = true) {
  const columns = [["Day (UTC)"], ...(withAgent ? [["Agent"]] : []), ["Model", "mono"], ["Requests", "number"], ["Input", "number"],
    ["Cached", "number"], ["Output", "number"], ["Cost", "number"]];
  const ordered = [...records].sort((a, b) => (a.day < b.day ? 1 : a.day > b.day ? -1 : b.cost - a.cost));
  const rows = ordered.map((record) => [record.day,
    ...(withAgent ? [h("a", { href: `/?agent=${encodeURIComponent(record.agent_id)}` }, board.agents.get(record.agent_id)?.name || record.agent_id)] : []),
    record.model, figure(record.requests), `${record.estimated_requests ? "~" : ""}${figure(record.input_tokens)}`, figure(record.cached_tokens),
    figure(record.output_tokens), cost(record, board.overview.currency)]);
  return table(columns, rows, "Nothing was used: handlers report it with ctx.usage() or Reply(usage=…).");
}

export function usageView({ board, query, go }) {
  const days = Number(query.get("days")) || 7;
  const body = h("div", {}, h("p", { class: "muted" }, "Reading …"));
  const choice = h("select", { "aria-label": "How far back", onchange: () => go(withQuery("/", { view: "usage", days: choice.value })) },
    [1, 7, 30, 90].map((count) => h("option", { value: count, selected: count === days }, count === 1 ? "today (UTC)" : `${count} days`)));
  const show = async () => {
    const records = await get(withQuery("/api/v1/usage", { days }));
    const sum = (field) => records.reduce((total, record) => total + record[field], 0);
    const figures = [[figure(sum("requests")), "requests"], [figure(sum("input_tokens")), "input tokens"], [figure(sum("output_tokens")), "output tokens"],
      [cost({ cost: sum("cost"), requests: sum("requests"), unpriced_requests: sum("unpriced_requests") }, board.overview.currency),
        "cost, by the configured prices"]];
    body.replaceChildren(h("div", { class: "tiles" }, figures.map(([value, label]) => h("div", { class: "tile" }, h("b", {}, value), h("span", {}, label)))),
      usageTable(records, board));
  };
  show().catch((error) => body.replaceChildren(h("p", { class: "bad" }, error.message)));
  return { title: "Usage", element: card("Usage and cost", body, [choice]) };
}
