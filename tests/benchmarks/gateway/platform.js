"use strict";
/**
 * The platform's side of the conversation, in the spirit of its v1: tokens, presence, messages.
 *
 * Left out on purpose, because it is the same for every client: the database (about 15 ms a message), the bcrypt check
 * of a token request, and the `offline` presences of sockets that go away.
 */

const crypto = require("node:crypto");

const NAMESPACES = ["/ws", "/chat"];
const TOKEN_SECONDS = 86_400;
const OBJECT_ID = /^[0-9a-f]{24}$/i;
const SIGNING_KEY = crypto.randomBytes(32);

const nowNs = () => process.hrtime.bigint();
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

let lastId = 0;
/** A new id as the platform makes them: 24 hex digits. */
const objectId = () => "6b039dc5" + (++lastId).toString(16).padStart(16, "0");

/** The one conversation of an agent: the same for every client that plays it. */
const conversationOf = (agentId) => crypto.createHash("sha1").update(agentId).digest("hex").slice(0, 24);

function mintToken(agentId) {
  const issued = Math.floor(Date.now() / 1000);
  const claims = { sub: agentId, agentId, type: "agent", iat: issued, exp: issued + TOKEN_SECONDS };
  const body = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url(claims)}`;
  return `${body}.${crypto.createHmac("sha256", SIGNING_KEY).update(body).digest("base64url")}`;
}

/** The agent that a token was minted for, or null. */
function agentOf(token) {
  const [header, claims, signature] = String(token ?? "").split(".");
  const expected = crypto.createHmac("sha256", SIGNING_KEY).update(`${header}.${claims}`).digest("base64url");
  return signature === expected ? JSON.parse(Buffer.from(claims, "base64url")).agentId : null;
}

/** A stored message as v1 sends it, about 800 bytes. */
function storedMessage(payload, conversationId, author) {
  const at = new Date().toISOString();
  const party = { orgId: "b".repeat(24), groupId: "", userId: author.userId, agentId: author.agentId, appId: "" };
  const actor = { ...party, roles: [author.userId ? "organization.owner" : "organization.editor"] };
  return {
    owner: party,
    createdBy: actor,
    updatedBy: actor,
    conversationId,
    participantId: payload.participantId,
    role: payload.role,
    content: payload.content,
    type: payload.type ?? "text",
    status: "sent",
    attachments: payload.attachments ?? [],
    _id: OBJECT_ID.test(payload._id ?? "") ? payload._id : objectId(),
    createdAt: at,
    updatedAt: at,
    toolCalls: payload.toolCalls ?? [],
    toolResults: payload.toolResults ?? [],
    __v: 0,
  };
}

/**
 * Every agent that the gateway has met, and the counts of the phase under way.
 *
 * `settings.presence` is "all" (broadcast to the namespace, as the platform does) or "own" (to the agent alone).
 */
class Platform {
  constructor(io) {
    this.io = io;
    this.settings = { presence: "all" };
    this.online = new Map(); // agent id -> its newest socket that has read its own presence
    this.times = new Map(); // agent id -> {tokenNs, socketNs, presenceNs, onlineNs}
    this.onReply = () => {};
    this.onChange = () => {};
    this.resetCounts();
    for (const name of NAMESPACES) this.serve(io.of(name));
  }

  resetCounts() {
    this.counts = { tokens: 0, connects: 0, disconnects: 0, presences: 0, typings: 0, sends: 0, refused: 0 };
  }

  get sockets() {
    return NAMESPACES.flatMap((name) => [...this.io.of(name).sockets.values()]);
  }

  /** The answer to `POST /agents/:id/connect`. */
  issueToken(agentId) {
    const token = mintToken(agentId);
    this.counts.tokens += 1;
    this.times.set(agentId, { tokenNs: nowNs() });
    const headers = { Authorization: `Bearer ${token}` };
    return {
      accessToken: token,
      expiresIn: TOKEN_SECONDS,
      refreshToken: null,
      refreshExpiresIn: 0,
      tokenType: "bearer",
      mcpServers: { Builtin: { type: "http", url: "http://localhost:3306", headers } },
      instruction: { id: "", systemPrompt: "No instruction configured for this agent.", guidelines: [] },
      settings: {},
    };
  }

  serve(namespace) {
    namespace.on("connection", (socket) => {
      const agentId = agentOf(socket.handshake.auth?.token);
      if (agentId === null) {
        this.counts.refused += 1;
        socket.disconnect();
        return;
      }
      this.counts.connects += 1;
      const times = this.times.get(agentId) ?? {};
      this.times.set(agentId, { ...times, socketNs: nowNs() });
      socket.data = { agentId, conversationId: conversationOf(agentId) };
      socket.join(socket.data.conversationId);
      this.listen(socket);
      // Between 5 and 30 ms, in turn rather than at random, so that every client meets the same delays.
      setTimeout(() => this.announce(namespace, socket), 5 + (this.counts.connects % 26));
    });
  }

  announce(namespace, socket) {
    if (!socket.connected) return;
    const { agentId, conversationId } = socket.data;
    const everyone = this.settings.presence === "all";
    (everyone ? namespace : socket).emit("presence:update", {
      type: "agent",
      userId: null,
      agentId,
      conversationId,
      status: "online",
      timestamp: new Date().toISOString(),
    });
    this.counts.presences += everyone ? namespace.sockets.size : 1;
    const times = this.times.get(agentId);
    times.presenceNs = nowNs();
    confirmRead(socket, () => {
      if (!socket.connected) return;
      times.onlineNs = nowNs();
      this.online.set(agentId, socket);
      this.onChange();
    });
  }

  listen(socket) {
    const { agentId } = socket.data;
    const conversation = (payload) => payload?.conversationId ?? socket.data.conversationId;
    socket.on("message:send", (payload, ack) => this.receive(socket, payload ?? {}, ack ?? (() => {})));
    socket.on("message:typing", (payload, ack) => {
      this.counts.typings += 1;
      const event = { type: "agent", userId: null, agentId, conversationId: conversation(payload) };
      const rest = { isTyping: payload?.isTyping === true, timestamp: new Date().toISOString() };
      socket.to(event.conversationId).emit("agent:typing", { ...event, ...rest });
      ack?.({ success: true });
    });
    socket.on("message:read", (payload, ack) => ack?.({ success: true }));
    socket.on("conversation:online", (payload, ack) => ack?.({ success: true, onlineUsers: [] }));
    socket.on("conversation:join", (payload, ack) => {
      socket.data.conversationId = conversation(payload);
      socket.join(socket.data.conversationId);
      ack?.({ success: true, conversationId: socket.data.conversationId });
    });
    socket.on("conversation:leave", (payload, ack) => {
      socket.leave(conversation(payload));
      ack?.({ success: true, conversationId: conversation(payload) });
    });
    socket.on("disconnect", () => {
      this.counts.disconnects += 1;
      if (this.online.get(agentId) === socket) this.online.delete(agentId);
      this.onChange();
    });
  }

  /** Echo, confirmation, ack: in the order the platform has them: docs/protocol.md#4-sending */
  receive(socket, payload, ack) {
    if (typeof payload.content !== "string" || payload.content === "") {
      this.counts.refused += 1;
      const refusal = { success: false, error: "content should not be empty" };
      socket.emit("message:error", { ...refusal, timestamp: new Date().toISOString() });
      ack(refusal);
      return;
    }
    this.counts.sends += 1;
    const { agentId } = socket.data;
    const conversationId = payload.conversationId ?? socket.data.conversationId;
    const message = storedMessage(payload, conversationId, { userId: "", agentId });
    socket.nsp.to(conversationId).emit("message:new", message);
    socket.emit("message:sent", { success: true, messageId: message._id, timestamp: message.createdAt });
    ack({ success: true, message });
    this.onReply(conversationId, message.content);
  }

  /** Say something to an agent as a user would, in the agent's one conversation. */
  say(agentId, content) {
    const conversationId = conversationOf(agentId);
    const author = { userId: "c".repeat(24), agentId: "" };
    const message = storedMessage({ role: "user", content }, conversationId, author);
    this.online.get(agentId)?.nsp.to(conversationId).emit("message:new", message);
  }
}

/**
 * Call `done` when the client has read everything sent to it so far: an Engine.IO ping goes out behind it, and a client
 * reads its frames in order. A connection that is lost before has nothing more to read.
 */
function confirmRead(socket, done) {
  const settle = () => {
    socket.conn.off("heartbeat", settle);
    socket.off("disconnect", settle);
    done();
  };
  socket.conn.on("heartbeat", settle);
  socket.on("disconnect", settle);
  socket.conn.sendPacket("ping");
}

module.exports = { Platform, NAMESPACES, OBJECT_ID, confirmRead, conversationOf, nowNs };
