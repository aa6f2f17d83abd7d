"""A webhook agent that needs nothing but Python: checks the signature, then answers in two parts, one after the other.

WEBHOOK_SECRET=… python3 webhook.py [PORT]
"""

import hashlib
import hmac
import json
import os
import sys
import time
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = os.environ["WEBHOOK_SECRET"].encode()
MAX_AGE_SECONDS = 300
MAX_BODY_BYTES = 2_000_000


def is_signed(headers: Message, body: bytes) -> bool:
    """Whether the request comes from the supervisor, and lately."""
    timestamp = headers.get("X-Supervisor-Timestamp", "")
    digest = hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    given = headers.get("X-Supervisor-Signature", "")
    return (
        hmac.compare_digest(given.encode(), f"v1={digest}".encode())
        and abs(time.time() - int(timestamp)) < MAX_AGE_SECONDS
    )


def answer(asked: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The parts of the answer; each is sent as soon as it is there."""
    yield {"type": "thinking", "content": f"They wrote {len(asked['message']['content'])} characters."}
    yield {"content": f"Python heard: {asked['message']['content']}"}


class Webhook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > MAX_BODY_BYTES:
            return self.send_error(413)
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            return self.send_error(401)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in answer(json.loads(body)):
            self.send_chunk(json.dumps(part).encode() + b"\n")
        # The empty chunk is the end: without it the supervisor knows that the answer was cut off.
        self.send_chunk(b"")
        return None

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8700), Webhook)
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()
