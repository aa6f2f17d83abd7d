"use strict";
/**
 * The gateway that every client is measured against: `node gateway.js PING_SECONDS [KEY.pem CERT.pem]`.
 *
 * It listens on a free port of the loopback and is told what to do by lines of JSON on stdin, `{"id", "command", …}`;
 * each is answered on stdout by `{"id", …}` or `{"id", "error"}`. It ends when its stdin does.
 */

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const readline = require("node:readline");
const { Server } = require("socket.io");
const { Platform, OBJECT_ID, confirmRead, conversationOf, nowNs } = require("./platform.js");

const HOST = "127.0.0.1";
const BACKLOG = 4096; // as many agents may connect in the same instant
const MAX_BODY_BYTES = 10_000;
const MAX_TRIPS = 1_000_000;
const MAX_WAIT_MS = 600_000;

function answer(response, status, body) {
  response.writeHead(status, { "content-type": "application/json; charset=utf-8" });
  response.end(JSON.stringify(body));
}

function failure(request, response, status, message) {
  const timestamp = new Date().toISOString();
  answer(response, status, { statusCode: status, message, timestamp, path: request.url, correlationId: "benchmark" });
}

/** The platform's HTTP side; anything else is a 404, which clients must take as "not there". */
function route(platform, request, response, body) {
  const path = request.url.split("?")[0];
  const [, agentId, verb] = /^\/agents\/([^/]+)\/(connect|heartbeat|disconnect)$/.exec(path) ?? [];
  if (request.method === "POST" && verb === "connect") {
    if (!OBJECT_ID.test(agentId)) failure(request, response, 500, "Internal server error");
    else if (!body?.secret) failure(request, response, 401, "Invalid credentials");
    else answer(response, 201, platform.issueToken(agentId));
  } else if (request.method === "POST" && verb) {
    answer(response, 201, { success: true });
  } else if (request.method === "GET" && path.startsWith("/messages/conversation/")) {
    answer(response, 200, { data: [], total: 0, page: 1, limit: 10 });
  } else {
    failure(request, response, 404, `Cannot ${request.method} ${path}`);
  }
}

function serveHttp(platform, request, response) {
  if (request.url.startsWith("/socket.io/")) return; // Engine.IO's own
  let text = "";
  request.setEncoding("utf8");
  request.on("data", (chunk) => {
    text += chunk;
    if (text.length > MAX_BODY_BYTES) request.destroy();
  });
  request.on("end", () => {
    let body = null;
    try {
      body = JSON.parse(text || "null");
    } catch {
      failure(request, response, 400, "Bad Request");
      return;
    }
    route(platform, request, response, body);
  });
}

/** Resolve when `ready()` holds, asked again at every change of the platform; reject after `timeoutMs`. */
function until(platform, ready, timeoutMs, what) {
  return new Promise((resolve, reject) => {
    const before = platform.onChange;
    const settle = (finish) => {
      clearTimeout(timer);
      platform.onChange = before;
      finish();
    };
    const late = () => settle(() => reject(new Error(`${what()} after ${timeoutMs} ms`)));
    const timer = setTimeout(late, Math.min(timeoutMs, MAX_WAIT_MS));
    platform.onChange = () => ready() && settle(resolve);
    platform.onChange();
  });
}

function quantile(sorted, share) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] : null;
}

/**
 * A closed loop: each agent has at most `inFlight` messages unanswered, and gets the next when one is answered. With
 * `perSecond`, an open one: messages are due at that rate, the agents in turn, whatever is unanswered, and a latency
 * counts from the moment that its message was due.
 *
 * A reply counts when it repeats the message it answers; any other message of an agent is a stray.
 */
class RoundTrips {
  constructor(platform, { agents, trips, inFlight, perSecond }) {
    this.platform = platform;
    this.agents = agents;
    this.trips = Math.min(trips, MAX_TRIPS);
    this.inFlight = inFlight;
    this.perSecond = perSecond ?? 0;
    this.sent = 0;
    this.strays = 0;
    this.latenciesMs = [];
    this.waiting = new Map(agents.map((agentId) => [conversationOf(agentId), { agentId, unanswered: [] }]));
  }

  sendNext(lane, dueNs = nowNs()) {
    if (this.sent >= this.trips) return;
    this.sent += 1;
    const text = `Round trip <${this.sent}>: what is the weather like in Da Nang today?`;
    lane.unanswered.push({ text, sentNs: dueNs });
    this.platform.say(lane.agentId, text);
  }

