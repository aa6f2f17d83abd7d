"""The answers that one agent is making: shown, and stopped for good when a person or an operator says so."""

from __future__ import annotations

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.core.status import Handling
from supervisor.messages.executor import STOP_REASON, MessageExecutor
from supervisor.messages.lanes import Lanes
from supervisor.messages.scope import Scope


class Answers:
    """One agent's messages whose answers are being made, or are to be made."""

    def __init__(self, scope: Scope, lanes: Lanes, executor: MessageExecutor) -> None:
        self._journal = scope.journal
        self._lanes = lanes
        self._executor = executor

    @property
    def under_way(self) -> tuple[Handling, ...]:
        """The messages that the handler has in its hands, with where it stands."""
        return self._executor.under_way.shown()

    @property
    def oldest_at(self) -> float | None:
        """When the oldest message came that waits or is worked on, in seconds since the epoch; None without one."""
        times = (self._lanes.oldest_at, self._executor.under_way.oldest_at)
        return min((at for at in times if at is not None), default=None)

    async def stop(self, conversation_id: str, before_id: int) -> bool:
        """Cancel the answer that is being made in a conversation to what came before ``before_id`` (``/stop``).

        Returns:
            Whether there was one.
        """
        if await self._executor.stop(conversation_id, before_id):
            return True
        row = self._lanes.between_attempts(conversation_id)
        if row is None or row.id > before_id:
            return False
        stopped = await self._journal.settle(row, MessageState.CANCELLED, error=STOP_REASON)
        self._lanes.retry_now(conversation_id)
        # Where its next attempt was faster, that attempt is stopped.
        return stopped is not None or await self._executor.stop(conversation_id, before_id)

    def begin_anew(self) -> None:
        """Have what the handler before the present one still answers made by the present one, as its author wants.

        What hangs in a thread is left behind there; an answer of which a part is out ends as a dead letter.
        """
        self._executor.begin_anew()

    async def cancel(self, row: JournaledMessage, reason: str) -> bool:
        """Cancel a message for good, whether it waits, runs, hangs or is between attempts; whether it was in time.

        A handler that cannot be stopped is left behind; the next message of its conversation goes on.

        Args:
            row: as the journal has it.

        Raises:
            RegistryError: the database refused it.
        """
        later = self._lanes.between_attempts(row.conversation_id)
        if later is None or later.id != row.id:
            return await self._executor.cancel(row, reason)
        cancelled = await self._executor.cancel(later, reason)
        self._lanes.retry_now(row.conversation_id)
        return cancelled
