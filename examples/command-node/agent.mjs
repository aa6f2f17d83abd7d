// A program that answers one message: the question as JSON on standard input, a part to a line on standard output.

import { readFileSync } from "node:fs";

const asked = JSON.parse(readFileSync(0, "utf8"));
const text = asked.message.content;
if (text.length > 10_000) {
  // 64 to 78 are final (sysexits.h); any other status but 0 makes the supervisor try again.
  console.error("that is too long for me");
  process.exit(65);
}
const say = (part) => process.stdout.write(`${JSON.stringify(part)}\n`);
say({ type: "thinking", content: `They wrote ${text.length} characters.` });
say({ content: `Node heard: ${text}` });
