"""Asks for joins over one socket, and learns whether its platform ever acknowledges them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from supervisor.core.errors import AckTimeoutError, PlatformError, SendRefusedError
from supervisor.platform.hosts.facts import SocketFacts
from supervisor.platform.questions import Questions

JOIN: Final = "conversation:join"

#: Asks for a conversation within so many seconds; raises as :meth:`supervisor.platform.connection.Connection.join`.
Ask = Callable[[str, float], Awaitable[object]]


class Joiner:
    """Asks for one connection.

    A platform that acknowledges other events and never a join has most likely heard it, or has none: nobody waits for
    it there, but for one at a time beside, because a platform may be rebuilt while we run.

    Args:
        ask: sends a join and waits for its acknowledgement.
        emit: sends a join.
        facts: what is known of the host and namespace; learns whether joins are acknowledged.
        questions: tell a platform that is silent about joins from one that is ill.
        start_task: does something beside the connection, for as long as it lasts.
    """

    def __init__(
        self,
        ask: Ask,
        emit: Callable[[str], None],
        facts: SocketFacts,
        questions: Questions,
        start_task: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._ask = ask
        self._emit = emit
        self._facts = facts
        self._questions = questions
        self._start_task = start_task
        self._busy = False

    async def join(self, conversation_id: str, timeout: float) -> bool:
        """Ask for one; whether it was acknowledged. Raises as ``ask``."""
        if not self._facts.never_acks(JOIN):
            await self._acknowledged(conversation_id, timeout)
            return True
        if self._busy:
            self._emit(conversation_id)
        else:
            self._beside(self._ask_beside(conversation_id, timeout))
        return False

    async def _acknowledged(self, conversation_id: str, timeout: float) -> None:
        try:
            await self._ask(conversation_id, timeout)
        except AckTimeoutError:
            if not self._busy:
                self._beside(self._doubt(timeout))
            raise
        except SendRefusedError:
            self._facts.answered(JOIN)
            raise
        self._facts.answered(JOIN)

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        self._busy = True
        self._start_task(work, "join")

    async def _ask_beside(self, conversation_id: str, timeout: float) -> None:
        with suppress(PlatformError):
            await self._acknowledged(conversation_id, timeout)
        self._busy = False

    async def _doubt(self, timeout: float) -> None:
        """A join was not acknowledged: where something else is, the platform lives."""
        with suppress(PlatformError):
            await self._questions.any_answer(timeout)
            self._facts.unanswered(JOIN)
        self._busy = False
