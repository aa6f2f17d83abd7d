// Messages as elements. Everything that comes from the platform goes in as text, never as markup.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const number = new Intl.NumberFormat();

const EMPTY_TYPES = new Set([undefined, null, "text", "message"]);
const SEEN_LATER = new Set(["system", "notice", "error"]);

// element("p", {class: "x", "data-a": 1}, child, "text") with children that are nodes, strings, or nothing.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// Neighbouring ids get distant hues: a hash, turned by the golden angle.
export function hueOf(id) {
  let hash = 2166136261;
  for (const character of String(id)) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  return Math.round(((hash >>> 8) * 137.508) % 360);
}

export function initials(name) {
  const words = String(name).trim().split(/\s+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...word][0] ?? "").join("").toUpperCase() || "?";
}

export function paintAvatar(avatar, agent) {
  avatar.textContent = initials(agent.name);
  avatar.style.setProperty("--hue", hueOf(agent.id));
}

export function dayOf(date) {
  return date.toDateString();
}

export function daySeparator(date) {
  const today = new Date();
  const yesterday = new Date(today);
  yesterday.setDate(today.getDate() - 1);
  const names = { [today.toDateString()]: "Today", [yesterday.toDateString()]: "Yesterday" };
  return element("p", { class: "day" }, element("span", {}, names[dayOf(date)] ?? calendar.format(date)));
}

function seconds(milliseconds) {
  if (typeof milliseconds !== "number" || !Number.isFinite(milliseconds)) return "";
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

function pretty(value) {
  let parsed = value;
  if (typeof value === "string") {
    try {
      parsed = JSON.parse(value);
    } catch {
      return value;
    }
  }
  return typeof parsed === "string" ? parsed : JSON.stringify(parsed, null, 2) ?? String(parsed);
}

function thought(content, duration) {
  const took = seconds(duration);
  return element(
    "details",
    { class: "thinking", "data-testid": "thinking" },
    element("summary", {}, took ? `Thought for ${took}` : "Thought about it"),
    element("p", { class: "text" }, String(content ?? "")),
  );
}

function toolCall(call) {
  const name = call?.function?.name ?? "a tool";
  return element(
    "section",
    { class: "tool", "data-testid": "tool-call", "aria-label": `Tool call: ${name}` },
    element("header", {}, element("span", { class: "tool-kind" }, "call"), element("code", {}, String(name))),
    element("pre", { tabindex: "0" }, pretty(call?.function?.arguments ?? "")),
  );
}

function toolResult(result) {
  const failed = result?.success === false;
  const name = String(result?.toolName ?? "a tool");
  return element(
    "section",
    { class: failed ? "tool failed" : "tool", "data-testid": "tool-result", "aria-label": `Tool result: ${name}` },
    element(
      "header",
      {},
      element("span", { class: "tool-kind" }, failed ? "failed" : "result"),
      element("code", {}, name),
      element("span", { class: "took" }, seconds(result?.executionTime)),
    ),
    element("pre", { tabindex: "0" }, pretty(failed && result.error ? result.error : result?.result)),
  );
}

// An address (v1, v2) or an object with a name and perhaps an address (v3).
function attachment(given) {
  const isObject = given !== null && typeof given === "object";
  const address = String((isObject ? given.url : given) ?? "");
  const name = String((isObject ? given.filename ?? given.name : null) ?? address);
  const safe = /^https?:\/\//i.test(address);
  const shown = safe
    ? element("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, name)
    : element("code", {}, name);
  return element("li", {}, shown);
}

// What an answer rests on: v2 passes it on, v3 keeps it and shows it to nobody live.
function sources(given) {
  const item = (source) => {
    const name = String(source?.label ?? source?.url ?? source?.toolName ?? source?.type ?? "");
    const link = attachment({ url: source?.url, name });
    link.append(element("p", { class: "text" }, String(source?.content ?? "")));
    return link;
  };
  return element(
    "details",
    { class: "sources", "data-testid": "sources" },
    element("summary", {}, `Sources (${given.length})`),
    element("ul", { class: "attachments" }, ...given.map(item)),
  );
}

function footer(message, date) {
  const usage = message.usage;
  const parts = [];
  if (usage && typeof usage === "object") {
    parts.push(
      element(
        "span",
        { "data-testid": "usage", title: "Tokens in, out, in all" },
        `${number.format(usage.promptTokens ?? 0)} in · ${number.format(usage.completionTokens ?? 0)} out · ` +
          `${number.format(usage.totalTokens ?? 0)} tokens`,
      ),
    );
  }
  const latency = seconds(message.latency);
  if (latency) parts.push(element("span", { title: "Time to the answer" }, latency));
  parts.push(element("time", { datetime: date.toISOString(), title: full.format(date) }, clock.format(date)));
  return element("footer", {}, ...parts);
}

// Whether a person wrote it: v1 names the sender, v2 only the role.
export function isFromPerson(message) {
  return message.sender ? message.sender === "user" : message.role === "user";
}

// Why the platform's own widget would not draw a message; empty for one that it draws. What v1 stores without a type
// comes with the type "text".
export function unseenThere(message, profile) {
  const type = message.type ?? "message";
  if (isFromPerson(message) || type === "message" || (profile === "v1" && type === "text")) return "";
  return SEEN_LATER.has(type) ? `type ${type}: widgets before August 2026 hide it` : `type ${type}`;
}

// Whether the widget lets its person write again.
export function unlocks(message, profile) {
  return message.isFinal === true || (!isFromPerson(message) && !unseenThere(message, profile));
}

export function messageElement(message, date, profile) {
  const list = (value) => (Array.isArray(value) ? value : []);
  const isTool = list(message.toolCalls).length > 0 || list(message.toolResults).length > 0;
  const kind = message.type ?? (isTool ? "tool" : "text");
  const content = String(message.content ?? "");
  const parts = [];
  if (message.thinking?.content) parts.push(thought(message.thinking.content, message.thinking.duration));
  if (message.type === "thinking") parts.push(message.thinking?.content ? null : thought(content));
  else if (content.trim()) parts.push(element("p", { class: isTool ? "text aside" : "text" }, content));
  if (message.type === "error") parts.unshift(element("strong", { class: "error-label" }, "Error"));
  parts.push(...list(message.toolCalls).map(toolCall), ...list(message.toolResults).map(toolResult));
  const attachments = list(message.attachments);
  if (attachments.length) parts.push(element("ul", { class: "attachments" }, ...attachments.map(attachment)));
  if (list(message.sources).length) parts.push(sources(message.sources));
  if (message.error && message.error !== content) {
    parts.push(
      element("details", { class: "cause" }, element("summary", {}, "Details"), element("pre", {}, String(message.error))),
    );
  }
  const unseen = unseenThere(message, profile);
  if (unseen) parts.unshift(element("p", { class: "unseen-label", "data-testid": "unseen" }, `Not shown on the platform (${unseen})`));
  return element(
    "article",
    {
      class: unseen ? "message unseen" : "message",
      "data-testid": "message",
      "data-role": message.role ?? "",
      "data-type": EMPTY_TYPES.has(message.type) && !isTool ? "text" : kind,
      "data-from": isFromPerson(message) ? "person" : "agent",
      "data-id": message._id,
    },
    ...parts,
    footer(message, date),
  );
}