  onReply(conversationId, content) {
    const lane = this.waiting.get(conversationId);
    const index = lane ? lane.unanswered.findIndex(({ text }) => content.includes(text)) : -1;
    if (index < 0) {
      this.strays += 1;
      return;
    }
    const [{ sentNs }] = lane.unanswered.splice(index, 1);
    this.latenciesMs.push(Number(nowNs() - sentNs) / 1e6);
    if (this.latenciesMs.length >= this.trips) this.platform.onChange();
    else if (!this.perSecond) this.sendNext(lane);
  }

  /** Send what has become due since `started`; the timer that goes on with it. */
  sendWhenDue(started) {
    const lanes = [...this.waiting.values()];
    const everyNs = 1e9 / this.perSecond;
    return setInterval(() => {
      const due = Math.min(this.trips, Math.floor(Number(nowNs() - started) / everyNs));
      while (this.sent < due) {
        this.sendNext(lanes[this.sent % lanes.length], started + BigInt(Math.round((this.sent + 1) * everyNs)));
      }
    }, 1);
  }

  async run(timeoutMs) {
    const started = nowNs();
    this.platform.onReply = (conversationId, content) => this.onReply(conversationId, content);
    const timer = this.perSecond ? this.sendWhenDue(started) : null;
    for (let round = 0; !timer && round < this.inFlight; round += 1) {
      for (const lane of this.waiting.values()) this.sendNext(lane);
    }
    const what = () => `${this.latenciesMs.length} of ${this.trips} messages answered`;
    try {
      await until(this.platform, () => this.latenciesMs.length >= this.trips, timeoutMs, what);
    } finally {
      clearInterval(timer);
      this.platform.onReply = () => {};
    }
    const sorted = this.latenciesMs.sort((a, b) => a - b);
    return {
      trips: sorted.length,
      strays: this.strays,
      wallMs: Number(nowNs() - started) / 1e6,
      latencyMs: { p50: quantile(sorted, 0.5), p95: quantile(sorted, 0.95), p99: quantile(sorted, 0.99) },
    };
  }
}

const asText = (times) => Object.fromEntries(Object.entries(times ?? {}).map(([name, ns]) => [name, String(ns)]));

/** What the benchmark may ask for. Times are of the monotonic clock, in nanoseconds, as text. */
const COMMANDS = {
  configure: async (platform, { presence }) => {
    platform.settings = { presence };
    return {};
  },
  reset: async (platform) => {
    platform.resetCounts();
    platform.times.clear();
    return {};
  },
  counts: async (platform) => ({ ...platform.counts, online: platform.online.size }),
  "wait-online": async (platform, { count, timeoutMs }) => {
    const what = () => `${platform.online.size} of ${count} agents are online`;
    await until(platform, () => platform.online.size >= count, timeoutMs, what);
    return { online: platform.online.size, atNs: String(nowNs()) };
  },
  "wait-agent": async (platform, { agentId, timeoutMs }) => {
    await until(platform, () => platform.online.has(agentId), timeoutMs, () => `${agentId} is not online`);
    return asText(platform.times.get(agentId));
  },
  "wait-offline": async (platform, { timeoutMs }) => {
    const what = () => `${platform.sockets.length} sockets are open`;
    await until(platform, () => platform.sockets.length === 0, timeoutMs, what);
    return {};
  },
  // Every client has read, on every socket, all that was sent before; a socket that is lost meanwhile does not count.
  barrier: async (platform, { timeoutMs }) => {
    let left = platform.sockets.length;
    const passed = () => {
      left -= 1;
      if (left === 0) platform.onChange();
    };
    for (const socket of platform.sockets) confirmRead(socket, passed);
    await until(platform, () => left <= 0, timeoutMs, () => `${left} sockets have not answered`);
    return { atNs: String(nowNs()) };
  },
  "round-trips": async (platform, request) => new RoundTrips(platform, request).run(request.timeoutMs),
};

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function obey(platform, line) {
  const request = JSON.parse(line);
  try {
    const command = COMMANDS[request.command];
    if (!command) throw new Error(`unknown command ${request.command}`);
    print({ id: request.id, ...(await command(platform, request)) });
  } catch (error) {
    print({ id: request.id, error: error.message });
  }
}

function main() {
  const [pingSeconds, key, cert] = process.argv.slice(2);
  const server = key
    ? https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) })
    : http.createServer();
  const io = new Server(server, {
    path: "/socket.io",
    maxHttpBufferSize: 1_000_000,
    connectTimeout: 120_000,
    pingInterval: pingSeconds * 1000,
    pingTimeout: pingSeconds * 800, // the platform's own proportion, 25 s to 20 s
  });
  const platform = new Platform(io);
  server.on("request", (request, response) => serveHttp(platform, request, response));
  server.listen({ port: 0, host: HOST, backlog: BACKLOG }, () => print({ port: server.address().port }));
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", (line) => obey(platform, line));
  lines.on("close", () => process.exit(0));
}

main();
