"""One agent's lanes over a journal in memory, for tests that say when each message ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.lanes import Begin, Lanes, tasked
from supervisor.protocol import InboundMessage
from tests.support.clock import ManualClock


def beginning(work: Callable[[JournaledMessage], Awaitable[float | None]]) -> Begin:
    """What a coroutine function does for a message, as lanes begin it."""

    async def done(message: JournaledMessage) -> float | None:
        return await work(message)

    return lambda message, ended: tasked(done(message), f"message {message.agent_id}", ended)


Finish = asyncio.Future[float | None]


def row(number: int, conversation: str = "c", *, not_before: float = 0.0, size: int = 0) -> JournaledMessage:
    message = InboundMessage(conversation_id=conversation, role="user", content=str(number).ljust(size))
    return JournaledMessage(
        number, "a" * 24, f"key-{number}", message, MessageState.AVAILABLE, 0, 100.0 + number, not_before=not_before
    )


class Desk:
    """One agent's lanes over a journal in memory; each message runs until :meth:`finish`."""

    def __init__(
        self, dispatcher: Dispatcher, clock: ManualClock, *, concurrency: int = 1, paused: bool = False
    ) -> None:
        self.journal: dict[int, JournaledMessage] = {}
        self.concurrency = concurrency
        self.started: list[int] = []
        self.running: dict[int, Finish] = {}
        self.cancelled: list[int] = []
        self.most = 0
        self.reads = 0
        self.at_read: Callable[[], Awaitable[None]] | None = None
        self.read_errors: list[Exception] = []
        self.lanes = Lanes(
            dispatcher, clock, concurrency=lambda: self.concurrency, begin=beginning(self.work), refill=self.read
        )
        if not paused:
            self.lanes.resume()

    async def work(self, message: JournaledMessage) -> float | None:
        assert message.id in self.journal, "a message that is settled ran again"
        assert message.id not in self.running, "a message ran twice at once"
        self.started.append(message.id)
        done: Finish = asyncio.get_running_loop().create_future()
        self.running[message.id] = done
        self.most = max(self.most, len(self.running))
        try:
            again_at = await done
        except asyncio.CancelledError:
            self.cancelled.append(message.id)
            raise
        finally:
            del self.running[message.id]
        if again_at is None:
            del self.journal[message.id]
        else:
            message.not_before = again_at
        return again_at

    async def read(self, after_id: int, limit: int) -> list[JournaledMessage]:
        self.reads += 1
        if self.read_errors:
            raise self.read_errors.pop()
        found = [r for number, r in sorted(self.journal.items()) if number > after_id and number not in self.running]
        found = found[:limit]
        if self.at_read is not None:
            await self.at_read()
        return found

    def put(self, message: JournaledMessage) -> None:
        self.journal[message.id] = message
        self.lanes.put(message)

    def finish(self, number: int, again_at: float | None = None) -> None:
        self.running[number].set_result(again_at)

    async def run_all(self) -> None:
        """Let every message end as soon as it starts, until none does."""
        while self.running:
            for done in list(self.running.values()):
                done.set_result(None)
            await ManualClock.settle(5)


def desks(clock: ManualClock, number: int, memory_bytes: int, concurrency: int = 1) -> tuple[Dispatcher, list[Desk]]:
    dispatcher = Dispatcher(1000, memory_bytes=memory_bytes)
    return dispatcher, [Desk(dispatcher, clock, concurrency=concurrency) for _ in range(number)]
