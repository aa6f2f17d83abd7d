"""What is wanted of one agent: its row, a reload, its end. The fleet writes, the agent's task reads and is woken."""

from __future__ import annotations

import asyncio
import math

from supervisor.core.clock import Clock
from supervisor.core.records import AgentRecord
from supervisor.fleet.change import Change


class Desired:
    """The desired state of one agent, and the signal that it changed."""

    def __init__(self, record: AgentRecord, clock: Clock) -> None:
        #: Set with each change; the agent's task waits for it beside everything else.
        self.change = Change(clock)
        self._clock = clock
        self._record = record
        self._grace_seconds: float | None = None
        self._stop_at = math.inf
        self._reload_due = False
        self._reloads: list[asyncio.Future[str]] = []
        self._standby = False
        #: Whether something may have been missed before the agent came to this process.
        self.missed = True

    @property
    def record(self) -> AgentRecord:
        """The row as the fleet last saw it."""
        return self._record

    @property
    def reload_due(self) -> bool:
        """Whether handler code, instruction and settings are to be read anew."""
        return self._reload_due

    @property
    def standby(self) -> bool:
        """Whether another process has the agent still: it is to be connected, and no more."""
        return self._standby

    def stand_by(self) -> None:
        """Another process has the agent still."""
        self._standby = True

    def own(self, *, missed: bool) -> None:
        """The agent is this process's from now on."""
        self._standby, self.missed = False, missed
        self.change.set()

    @property
    def stopping(self) -> bool:
        """Whether the agent is to end."""
        return self._grace_seconds is not None

    @property
    def offline(self) -> bool:
        """Whether the agent is to have no connection: it is paused, or to end."""
        return self.stopping or self._record.paused

    @property
    def grace_seconds(self) -> float:
        """How long what runs may take to end once the agent is to stop; 0 as long as it is not."""
        return self._grace_seconds or 0.0

    @property
    def stop_at(self) -> float:
        """When the grace period is over, in monotonic seconds; infinite as long as the agent is not to stop."""
        return self._stop_at

    def replace(self, record: AgentRecord) -> None:
        """The row changed. Wakes nobody: whether the agent's task has to act is for the caller to say."""
        self._record = record

    def stop(self, grace_seconds: float) -> None:
        """The agent is to drain for so long at most, then go offline and end."""
        self._grace_seconds = grace_seconds
        self._stop_at = self._clock.monotonic() + grace_seconds
        self.change.set()

    def reload(self) -> None:
        """Handler code, instruction and settings are to be read anew, and the connection is to be renewed."""
        self._reload_due = True
        self.change.set()

    async def refresh(self) -> str:
        """As :meth:`reload`; returns once it is done, empty, or once it failed, with the reason."""
        over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reloads.append(over)
        self.reload()
        return await over

    def reload_taken(self) -> None:
        """The agent's task has read everything anew, or found that it cannot."""
        self._reload_due = False

    def answer_reloads(self, reason: str) -> bool:
        """Tell whoever waits in :meth:`refresh` how it went, empty: well; whether anybody did.

        While another reload is due, what was done is what was asked for before: nobody is told yet.
        """
        return not self._reload_due and self._answer(reason)

    def reload_failed(self, reason: str) -> None:
        """Tell whoever waits in :meth:`refresh` that the agent cannot run like this; it stays due for the next try."""
        self._answer(reason)

    def _answer(self, reason: str) -> bool:
        waited = bool(self._reloads)
        for over in self._reloads:
            if not over.done():
                over.set_result(reason)
        self._reloads.clear()
        return waited
