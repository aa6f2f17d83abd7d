"""Places for agents' connections where file descriptors are few: who has one, who waits (docs/faults.md#r27)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.states import AgentState
from supervisor.net.descriptors import REMEDY, Budget, Spare
from supervisor.telemetry.logs import get_logger

#: How often those that wait are looked after: the limit may have been raised.
LOOK_SECONDS: Final = 1.0
#: An agent that is offline keeps its place for so long before one that waits gets it: most outages are short.
KEPT_SECONDS: Final = 60.0
_LETS_GO: Final = frozenset({AgentState.PAUSED, AgentState.STOPPED, AgentState.FAULTED, AgentState.REJECTED})


class Room:
    """The places of a fleet: one for each agent that is connected or about to be, and some for second connections.

    Args:
        budget: reads what the process may have now.
    """

    def __init__(self, clock: Clock, budget: Callable[[], Budget]) -> None:
        #: Read at each look.
        self.budget = budget
        self._clock = clock
        self._held: dict[str, float | None] = {}  # who has a place, and since when it is of no use, monotonic
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._second = 0
        self._log = get_logger("supervisor.fleet")

    @property
    def waiting(self) -> int:
        """How many agents wait for a place."""
        return len(self._waiting)

    @property
    def reason(self) -> str:
        """Why an agent waits, in one line."""
        budget = self.budget()
        return (
            f"waits for a file descriptor: the limit of {budget.limit} is enough for {budget.agents} agents; {REMEDY}"
        )

    def take(self, agent_id: str) -> bool:
        """Take a place, or keep the one that the agent has; False: there is none."""
        if agent_id not in self._held and (self._waiting or len(self._held) >= self.budget().agents):
            return False
        self._held[agent_id] = None
        return True

    async def wait(self, agent_id: str) -> None:
        """Wait for a place, in order of arrival; once it returns the agent has it."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._log.warning("descriptors_short", limit=self.budget().limit, agents_fit=self.budget().agents)
        self._waiting[agent_id] = granted
        self.admit()
        try:
            await granted
        finally:
            self._waiting.pop(agent_id, None)

    def note(self, agent_id: str, state: AgentState) -> None:
        """An agent's state changed: it uses its place, or does not for now, or needs none."""
        if state in _LETS_GO:
            if agent_id in self._held:
                del self._held[agent_id]
                self.admit()
        elif agent_id in self._held:
            self._held[agent_id] = self._clock.monotonic() if state is AgentState.BACKOFF else None

    def admit(self) -> None:
        """Give away what is free; while there is too little, the places that were of no use for long."""
        for agent_id, granted in list(self._waiting.items()):
            if granted.done():
                continue
            while len(self._held) >= self.budget().agents:
                if not self._clear_one():
                    return
            self._held[agent_id] = None
            granted.set_result(None)
            if all(one.done() for one in self._waiting.values()):
                self._log.info("descriptors_suffice", limit=self.budget().limit)

    def _clear_one(self) -> bool:
        """Take back the place that was of no use for longest, if it was so for long."""
        resting = [(since, agent_id) for agent_id, since in self._held.items() if since is not None]
        since, agent_id = min(resting, default=(0.0, ""))
        if not agent_id or self._clock.monotonic() - since < KEPT_SECONDS:
            return False
        del self._held[agent_id]
        return True

    async def watch(self) -> None:
        """Look after those that wait, and say when there is no descriptor left at all, until cancelled."""
        short, spare = False, Spare()
        try:
            while True:
                if self._waiting:
                    self.admit()
                was, short = short, spare.look()
                if short and not was:
                    self._log.error("descriptors_exhausted", limit=self.budget().limit, remedy=REMEDY)
                elif was and not short:
                    self._log.info("descriptors_free_again", limit=self.budget().limit)
                await self._clock.sleep(LOOK_SECONDS)
        finally:
            spare.release()

    def take_second(self) -> bool:
        """Take a place for an agent's second connection; False: there is none."""
        if self._second >= self.budget().second:
            return False
        self._second += 1
        return True

    def leave_second(self) -> None:
        """An agent has one connection again."""
        self._second -= 1
