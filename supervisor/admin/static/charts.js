// Small charts of the last hour, drawn in SVG: one figure a minute.

import { h, span } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const MINUTES = 60;
const [WIDTH, HEIGHT] = [240, 56];

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The last hour's minutes, those without anything too, the oldest first. */
export function lastHour(minutes, now) {
  const first = Math.floor(now / 60) * 60 - (MINUTES - 1) * 60;
  const found = new Map(minutes.map((minute) => [minute.at, minute]));
  return Array.from({ length: MINUTES }, (_, index) => found.get(first + index * 60) || null);
}

function bars(values, highest, kind) {
  const step = WIDTH / MINUTES;
  return values.map((value, index) => {
    const height = highest ? Math.max(value ? 1.5 : 0, (value / highest) * (HEIGHT - 2)) : 0;
    return svg("rect", { x: index * step, y: HEIGHT - height, width: step - 1, height, class: kind });
  });
}

/** One chart: a title, the newest figures in words, and bars; who sees no picture hears the words. */
function chart(title, said, values, kind) {
  const highest = Math.max(0, ...values);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${title} in each minute of the last hour; ${said}` },
  svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5, class: "axis" }), ...bars(values, highest, kind));
  return h("figure", { class: "chart" }, h("figcaption", {}, h("span", {}, title), h("b", {}, said)), picture);
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** Rate, latency, errors and tokens. */
export function charts(minutes, now) {
  const hour = lastHour(minutes, now);
  const of = (field) => hour.map((minute) => (minute ? minute[field] : 0));
  const [answered, failed, latency] = [of("answered"), of("failed"), of("slowest_seconds")];
  const tokens = hour.map((minute) => (minute ? minute.input_tokens + minute.output_tokens : 0));
  const mean = sum(hour.map((minute) => (minute ? minute.latency_seconds * minute.answered : 0))) / (sum(answered) || 1);
  const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : value < 10 ? `${value.toFixed(1)} s` : span(value));
  return h("div", { class: "charts" },
    chart("Answers", `${sum(answered).toLocaleString("en")} in the hour`, answered, "good"),
    chart("Slowest answer", sum(answered) ? `mean ${seconds(mean)}, longest ${seconds(Math.max(...latency))}` : "none", latency, "busy"),
    chart("Failed attempts", `${sum(failed).toLocaleString("en")} in the hour`, failed, "bad"),
    chart("Tokens", `${sum(tokens).toLocaleString("en")} in the hour`, tokens, "accent"));
}
