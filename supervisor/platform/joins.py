"""Puts a new connection back into the conversations that its agent knows (docs/protocol.md#3-acceptance)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from supervisor.core.backoff import Backoff
from supervisor.core.clock import Clock
from supervisor.core.errors import ConnectionLostError, PlatformError, SendRefusedError, Verdict
from supervisor.platform.connection import Connection

#: Joins on their way at once: their order does not matter, their number should not flood the platform.
AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class JoinTimes:
    """How long joins may take, in seconds.

    Args:
        ack: for an acknowledgement, and for the whole first round.
        first_ack: for an acknowledgement in the first round. A join that is not acknowledged by then has most likely
            been heard: the next ones get their turn, and this one is tried again later.
        retry_initial, retry_cap: the bounds of the backoff between two rounds.
    """

    ack: float
    first_ack: float = 2.0
    retry_initial: float = 1.0
    retry_cap: float = 60.0


@dataclass(frozen=True, slots=True)
class Late:
    """Who is told of joins that are tried once the connection is in use already.

    Args:
        before: given those that are tried now.
        after: given those of them that are joined now, and those that are not.
    """

    before: Callable[[Sequence[str]], None]
    after: Callable[[Sequence[str], Sequence[str]], Awaitable[None]]


class Joins:
    """The conversations that one connection is to join.

    Args:
        connection: the connection; its ``joined`` is set once it is in all of them.
        clock: the time between two rounds.
        times: how long joins may take.
        is_known: whether a conversation is still the agent's: the agent may have left it meanwhile.
        forget: called with each conversation that the platform refuses for good.
        late: told of those that are joined later than others.
        log: the agent's logger.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Clock,
        times: JoinTimes,
        is_known: Callable[[str], bool],
        forget: Callable[[str], Awaitable[None]],
        late: Late,
        log: Any,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._times = times
        self._is_known = is_known
        self._forget = forget
        self._late = late
        self._log = log
        self._missing: dict[str, None] = {}
        self._refused: list[str] = []
        self._lost: ConnectionLostError | None = None
        self._reason = ""

    async def run(self, conversations: Iterable[str], *, later: Iterable[str] = ()) -> None:
        """Join them all; those that fail for a passing reason go on being tried while the connection lives.

        Args:
            conversations: their ids, the most important first.
            later: those that are joined once these were tried, while the connection is in use already.

        Raises:
            ConnectionLostError: the connection was lost meanwhile.
        """
        self._missing = dict.fromkeys(conversations)
        if self._connection.at_agents_gateway:
            self._leave_to_platform()
            return
        if self._missing:
            await self._first_round()
        self._missing |= dict.fromkeys(later)
        if self._missing or self._refused:
            self._connection.start_task(self._go_on(), "joins")
        else:
            self._connection.joined.set()

    async def _first_round(self) -> None:
        times = self._times
        with suppress(TimeoutError):
            async with asyncio.timeout(times.ack):
                await self._round(min(times.first_ack, times.ack))
        if self._lost is not None:
            raise self._lost
        if self._missing:
            reason = self._reason or "the platform is slow"
            self._log.warning("conversations_not_joined", count=len(self._missing), reason=reason)

    def _leave_to_platform(self) -> None:
        """The platform puts the agent into its conversations by itself: all of them count as joined."""
        for conversation_id in self._missing:
            self._connection.record_member(conversation_id, self._clock.monotonic())
        self._missing.clear()
        self._connection.joined.set()

    async def _go_on(self) -> None:
        late = len(self._missing)
        backoff = Backoff(self._times.retry_initial, self._times.retry_cap)
        while True:
            while self._refused:
                await self._forget(self._refused.pop())
            self._missing = {c: None for c in self._missing if self._is_known(c)}
            if not self._missing:
                break
            await self._clock.sleep(backoff.next_delay())
            if self._connection.at_agents_gateway:
                # Its presence was late.
                self._leave_to_platform()
                return
            missing = list(self._missing)
            self._late.before(missing)
            await self._round(self._times.ack)
            if self._lost is not None:
                # The owner of the connection notices too, and the next connection starts over.
                return
            left = [one for one in missing if one in self._missing or one in self._refused]
            await self._late.after([one for one in missing if one not in left], left)
        self._connection.joined.set()
        if late:
            self._log.info("conversations_joined", count=late)

    async def _round(self, ack_seconds: float) -> None:
        """Try each one that is missing once."""
        turns = iter(list(self._missing))

        async def take_turns() -> None:
            for conversation_id in turns:
                if self._lost is None and self._is_known(conversation_id):
                    await self._join(conversation_id, ack_seconds)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(self._missing))):
                group.create_task(take_turns(), name=f"join {self._connection.agent_id}")

    async def _join(self, conversation_id: str, ack_seconds: float) -> None:
        try:
            await self._connection.join(conversation_id, ack_seconds)
        except ConnectionLostError as error:
            self._lost = error
        except SendRefusedError as error:
            self._reason = error.reason
            served = self._connection.registered.done() or self._connection.proven.done()
            # Before the platform has registered a socket it refuses what it would not refuse later.
            if error.verdict is Verdict.REJECT and served:
                del self._missing[conversation_id]
                self._refused.append(conversation_id)
        except PlatformError as error:
            self._reason = error.reason
        else:
            del self._missing[conversation_id]
            self._connection.record_member(conversation_id, self._clock.monotonic())
