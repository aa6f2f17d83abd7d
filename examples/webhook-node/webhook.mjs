// A webhook agent that needs nothing but Node: checks the signature, then answers in two parts, one after the other.
//
//     WEBHOOK_SECRET=… node webhook.mjs [PORT]

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const SECRET = process.env.WEBHOOK_SECRET;
if (!SECRET) throw new Error("set WEBHOOK_SECRET");
const MAX_AGE_SECONDS = 300;
const MAX_BODY_BYTES = 2_000_000;

/** Whether the request comes from the supervisor, and lately. */
function isSigned(headers, body) {
  const timestamp = headers["x-supervisor-timestamp"] ?? "";
  const digest = createHmac("sha256", SECRET).update(`${timestamp}.`).update(body).digest("hex");
  const given = Buffer.from(headers["x-supervisor-signature"] ?? "");
  const wanted = Buffer.from(`v1=${digest}`);
  const isFresh = Math.abs(Date.now() / 1000 - Number(timestamp)) < MAX_AGE_SECONDS;
  return isFresh && given.length === wanted.length && timingSafeEqual(given, wanted);
}

/** The parts of the answer; each is sent as soon as it is there. */
async function* answer(asked) {
  yield { type: "thinking", content: `They wrote ${asked.message.content.length} characters.` };
  yield { content: `Node heard: ${asked.message.content}` };
}

const server = createServer(async (request, response) => {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return response.writeHead(413, { Connection: "close" }).end();
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!isSigned(request.headers, body)) return response.writeHead(401).end();
  response.writeHead(200, { "Content-Type": "application/x-ndjson" });
  for await (const part of answer(JSON.parse(body))) response.write(`${JSON.stringify(part)}\n`);
  return response.end();
});

server.listen(Number(process.argv[2] ?? 8700), "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
