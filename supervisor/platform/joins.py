"""Puts a new connection back into the conversations that its agent knows (PROTOCOL §3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from supervisor.core.backoff import Backoff
from supervisor.core.clock import Clock
from supervisor.core.errors import ConnectionLostError, PlatformError, SendRefusedError, Verdict
from supervisor.platform.connection import Connection

#: Joins on their way at once: their order does not matter, their number should not flood the platform.
AT_ONCE = 8
#: A join that is not acknowledged by then has most likely been heard: the next ones get their turn, this one another.
FIRST_ACK_SECONDS = 2.0
RETRY_INITIAL_SECONDS, RETRY_CAP_SECONDS = 1.0, 60.0


class Joins:
    """The conversations that one connection is to join.

    Args:
        conversations: their ids, the most important first.
        ack_seconds: how long an acknowledgement may take, and the whole first round.
        is_known: whether a conversation is still the agent's: it may have left it meanwhile.
        forget: told each conversation that the platform refuses for good.
        on_late: told the conversations that were joined only now, after others were in use already.
        log: the agent's logger.
    """

    def __init__(
        self,
        connection: Connection,
        conversations: Iterable[str],
        *,
        clock: Clock,
        ack_seconds: float,
        is_known: Callable[[str], bool],
        forget: Callable[[str], Awaitable[None]],
        on_late: Callable[[list[str]], Awaitable[None]],
        log: Any,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._ack_seconds = ack_seconds
        self._is_known = is_known
        self._forget = forget
        self._on_late = on_late
        self._log = log
        self._missing = dict.fromkeys(conversations)
        self._refused: list[str] = []
        self._lost: ConnectionLostError | None = None
        self._reason = ""

    async def run(self) -> None:
        """Join them all; those that fail for a passing reason go on being tried while the connection lives.

        Raises:
            ConnectionLostError: the connection was lost meanwhile.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ack_seconds):
                await self._round(min(FIRST_ACK_SECONDS, self._ack_seconds))
        if self._lost is not None:
            raise self._lost
        if self._missing:
            reason = self._reason or "the platform is slow"
            self._log.warning("conversations_not_joined", count=len(self._missing), reason=reason)
        if self._missing or self._refused:
            self._connection.tend(self._go_on(), "joins")
        else:
            self._connection.joined.set()

    async def _go_on(self) -> None:
        late = len(self._missing)
        backoff = Backoff(RETRY_INITIAL_SECONDS, RETRY_CAP_SECONDS)
        while True:
            while self._refused:
                await self._forget(self._refused.pop())
            self._missing = {c: None for c in self._missing if self._is_known(c)}
            if not self._missing:
                break
            await self._clock.sleep(backoff.next_delay())
            missing = list(self._missing)
            await self._round(self._ack_seconds)
            if self._lost is not None:
                # Its owner notices too, and the next connection starts over.
                return
            await self._on_late([one for one in missing if one not in self._missing and one not in self._refused])
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
            if error.verdict is Verdict.REJECT:
                del self._missing[conversation_id]
                self._refused.append(conversation_id)
        except PlatformError as error:
            self._reason = error.reason
        else:
            del self._missing[conversation_id]
            self._connection.note_member(conversation_id, self._clock.monotonic())
