"""Agents on bare ``python-socketio``, one ``AsyncClient`` each: ``python bare_python.py API_URL WS_URL``.

Lines of JSON on stdin add agents, ``{"add": [id, …]}``; it ends when its stdin does. One agent's whole life is: a
token, a connection, an echo of every message of a user in five frames, in the supervisor's order: message in, typing
on, typing off, reply, ack. The library is used as it comes; only its time-outs are longer, because a thousand agents
start in the same instant.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import socketio

TOKEN_REQUESTS_AT_ONCE = 50
CONNECT_SECONDS = 120.0
MAX_LINE_BYTES = 1_000_000


class Agent:
    """One agent: its client and what it knows of its own presence."""

    def __init__(self, agent_id: str, namespace: str) -> None:
        self._agent_id = agent_id
        self._namespace = namespace
        self.online = False
        self.client: Any = socketio.AsyncClient()
        self.client.on("presence:update", self._on_presence, namespace=namespace)
        self.client.on("message:new", self._on_message, namespace=namespace)

    async def connect(self, origin: str, token: str) -> None:
        """Connect to the namespace; ``origin`` is ``ws(s)://host:port``."""
        await self.client.connect(
            origin,
            namespaces=[self._namespace],
            transports=["websocket"],
            auth={"token": token},
            wait_timeout=CONNECT_SECONDS,
        )

    async def _on_presence(self, presence: dict[str, Any]) -> None:
        if presence["agentId"] == self._agent_id and presence["type"] == "agent":
            self.online = presence["status"] == "online"

    async def _on_message(self, message: dict[str, Any]) -> None:
        if message["role"] != "user":
            return
        conversation_id = message["conversationId"]
        typing = {"conversationId": conversation_id, "isTyping": True}
        await self.client.emit("message:typing", typing, namespace=self._namespace)
        await self.client.emit("message:typing", {**typing, "isTyping": False}, namespace=self._namespace)
        reply = {
            "role": "assistant",
            "content": f"Echo: {message['content']}",
            "conversationId": conversation_id,
            "participantId": self._agent_id,
        }
        ack = await self.client.call("message:send", reply, namespace=self._namespace)
        if not ack["success"]:
            print(f"{self._agent_id}: {ack['error']}", file=sys.stderr)


async def fetch_token(http: aiohttp.ClientSession, api_url: str, agent_id: str) -> str:
    """Ask the platform for an agent's access token."""
    body = {"secret": os.environ["AGENT_SECRET"]}
    async with http.post(f"{api_url}/agents/{agent_id}/connect", json=body) as response:
        response.raise_for_status()
        return str((await response.json())["accessToken"])


async def run_agent(http: aiohttp.ClientSession, api_url: str, ws_url: str, agent_id: str) -> None:
    """Bring one agent online and serve it until its connection ends."""
    parts = urlsplit(ws_url)
    agent = Agent(agent_id, parts.path)
    try:
        token = await fetch_token(http, api_url, agent_id)
        await agent.connect(f"{parts.scheme}://{parts.netloc}", token)
        await agent.client.wait()
    except Exception as error:
        print(f"{agent_id}: {type(error).__name__}: {error}", file=sys.stderr)


async def main(api_url: str, ws_url: str) -> None:
    """Start agents as they are named on stdin, until it ends."""
    lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(json.dumps({"ready": True}), flush=True)
    agents: set[asyncio.Task[None]] = set()
    timeout = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
    connector = aiohttp.TCPConnector(limit=TOKEN_REQUESTS_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        while line := await lines.readline():
            for agent_id in json.loads(line)["add"]:
                agents.add(asyncio.create_task(run_agent(http, api_url, ws_url, agent_id)))
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
