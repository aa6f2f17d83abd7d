"""From when on one agent may have missed what was said to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from supervisor.messages.missed import SLACK_SECONDS
from supervisor.messages.scope import Scope


class Gap:
    """The beginning of what an agent may have missed, remembered in the registry.

    Two bounds are hard: what was said before the agent's row was made, or before a supervisor that remembers these
    times first ran, is nobody's to answer.

    Args:
        created_at: when the agent's row was made, as the registry tells it.
        age_seconds: how far back anything is looked for.
    """

    def __init__(self, scope: Scope, created_at: Callable[[], str], age_seconds: float) -> None:
        self._agent_id = scope.agent_id
        self._lives = scope.journal.lives
        self._clock = scope.clock
        self._created_at = created_at
        self._age = age_seconds
        self._covered_until = 0.0

    async def restore(self) -> None:
        """Take up what the registry remembers.

        Raises:
            RegistryError: it cannot be read.
        """
        remembered = (await self._lives.of(self._agent_id)).registered_at or 0.0
        self.covered(min(remembered, self._clock.now()))

    @property
    def floor(self) -> float:
        """What was said before this (seconds since the epoch) is not looked for."""
        return max(self._nobodys_until, self._clock.now() - self._age, self._covered_until - SLACK_SECONDS)

    @property
    def begins(self) -> float:
        """From when on something may be missed, in seconds since the epoch; :attr:`floor` allows for slow notice."""
        return max(self._nobodys_until, self._covered_until)

    @property
    def _nobodys_until(self) -> float:
        return max(_seconds(self._created_at()), self._lives.since)

    @property
    def covered_until(self) -> float:
        """Until when nothing can have been missed, in seconds since the epoch; 0 where nothing is known."""
        return self._covered_until

    def covered(self, at: float) -> None:
        """Nothing said before ``at`` (seconds since the epoch) is missing any more."""
        self._covered_until = max(self._covered_until, at)

    def note(self) -> None:
        """Have the registry remember it."""
        if self._covered_until:
            self._lives.record_soon({self._agent_id: self._covered_until})


def _seconds(created_at: str) -> float:
    """The time of a row in seconds since the epoch; 0 for whatever else raw SQL has written there."""
    try:
        at = datetime.fromisoformat(created_at)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
