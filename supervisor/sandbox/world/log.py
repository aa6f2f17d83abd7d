"""What happened on the sandbox: a log that wakes those who wait, and records of requests, for assertions.

Each change of the sandbox is appended, so tests never have to sleep and hope.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

_LOG_LIMIT = 200_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the sandbox, for assertions."""

    kind: str
    at: float
    agent_id: str | None
    fields: dict[str, Any]


@dataclass(slots=True)
class TokenRequest:
    """One request to the token endpoint.

    ``status`` stays None when it was never answered; ``over_at`` is when it was answered in full or its client had
    gone, None while neither has happened.
    """

    agent_id: str
    at: float
    status: int | None = None
    over_at: float | None = None


@dataclass(frozen=True, slots=True)
class ConnectAttempt:
    """One namespace CONNECT.

    ``outcome`` is accepted, refused, invalid namespace, or the fault that struck it; ``token_via`` is where the token
    was found: auth, header, query, or empty. ``token_id`` is the token's ``jti``, the same at each attempt with it,
    good or expired; empty for a token that is not the sandbox's.
    """

    agent_id: str | None
    namespace: str
    at: float
    outcome: str
    token_via: str = ""
    token_id: str = ""


class Subscription:
    """The events since the subscription was made, as an async iterator; close it when done."""

    def __init__(self, close: Callable[["Subscription"], None]) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._close = close

    def put(self, event: Event) -> None:
        """Called by the log."""
        self._queue.put_nowait(event)

    def close(self) -> None:
        """Stop receiving."""
        self._close(self)

    def __enter__(self) -> Self:
        """Use as a context manager to close it reliably."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop receiving."""
        self.close()

    def __aiter__(self) -> Self:
        """Iterate for ever."""
        return self

    async def __anext__(self) -> Event:
        """The next event, whenever it comes."""
        return await self._queue.get()


class EventLog:
    """Keeps the last events and wakes those who wait for a condition."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=_LOG_LIMIT)
        self._changed = asyncio.Event()
        self._subscriptions: set[Subscription] = set()

    def add(self, kind: str, agent_id: str | None = None, **fields: Any) -> None:
        """Record an event and wake every waiter."""
        event = Event(kind=kind, at=time.time(), agent_id=agent_id, fields=fields)
        self.events.append(event)
        for subscription in self._subscriptions:
            subscription.put(event)
        self._changed.set()
        self._changed = asyncio.Event()

    def subscribe(self) -> Subscription:
        """All events from now on."""
        subscription = Subscription(self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    async def wait_until(self, predicate: Callable[[], T], timeout: float) -> T:
        """Return the first true value of ``predicate``, asked anew after each event.

        Raises:
            TimeoutError: It was still false after ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while not (value := predicate()):
                await self._changed.wait()
        return value
