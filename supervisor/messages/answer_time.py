"""When an answer was ready and when it was with the platform: the measure of one message's handling."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.clock import Clock


class AnswerTime:
    """Follows the parts of an answer; the last one counts once it is acknowledged and no other can come.

    Args:
        received_at: when the message came, by the wall clock, in seconds since the epoch.
        report: called once, with seconds: received → acknowledged, and last part ready → acknowledged.
    """

    def __init__(self, clock: Clock, received_at: float, report: Callable[[float, float], None]) -> None:
        self._clock = clock
        self._received_at = received_at
        self._report = report
        self._part: int | None = None
        self._ready_at = 0.0
        self._acked: tuple[float, float] | None = None
        self._finished = False

    def ready(self, part: int) -> None:
        """A part of the answer is made."""
        self._part, self._ready_at, self._acked = part, self._clock.monotonic(), None

    def acked(self, part: int) -> None:
        """A part is with the platform."""
        if part == self._part and self._acked is None:
            now, monotonic = self._clock.now(), self._clock.monotonic()
            self._acked = (max(0.0, now - self._received_at), monotonic - self._ready_at)
            self._report_once()

    def finished(self) -> None:
        """The handler has ended well: no further part can come."""
        self._finished = True
        self._report_once()

    def _report_once(self) -> None:
        if self._finished and self._acked is not None:
            self._report(*self._acked)
