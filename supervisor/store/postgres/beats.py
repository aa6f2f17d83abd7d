"""Which of the others is dead: who did not move for a lease, as one sees it who looked all the time.

No clock of another machine is asked, nor one that anybody sets: a beat is a counter, and the time is that of whoever
looks since its machine was started, which goes on while that sleeps. An observer that missed looks, because it was slow
or the database away, knows nothing, and begins anew: where all are slow nobody is buried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

#: Beats within the length of a lease, at the least.
BEATS: Final = 5
#: The longest pause between two beats.
BEAT_SECONDS: Final = 1.0
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_seconds() -> float:
    """Seconds since the machine was started, those in which it slept included."""
    return time.clock_gettime(_BOOT_CLOCK)


def pause_of(lease_seconds: float) -> float:
    """How long a replica with such a lease waits from one beat to the next."""
    return min(BEAT_SECONDS, lease_seconds / BEATS)


class Beat(NamedTuple):
    """How far a replica has come: its number, its counter, and how long it may stand still, in seconds."""

    number: int
    beats: int
    lease_seconds: float


class BeatWatch:
    """Looks at the beats of the others.

    Args:
        lease_seconds: of whoever looks: the least that it waits, whatever another one asks for.
        now: seconds since the machine was started.
    """

    def __init__(self, lease_seconds: float, now: Callable[[], float] = boot_seconds) -> None:
        self._lease_seconds = lease_seconds
        self._now = now
        self._seen: dict[int, tuple[int, float]] = {}
        self._looked_at: float | None = None

    def interrupt(self) -> None:
        """A look failed: what was seen until now proves nothing."""
        self._looked_at = None

    def look(self, beats: Iterable[Beat]) -> list[Beat]:
        """Take in how far everybody has come now; those that did not move for a lease."""
        now = self._now()
        if self._looked_at is None or now - self._looked_at > self._lease_seconds / 2:
            self._seen.clear()
        self._looked_at = now
        beats = list(beats)
        self._seen = {
            one.number: seen if (seen := self._seen.get(one.number, (-1, now)))[0] == one.beats else (one.beats, now)
            for one in beats
        }
        return [one for one in beats if now - self._seen[one.number][1] > max(self._lease_seconds, one.lease_seconds)]
