"""What happened lately, in memory: changes of state and log lines, for whoever looks or follows.

There is one bounded ring and no queue for anybody: a follower reads the ring from where it is, at its own pace, and is
told how many events it missed when it falls behind by more than the ring holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from supervisor.protocol.text import clean_text

Kind = Literal["state", "log"]

#: What the ring holds at most: some hours of a quiet fleet, some minutes of a noisy one.
MAX_EVENTS: Final = 5000
MAX_BYTES: Final = 4 * 1024 * 1024
#: An event that is larger than this, or no JSON, is a defect of who made it; only so much of it is told.
_MAX_EVENT_BYTES: Final = 64 * 1024
_CORE: Final = ("timestamp", "level", "logger", "event", "state", "was", "since", "reason")
_MAX_CORE_CHARS: Final = 200
#: Events handed to a follower at once.
_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Args:
        number: counts from 1 in each process.
        agent: whom it concerns; empty for the supervisor itself.
        data: its fields, as JSON.
    """

    number: int
    kind: Kind
    agent: str
    data: bytes


#: How much a line matters, the least first; a change of state counts as ``info``.
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events somebody wants; every condition given must hold.

    Args:
        agent: only this one's; None for all.
        kinds: only these; empty for all.
        level: only those that matter at least so much.
        text: only those with this in a field, as ``name=value``, in whatever case.
        since: only those of then and later, in seconds since the epoch.
        agents: only those of agents of which this is true.
    """

    agent: str | None = None
    kinds: Collection[Kind] = ()
    level: str = LEVELS[0]
    text: str = ""
    since: float = 0.0
    agents: Callable[[str], bool] | None = None

    def __contains__(self, event: Event) -> bool:
        if self.agent not in (None, event.agent) or (self.kinds and event.kind not in self.kinds):
            return False
        if self.agents is not None and not self.agents(event.agent):
            return False
        return (self.level == LEVELS[0] and not self.text and not self.since) or self._tells(
            msgspec.json.decode(event.data)
        )

    def _tells(self, fields: Mapping[str, Any]) -> bool:
        """Whether what an event says is wanted."""
        level = str(fields.get("level", "info"))
        if level in LEVELS and LEVELS.index(level) < LEVELS.index(self.level):
            return False
        if self.since and _happened_at(fields) < self.since:
            return False
        said = " ".join(f"{name}={value}" for name, value in fields.items())
        return self.text.casefold() in said.casefold()


def happened_at(event: Event) -> float:
    """When an event happened, in seconds since the epoch; 0 where it does not tell."""
    return _happened_at(msgspec.json.decode(event.data))


def _happened_at(fields: Mapping[str, Any]) -> float:
    """When an event happened, in seconds since the epoch: lines have a timestamp, changes of state a beginning."""
    try:
        if "timestamp" in fields:
            return datetime.fromisoformat(fields["timestamp"]).timestamp()
        return float(fields["since"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def _core(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What an event cannot be shown without, fit to be written."""
    kept = {name: fields[name] for name in _CORE if name in fields}
    return {
        name: value if isinstance(value, int | float) else clean_text(str(value), _MAX_CORE_CHARS)[0]
        for name, value in kept.items()
    }


class Events:
    """The ring. Published to from any thread; read and followed on the event loop.

    Args:
        run: tells this process from others, so that a follower that comes back knows whether the numbers are the same.
    """

    def __init__(self, *, run: str = "0", max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.run = run
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._ring: deque[Event] = deque()
        self._bytes = 0
        self._number = 0
        #: Set once everybody who follows has to end.
        self.closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._followers = 0
        # Followers wait for this one, and setting it makes the next. Owned by the loop.
        self._news = asyncio.Event()
        self._waking = False

    @property
    def bytes_held(self) -> int:
        """The bytes of what is in the ring."""
        return self._bytes

    def publish(self, kind: Kind, agent: str, fields: Mapping[str, Any]) -> None:
        """Add an event; never raises, whatever the fields hold."""
        try:
            data = msgspec.json.encode(fields, enc_hook=str)
        except (TypeError, ValueError, RecursionError):
            data = b""
        if not data or len(data) > _MAX_EVENT_BYTES:
            data = msgspec.json.encode(
                {**_core(fields), "agent": agent, "not_kept": "too large, or no JSON"}, enc_hook=str
            )
        with self._lock:
            self._number += 1
            self._ring.append(Event(self._number, kind, agent, data))
            self._bytes += len(data)
            while len(self._ring) > self._max_events or self._bytes > self._max_bytes:
                self._bytes -= len(self._ring.popleft().data)
        self._wake()

    def last(self, count: int, wanted: Wanted) -> list[Event]:
        """The newest ``count`` events that are wanted, oldest first."""
        found: list[Event] = []
        with self._lock:
            for event in reversed(self._ring):
                if len(found) >= count:
                    break
                if event in wanted:
                    found.append(event)
        return found[::-1]

    @property
    def newest(self) -> int:
        """The number of the newest event; 0 when there was none yet."""
        return self._number

    async def follow(self, after: int, wanted: Wanted, *, heartbeat_seconds: float) -> AsyncGenerator[Batch]:
        """Everything wanted that came after an event, and what comes, until closed.

        Args:
            after: the number of the last event that is known.
            heartbeat_seconds: after so long without anything wanted there is an empty batch.
        """
        self._loop = asyncio.get_running_loop()
        self._followers += 1
        try:
            while True:
                news = self._news
                batch, after = self._since(after, wanted)
                if batch.events or batch.missed:
                    yield batch
                elif self.closing.is_set():
                    return
                else:
                    try:
                        async with asyncio.timeout(heartbeat_seconds):
                            await news.wait()
                    except TimeoutError:
                        yield batch
        finally:
            self._followers -= 1

    def _since(self, after: int, wanted: Wanted) -> tuple[Batch, int]:
        """What is wanted after a number, and the number up to which that is all."""
        newer: deque[Event] = deque()
        with self._lock:
            missed = max(0, (self._ring[0].number if self._ring else self._number + 1) - after - 1)
            for event in reversed(self._ring):
                if event.number <= after:
                    break
                newer.appendleft(event)
        found: list[Event] = []
        for event in newer:
            after = event.number
            if event in wanted:
                found.append(event)
                if len(found) == _AT_ONCE:
                    break
        return Batch(found, missed), after

    def close(self) -> None:
        """Let every follower end once it has what there is; on the event loop."""
        self.closing.set()
        self._wake()

    def _wake(self) -> None:
        # Nobody is to be woken without a follower: a new one looks before it waits.
        if self._loop is None or not self._followers or self._waking:
            return
        self._waking = True
        # The last lines of a process may come after its loop is closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        self._waking = False
        self._news.set()
        self._news = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Batch:
    """What a follower gets at once.

    Args:
        missed: how many events came and were gone before it looked, wanted or not.
    """

    events: list[Event]
    missed: int = 0
