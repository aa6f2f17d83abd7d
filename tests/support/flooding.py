"""A sandbox in a process of its own that writes bursts onto sockets: what it costs is not the supervisor's.

``flooding(…)`` is the test's side. Run as a module it is the platform: a command a line on standard input, as JSON, and
an answer a line on standard output.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.sandbox import Sandbox, SandboxUser
from supervisor.sandbox.sockets.session import SocketSession
from supervisor.sandbox.world.sessions import encode_event, encode_text_frame

#: How many conversations of an agent a burst of messages is spread over.
CONVERSATIONS = 20
#: How long an answer may take beside a burst.
SECONDS = 60.0


class Floods:
    """The platform's side: a sandbox, a person, and the bursts."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._user: SandboxUser | None = None
        self._opened: dict[str, list[str]] = {}
        self._number = 0

    async def add(self, agent: str, secret: str) -> None:
        """Register an agent."""
        self._sandbox.add_agent(agent, secret)

    async def ask(self, agent: str) -> float:
        """Say something in an agent's first conversation; how many seconds the answer took."""
        user, [conversation, *_] = await self._person(), await self._conversations(agent)
        began = time.monotonic()
        message = await user.say(conversation, f"number {self._next()}")
        await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        return time.monotonic() - began

    async def flood(self, agents: list[str], kind: str, count: int) -> int:
        """Write a burst onto the sockets of some agents, all of it at once; how many bytes."""
        written = 0
        for agent in agents:
            conversations = await self._conversations(agent)
            for session in self._sandbox.sockets_of(agent):
                make = getattr(self, f"_{kind}")
                frames = make(session, agent, conversations, count)
                data = b"".join(map(encode_text_frame, frames))
                session.engine.wire.transport.write(data)  # type: ignore[union-attr]
                written += len(data)
        return written

    def _presence(self, session: SocketSession, _agent: str, _talks: list[str], count: int) -> Iterator[str]:
        for number in range(count):
            about = {"type": "user", "userId": f"{number:024x}", "agentId": None, "status": "online"}
            yield encode_event(session.namespace, "presence:update", about)

    def _own_presence(self, session: SocketSession, agent: str, _talks: list[str], count: int) -> Iterator[str]:
        frame = encode_event(
            session.namespace, "presence:update", {"type": "user", "agentId": agent, "status": "online"}
        )
        return (frame for _ in range(count))

    def _ack(self, session: SocketSession, _agent: str, _talks: list[str], count: int) -> Iterator[str]:
        for number in range(count):
            yield f"43{session.namespace},{1_000_000 + number}[]"

    def _unknown(self, session: SocketSession, _agent: str, _talks: list[str], count: int) -> Iterator[str]:
        frame = encode_event(session.namespace, "x", 0)
        return (frame for _ in range(count))

    def _message(self, session: SocketSession, _agent: str, talks: list[str], count: int) -> Iterator[str]:
        for number in range(count):
            said = {
                "_id": f"{self._next():024x}",
                "conversationId": talks[number % len(talks)],
                "role": "user",
                "content": f"burst {number}",
            }
            yield encode_event(session.namespace, "message:new", said)

    async def _person(self) -> SandboxUser:
        if self._user is None:
            self._user = await self._sandbox.user()
        return self._user

    async def _conversations(self, agent: str) -> list[str]:
        if agent not in self._opened:
            user = await self._person()
            self._opened[agent] = [await user.open(agent) for _ in range(CONVERSATIONS)]
        return self._opened[agent]

    def _next(self) -> int:
        self._number += 1
        return self._number


async def serve() -> None:
    """Play the platform until standard input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with Sandbox(profile="v2") as sandbox:
        floods = Floods(sandbox)
        _say({"api_url": sandbox.api_url, "ws_url": sandbox.ws_url})
        while line := await reader.readline():
            name, *arguments = json.loads(line)
            _say(await getattr(floods, name)(*arguments))


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


@dataclass
class Platform:
    """The test's side: where the platform is, and what it is told."""

    api_url: str
    ws_url: str
    _process: asyncio.subprocess.Process

    async def tell(self, name: str, *arguments: Any) -> Any:
        """Have one of the methods of :class:`Floods` called; what it returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
        async with asyncio.timeout(2 * SECONDS):
            line = await self._process.stdout.readline()
        assert line, "the platform's process has ended"
        return json.loads(line)


@asynccontextmanager
async def flooding() -> AsyncIterator[Platform]:
    """A platform in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Platform(**json.loads(await process.stdout.readline()), _process=process)
    finally:
        process.stdin.close()
        await process.wait()


class Hold:
    """How long the event loop was held, by the work of its thread: what others take of the machine does not count.

    Args:
        without_collector: the garbage collector does not count. Its longest turns grow with what there is in memory.

    Attributes:
        longest_seconds: the most work between two looks, of which each round of the loop has one.
    """

    def __init__(self, *, without_collector: bool = False) -> None:
        self.longest_seconds = 0.0
        self._without_collector = without_collector
        self._collected = self._began = 0.0

    def reset(self) -> None:
        """Measure anew."""
        self.longest_seconds = 0.0

    async def look(self) -> None:
        """Look for ever."""
        while True:
            began, self._collected = time.thread_time(), 0.0
            await asyncio.sleep(0.001)
            held = time.thread_time() - began
            if self._without_collector:
                held -= self._collected
            self.longest_seconds = max(self.longest_seconds, held)

    def collecting(self, phase: str, _about: object) -> None:
        """The collector's callback."""
        if phase == "start":
            self._began = time.thread_time()
        else:
            self._collected += time.thread_time() - self._began


@asynccontextmanager
async def holding(*, without_collector: bool = False) -> AsyncIterator[Hold]:
    """Measure it meanwhile."""
    hold = Hold(without_collector=without_collector)
    looking = asyncio.create_task(hold.look(), name="hold")
    gc.callbacks.append(hold.collecting)
    try:
        yield hold
    finally:
        gc.callbacks.remove(hold.collecting)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(serve())
