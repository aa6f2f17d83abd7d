"""Has one agent's messages answered by its handler, and knows which of them are."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.backoff import Backoff
from supervisor.core.records import JournaledMessage
from supervisor.core.states import FINAL_MESSAGE_STATES, MessageState
from supervisor.core.tasks import to_the_end
from supervisor.messages.execution import Execution, Means
from supervisor.messages.lanes import NO_WORK, Ended, Work
from supervisor.messages.outbox import Outbox
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile

#: How long a cancelled handler may take to end before its lane goes on without it.
CANCEL_GRACE_SECONDS = 5.0

#: Why a message that a person stopped is cancelled.
STOP_REASON = "stopped by /stop"


class MessageExecutor:
    """Works on the messages of one agent; :meth:`begin` is what its lanes call.

    Args:
        backoff: seconds before the next attempt, by the number of the one that failed.
        cancel_grace_seconds: how long a cancelled handler may take to end.
    """

    def __init__(
        self,
        profile: Profile,
        participation: Participation,
        outbox: Outbox,
        *,
        backoff: Callable[[int], float] | None = None,
        cancel_grace_seconds: float = CANCEL_GRACE_SECONDS,
    ) -> None:
        self._profile = profile
        self._journal = profile.scope.journal
        self._means = Means(profile, participation, outbox, backoff or _delay, cancel_grace_seconds)
        #: What the handler has in its hands.
        self.under_way = self._means.under_way
        # The numbers of messages that are being cancelled before their handler has begun.
        self._unwanted: dict[int, str] = {}

    @property
    def abandoned(self) -> int:
        """How many handlers go on though nobody waits for them."""
        return self.under_way.left_behind

    async def stop(self, conversation_id: str, before_id: int) -> bool:
        """Cancel the answer that is being made in a conversation, for good, if its message came before ``before_id``.

        Returns:
            False where none is, or where it was ready in that moment.
        """
        running = self.under_way.of(conversation_id)
        return running is not None and running.message.id <= before_id and await running.stop(STOP_REASON)

    def came_behind(self, row: JournaledMessage) -> None:
        """A message waits behind one whose answer is being made: where the row says so, that one begins again."""
        running = self.under_way.of(row.conversation_id)
        if running and self._profile.settings.when_busy == "interrupt" and self._profile.collects(row):
            running.interrupt()

    async def cancel(self, row: JournaledMessage, reason: str) -> bool:
        """Cancel a message for good, whether its handler runs or has not begun; whether it was in time.

        Args:
            row: as the journal has it.

        Raises:
            RegistryError: the database refused it.
        """
        running = self.under_way.of(row.conversation_id)
        if running is not None and running.message.id == row.id:
            return await running.stop(reason)
        # What is claimed in this moment is met before its handler begins.
        self._unwanted[row.id] = reason
        try:
            if await to_the_end(self._journal.settle(row, MessageState.CANCELLED, error=reason)) is not None:
                return True
            running = self.under_way.of(row.conversation_id)
            return running is not None and running.message.id == row.id and await running.stop(reason)
        finally:
            del self._unwanted[row.id]

    def begin_anew(self) -> None:
        """Have what the handler before the present one still answers made by the present one."""
        self.under_way.begin_anew(self._profile.mounted)

    def begin(self, row: JournaledMessage, ended: Ended) -> Work:
        """Claim, run and settle one message.

        Args:
            ended: told once: None when it is settled or no longer ours, else when it is to be tried again (seconds
                since the epoch; :data:`~supervisor.messages.lanes.INTERRUPTED`: it waits as before).
        """
        if row.state in FINAL_MESSAGE_STATES:
            # Stopped while it waited for its next attempt.
            ended(None)
            return NO_WORK
        execution = Execution(self._means, row, ended)
        execution.begin(self._unwanted.get(row.id) if self._unwanted else None)
        return execution


def _delay(attempt: int) -> float:
    """Seconds before the next attempt at a message: full jitter, 1 s doubling to 60 s."""
    backoff = Backoff()
    backoff.failures = attempt - 1
    return backoff.next_delay()
