"""From when on one agent may have missed what was said to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from supervisor.core.clock import Instant
from supervisor.core.records import AgentLife
from supervisor.messages.missed import SLACK_SECONDS
from supervisor.messages.scope import Scope


class Gap:
    """The beginning of what an agent may have missed, remembered in the registry.

    Two bounds are hard: what was said before the agent's row was made, or before a supervisor that remembers these
    times first ran, is nobody's to answer.

    Args:
        created_at: when the agent's row was made, as the registry tells it.
        age_seconds: how far back anything is looked for.
        platform_now: the time by the platform's clock, by which history is dated, where it is known to be another than
            ours.

    A wall clock that is wrong, or is set, makes it look further back and never less far: what is known is not taken
    twice.
    """

    def __init__(
        self,
        scope: Scope,
        created_at: Callable[[], str],
        age_seconds: float,
        *,
        platform_now: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._agent_id = scope.agent_id
        self._lives = scope.journal.lives
        self._clock = scope.clock
        self._made = Instant.now(scope.clock)
        self._created_at = created_at
        self._age = age_seconds
        self._platform_now = platform_now
        self._covered: Instant | None = None

    async def restore(self, life: AgentLife) -> None:
        """Take up what the registry remembers; from its first life on it remembers something of each agent.

        Raises:
            RegistryError: it cannot be written.
        """
        remembered = life.registered_at
        if remembered is None:
            # This life may end in its first moments, and nothing else tells the next one that there was any.
            await self._lives.record_registered({self._agent_id: self.begins})
        elif remembered <= self._clock.now():
            self.covered(remembered)
        # Else a clock was or is wrong, and nothing is known: all within reach is looked at.

    @property
    def now(self) -> float:
        """Now, as history is dated (seconds since the epoch): never later than the platform's clock, whatever ours is.

        Where nobody knows which clock is wrong it is the earliest of ours, ours as it was before it was set, and the
        platform's.
        """
        ours = self._made.earliest_now(self._clock)
        told = self._platform_now()
        return ours if told is None else min(ours, told)

    @property
    def floor(self) -> float:
        """What was said before this (seconds since the epoch) is not looked for."""
        return max(self._nobodys_until, self.now - self._age, self.covered_until - SLACK_SECONDS)

    @property
    def begins(self) -> float:
        """From when on something may be missed, in seconds since the epoch; :attr:`floor` allows for slow notice."""
        return max(self._nobodys_until, self.covered_until)

    @property
    def _nobodys_until(self) -> float:
        # No later than when the agent was begun with, by a clock that may have been set since.
        begun = self._made.earliest(self._clock)
        # Written in the future: the clock of the first start was wrong, or that of another machine is.
        since = self._lives.since if self._lives.since <= begun + SLACK_SECONDS else 0.0
        return min(max(_seconds(self._created_at()), since), begun) + self.now - self._clock.now()

    @property
    def covered_until(self) -> float:
        """Until when nothing can have been missed, in seconds since the epoch; 0 where nothing is known."""
        return 0.0 if self._covered is None else self._covered.earliest(self._clock)

    def covered(self, at: float) -> None:
        """Nothing said before ``at`` (seconds since the epoch) is missing any more."""
        if at > self.covered_until:
            self._covered = Instant(at, self._clock.monotonic() - (self._clock.now() - at))

    def note(self) -> None:
        """Have the registry remember it."""
        if self._covered is not None:
            self._lives.record_soon({self._agent_id: self.covered_until})


def _seconds(created_at: str) -> float:
    """The time of a row in seconds since the epoch; 0 for whatever else raw SQL has written there."""
    try:
        at = datetime.fromisoformat(created_at)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
