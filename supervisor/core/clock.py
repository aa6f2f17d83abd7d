"""Time as a dependency: components take a :class:`Clock` in their constructor and tests advance one by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, Self

#: What is due within so little is due: sums of times leave rounding errors.
ROUNDING_SECONDS: Final = 1e-3


class Timer(Protocol):
    """What is to be called later."""

    def cancel(self) -> object:
        """Do not call it; harmless once it was called."""
        ...


class Clock(Protocol):
    """Wall time for what is stored or compared with the platform's times; monotonic time for durations."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary point, never going back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Have the event loop call something after ``seconds``."""
        ...


class SystemClock:
    """The machine's own clock; to look at it is a call of the system's and none of ours."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)


class Instant(NamedTuple):
    """One moment by both clocks: somebody may set the wall clock afterwards (docs/faults.md#r32)."""

    wall: float
    monotonic: float

    @classmethod
    def now(cls, clock: Clock) -> Self:
        """This moment."""
        return cls(clock.now(), clock.monotonic())

    def age(self, clock: Clock) -> float:
        """How many seconds ago it was, whatever became of the wall clock."""
        return clock.monotonic() - self.monotonic

    def earliest(self, clock: Clock) -> float:
        """The wall time of it: as it was then, or so long ago by the clock as it is now; the earlier of both."""
        return min(self.wall, clock.now() - self.age(clock))

    def earliest_now(self, clock: Clock) -> float:
        """The wall time of now: as the clock says, or as it would, had nobody set it since; the earlier of both."""
        return min(clock.now(), self.wall + self.age(clock))
