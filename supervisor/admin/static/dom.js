// Elements and words. Everything from outside goes into the page as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is a string is text, one that is null is left out. */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Sets the text of an element where it differs: what is selected in it stays so otherwise. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A duration in one figure: "42 s", "3 min", "5 h", "2 d". */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (whole >= size) return `${Math.floor(whole / size)} ${unit}`;
  }
  return `${whole} s`;
}

export const now = () => Date.now() / 1000;
export const ago = (at) => (at === null || at === undefined ? "–" : span(now() - at));
export const many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** A moment, by the clock of whoever looks: its time of day, with the date where it was another day; in full it names the zone. */
export function moment(at) {
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  const shown = today ? date.toLocaleTimeString() : date.toLocaleString();
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString([], { dateStyle: "medium", timeStyle: "long" }) }, shown);
}

/** A part of a page under a title, with what can be done to it beside the title. */
export function card(title, content, tools = []) {
  return h("section", { class: "card", "aria-label": title },
    h("div", { class: "row spread" }, h("h2", {}, title), h("div", { class: "row" }, tools)), content);
}

export function button(text, onclick, kind = "") {
  return h("button", { type: "button", class: kind, onclick }, text);
}

/** A table of rows of cells; columns are [title, kind]. What has no row says what to do instead. */
export function table(columns, rows, empty) {
  if (!rows.length) return h("p", { class: "muted empty" }, empty);
  const head = columns.map(([title, kind = ""]) => (title ? h("th", { scope: "col", class: kind }, title) : h("td", {})));
  const body = rows.map((cells) => h("tr", {}, cells.map((cell, index) => {
    const [title, kind = ""] = columns[index];
    return h("td", { class: kind, "data-title": title }, cell);
  })));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" },
    h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}
