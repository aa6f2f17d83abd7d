"""What a fault must not leave behind, and what a platform saw of it: tasks, files, stray exceptions, rates."""

from __future__ import annotations

import asyncio
import gc
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.sandbox import Sandbox, SandboxUser, TokenRequest
from tests.support.gateway import raw_server
from tests.support.reliability import Case
from tests.support.stack import Stack, stack


@contextmanager
def no_stray_exceptions() -> Iterator[None]:
    """Fails when something reached the event loop's exception handler, such as an exception that nobody retrieved."""
    loop = asyncio.get_running_loop()
    strays: list[str] = []
    loop.set_exception_handler(lambda _loop, context: strays.append(repr(context)))
    try:
        yield
        # A task tells of its exception when it is collected.
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert not strays, "\n".join(strays)


@asynccontextmanager
async def watched_stack(folder: Path, **given: Any) -> AsyncIterator[Stack]:
    """A stack of which no exception may go astray, from its start to after its end."""
    with no_stray_exceptions():
        async with stack(folder, **given) as fleet:
            yield fleet


@dataclass(frozen=True)
class Traces:
    """Tasks by what they run, and open file descriptors, of the whole process: the sandbox's are among them."""

    tasks: Counter[str]
    files: Counter[str]

    @classmethod
    def now(cls) -> Traces:
        """What there is at this moment."""
        names: Counter[str] = Counter()
        for task in asyncio.all_tasks():
            coroutine = task.get_coro()
            names[getattr(coroutine, "__qualname__", repr(coroutine))] += 1
        return cls(names, Counter(open_files()))

    async def again(self, timeout: float = 30.0) -> None:
        """Wait until there is no more than this; idle HTTP connections need some seconds to go.

        Raises:
            AssertionError: more is left.
        """
        until = time.monotonic() + timeout
        while (now := Traces.now()).tasks - self.tasks or now.files.total() > self.files.total():
            more = (dict(now.tasks - self.tasks), dict(now.files - self.files))
            assert time.monotonic() < until, f"left over, tasks and files: {more}"
            await asyncio.sleep(0.05)


def open_files() -> Iterator[str]:
    """What each descriptor is open on but for databases, ``socket`` for all sockets; nothing without a /proc."""
    folder = Path("/proc/self/fd")
    for descriptor in folder.iterdir() if folder.is_dir() else ():
        # The one that the folder is read by is gone by now.
        with suppress(FileNotFoundError):
            name = str(descriptor.readlink()).partition(":[")[0]
            # SQLite's readers open theirs on demand, and keep them.
            if not name.endswith((".db", ".db-wal", ".db-shm")):
                yield name


def open_sockets(sandbox: Sandbox) -> int:
    """How many Engine.IO sessions the platform has open, registered or not."""
    kinds = Counter(event.kind for event in sandbox.events)
    return kinds["open"] - kinds["close"]


def handshakes(sandbox: Sandbox) -> list[float]:
    """When the platform saw an attempt to connect, struck by a fault or not; wall time."""
    return [event.at for event in sandbox.events if event.kind in ("open", "handshake_fault")]


def busiest(times: Iterable[float], seconds: float = 1.0) -> int:
    """The most of ``times`` that lie within any stretch of so many seconds."""
    ordered = sorted(times)
    return max((i + 1 - bisect_left(ordered, at - seconds) for i, at in enumerate(ordered)), default=0)


def most_at_once(requests: Iterable[TokenRequest]) -> int:
    """How many token requests the platform had to deal with at once, at most."""
    turns = [(request.at, 1) for request in requests]
    turns += [(request.over_at, -1) for request in requests if request.over_at is not None]
    # What ends at the very moment when another begins is not beside it.
    running = most = 0
    for _, step in sorted(turns):
        running += step
        most = max(most, running)
    return most


async def add_fleet(fleet: Stack, count: int, *, first: int = 1, timeout: float = 60.0, **fields: Any) -> list[str]:
    """Register so many agents and wait until they are online."""
    agents = [await fleet.add(number, **fields) for number in range(first, first + count)]
    await fleet.online(first - 1 + count, timeout)
    return agents


@dataclass
class Talk:
    """A person who talks to agents in turn, whatever happens meanwhile, and wants each message answered once."""

    fleet: Stack
    agents: list[str]
    pause_seconds: float = 0.01
    said: dict[str, list[str]] = field(default_factory=dict)
    _user: SandboxUser | None = None
    _talking: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Enter the conversations and start to talk."""
        self._user = await self.fleet.sandbox.user()
        self.said = {await self._user.open(agent): [] for agent in self.agents}
        self._talking = asyncio.create_task(self._talk(self._user), name="talk")

    async def _talk(self, user: SandboxUser) -> None:
        number = 0
        while True:
            for conversation, texts in self.said.items():
                number += 1
                texts.append(f"message {number}")
                await user.say(conversation, texts[-1])
                await asyncio.sleep(self.pause_seconds)

    async def end(self, figures: Case, timeout: float = 30.0) -> None:
        """Say no more, wait until all is answered, and count what is lost or doubled."""
        assert self._talking is not None
        self._talking.cancel()
        await asyncio.wait([self._talking])
        assert self._talking.cancelled(), self._talking.exception()
        until = time.monotonic() + timeout
        while self._unanswered() and time.monotonic() < until:
            await asyncio.sleep(0.05)
        for conversation, texts in self.said.items():
            figures.answers(texts, self._answered(conversation))

    def _unanswered(self) -> bool:
        return any(set(texts) - set(self._answered(conversation)) for conversation, texts in self.said.items())

    def _answered(self, conversation: str) -> list[str]:
        messages = self.fleet.sandbox.messages(conversation)
        return [message.content.removeprefix("Echo: ") for message in messages if message.sender_kind == "agent"]


@asynccontextmanager
async def dead_port(sandbox: Sandbox) -> AsyncIterator[list[float]]:
    """What answers for a platform that is down: takes connections on its port, notes when, and resets them."""
    times: list[float] = []

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(time.time())
        writer.transport.abort()

    async with raw_server(refuse, port=sandbox.port):
        yield times
