"""Whose turn it is to try a host that is down: a few at once, one a second, first come first served."""

from __future__ import annotations

import asyncio

from supervisor.core.clock import Clock
from supervisor.core.tasks import kept

#: Attempts at once on a host that is down.
PROBES = 3
#: The least time from the beginning of one such attempt to that of the next.
PROBE_SECONDS = 1.0


class Probes:
    """The turns of one host's agents.

    Who waited, tried and failed comes last again: agents that cannot connect for reasons of their own must not keep the
    turns to themselves.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: How many processes try the host, this one included: each takes turns as much more rarely.
        self.replicas = 1
        self._waiting: dict[str, asyncio.Future[None]] = {}  # in order of arrival
        self._trying: set[str] = set()
        self._next_at = clock.monotonic()
        self._pump: asyncio.Task[None] | None = None

    @property
    def trying(self) -> int:
        """How many agents have their turn."""
        return len(self._trying)

    async def turn(self, agent_id: str) -> None:
        """Return when it is the agent's turn, which :meth:`end` or :meth:`open` ends; so does cancelling the wait."""
        self.end(agent_id)
        mine = self._waiting[agent_id] = asyncio.get_running_loop().create_future()
        self._give_soon()
        try:
            await mine
        except asyncio.CancelledError:
            # Its turn may have come at this very moment.
            self.end(agent_id)
            raise

    def end(self, agent_id: str) -> None:
        """The agent neither waits nor tries any more: its place is the next one's."""
        waiting = self._waiting.pop(agent_id, None)
        if waiting is not None:
            waiting.cancel()
        if agent_id in self._trying:
            self._trying.remove(agent_id)
            self._give_soon()

    def open(self) -> None:
        """The host is back: it is everybody's turn."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
        self._trying.clear()
        if self._pump is not None:
            self._pump.cancel()

    def _give_soon(self) -> None:
        if (self._pump is None or self._pump.done()) and self._may_give:
            self._pump = asyncio.create_task(kept(self._give_turns), name="probes")

    @property
    def _may_give(self) -> bool:
        return bool(self._waiting) and len(self._trying) < max(1, PROBES // self.replicas)

    async def _give_turns(self) -> None:
        while self._may_give:
            left = self._next_at - self._clock.monotonic()
            if left > 0:
                await self._clock.sleep(left)
                continue
            agent_id = next(iter(self._waiting))
            self._trying.add(agent_id)
            self._next_at = self._clock.monotonic() + PROBE_SECONDS * self.replicas
            self._waiting.pop(agent_id).set_result(None)
