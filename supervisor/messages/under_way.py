"""The messages that one agent's handler has in its hands: where each stands, and the wish that one be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from supervisor.core.records import JournaledMessage
from supervisor.core.status import Handling
from supervisor.handlers.stacks import task_stack, thread_stack
from supervisor.handlers.threads import TimeLimit

#: How many others a message may have with it and still be interrupted: who never stops writing is answered too.
MOST_INTERRUPTIONS: Final = 5


class UnderWay(msgspec.Struct, eq=False):
    """One message from its claim to its end, and beyond that while its handler goes on.

    Args:
        message: whose answer is being made.
        since: when it began, seconds since the epoch.
        asked: why somebody wants the answer stopped; None while nobody does.
        interrupted: it is to begin again, together with messages that came meanwhile.
        replaced: it is to begin again, with the code that took the place of its handler's.
        handler: what makes the answer; None until it has begun.
        wake: called once its handler is to be waited for no longer.
        stopped: it came out of our hands because somebody asked for it.
        withdraw: takes back what is being made; False where that cannot be done any more.
    """

    message: JournaledMessage
    since: float
    asked: str | None = None
    interrupted: bool = False
    replaced: bool = False
    handler: object | None = None
    wake: Callable[[], object] = bool
    stopped: bool = False
    over: bool = False
    waiting: list[asyncio.Future[None]] = msgspec.field(default_factory=list)
    withdraw: Callable[[], bool] = bool
    task: asyncio.Task[None] | None = None
    limit: TimeLimit | None = None
    redact: Callable[[str], str] = str
    left_behind: bool = False

    async def stop(self, reason: str) -> bool:
        """Have the answer stopped for good; whether it was, once that is known."""
        if self.asked is None:
            self.asked = reason
            self.wake()
        if not self.over:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(waiter)
            await waiter
        return self.stopped

    def end(self, *, stopped: bool) -> None:
        """The message is out of our hands."""
        self.stopped, self.over = stopped, True
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)

    def interrupt(self) -> None:
        """Have the answer begun again, unless a part of it is out or it was begun again too often."""
        undisturbed = len(self.message.earlier) >= MOST_INTERRUPTIONS
        if not (undisturbed or self.asked is not None or self.interrupted) and self.withdraw():
            self.interrupted = True
            self.wake()

    def begin_anew(self) -> None:
        """Have the answer made by the code that took the place of its handler's; what hangs in a thread stays there."""
        if self.asked is None and not self.interrupted:
            self.replaced = True
            self.wake()

    @property
    def stack(self) -> str:
        """Where the handler stands: in the thread that works for it, else in its task; source lines only."""
        ident = self.limit.thread_ident if self.limit is not None else None
        stack = thread_stack(ident) if ident is not None else ""
        # Looked at again: the thread may work for somebody else by now.
        if stack and self.limit is not None and self.limit.thread_ident == ident:
            return self.redact(stack)
        return self.redact(task_stack(self.task)) if self.task is not None else ""

    def shown(self) -> Handling:
        """The message as people see it."""
        row = self.message
        return Handling(row.id, row.conversation_id, row.attempts, self.since, self.left_behind, self.stack)


class AllUnderWay:
    """Those of one agent, by conversation, of which one message runs at a time; and those that were left behind."""

    def __init__(self) -> None:
        self._running: dict[str, UnderWay] = {}
        self._left_behind: dict[UnderWay, None] = {}

    def begin(self, row: JournaledMessage, now: float) -> UnderWay:
        """A message is worked on."""
        made = self._running[row.conversation_id] = UnderWay(row, now)
        return made

    def end(self, one: UnderWay, *, stopped: bool) -> None:
        """It is out of our hands; ``stopped``: because somebody asked for it."""
        if self._running.get(one.message.conversation_id) is one:
            del self._running[one.message.conversation_id]
        one.end(stopped=stopped)

    def leave_behind(self, one: UnderWay) -> None:
        """Its handler goes on though nobody waits for it."""
        one.left_behind = True
        self._left_behind[one] = None

    def returned(self, one: UnderWay) -> None:
        """A handler that was left behind has ended."""
        self._left_behind.pop(one, None)

    @property
    def left_behind(self) -> int:
        """How many were left behind and have not ended."""
        return len(self._left_behind)

    @property
    def oldest_at(self) -> float | None:
        """When the oldest message came that is worked on, seconds since the epoch; None where there is none."""
        return min((one.message.received_at for one in self._running.values()), default=None)

    def of(self, conversation_id: str) -> UnderWay | None:
        """The message of a conversation that is worked on."""
        return self._running.get(conversation_id)

    def begin_anew(self, handler: object | None) -> None:
        """Have all begun again that are answered by another than ``handler``."""
        for one in list(self._running.values()):
            if one.handler not in (None, handler):
                one.begin_anew()

    def shown(self) -> tuple[Handling, ...]:
        """All of them, the oldest first."""
        everything = sorted({*self._running.values(), *self._left_behind}, key=lambda one: (one.since, one.message.id))
        return tuple(one.shown() for one in everything)
