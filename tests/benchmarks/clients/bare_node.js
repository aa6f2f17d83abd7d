"use strict";
/**
 * Agents on bare `socket.io-client`, one manager each: `node bare_node.js API_URL WS_URL`.
 *
 * Lines of JSON on stdin add agents, `{"add": [id, …]}`; it ends when its stdin does. One agent's whole life is: a
 * token, a connection, an echo of every message of a user in five frames, in
 * the supervisor's order: message in, typing on, typing off, reply, ack.
 */

const http = require("node:http");
const https = require("node:https");
const path = require("node:path");
const readline = require("node:readline");
const { createRequire } = require("node:module");

const { io } = createRequire(path.join(__dirname, "..", "gateway", "package.json"))("socket.io-client");

const TOKEN_REQUESTS_AT_ONCE = 50;

const [apiUrl, wsUrl] = process.argv.slice(2);
const web = apiUrl.startsWith("https:") ? https : http;
const connections = new web.Agent({ keepAlive: true, maxSockets: TOKEN_REQUESTS_AT_ONCE });

function fetchToken(agentId) {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const options = { method: "POST", agent: connections, headers };
    const request = web.request(`${apiUrl}/agents/${agentId}/connect`, options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => (text += chunk));
      response.on("end", () => {
        if (response.statusCode === 201) resolve(JSON.parse(text).accessToken);
        else reject(new Error(`token request of ${agentId}: ${response.statusCode}`));
      });
    });
    request.on("error", reject);
    request.end(JSON.stringify({ secret: process.env.AGENT_SECRET }));
  });
}

function echo(socket, agentId, message) {
  if (message.role !== "user") return;
  const { conversationId } = message;
  socket.emit("message:typing", { conversationId, isTyping: true });
  socket.emit("message:typing", { conversationId, isTyping: false });
  const reply = { role: "assistant", content: `Echo: ${message.content}`, conversationId, participantId: agentId };
  socket.emit("message:send", reply, (ack) => {
    if (!ack.success) console.error(`${agentId}: ${ack.error}`);
  });
}

async function runAgent(agentId) {
  const token = await fetchToken(agentId);
  const socket = io(wsUrl, { forceNew: true, transports: ["websocket"], timeout: 120_000, auth: { token } });
  let online = false;
  socket.on("presence:update", (presence) => {
    if (presence.agentId === agentId && presence.type === "agent") online = presence.status === "online";
  });
  socket.on("message:new", (message) => echo(socket, agentId, message));
  socket.on("connect_error", (error) => console.error(`${agentId}: ${error.message}`));
  socket.on("disconnect", (reason) => console.error(`${agentId}: ${reason}, ${online ? "was online" : "never online"}`));
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  for (const agentId of JSON.parse(line).add) runAgent(agentId).catch((error) => console.error(error.message));
});
lines.on("close", () => process.exit(0));
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
