"""One line when an outage begins and one when it ends."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from supervisor.core.clock import Clock


class OutageLog:
    """Logs the beginning and the end of an outage, however often things fail in between.

    Args:
        log: where the lines go.
        clock: what durations are measured with.
        subject: what a key is, the field it is logged under: ``agent``, ``host``.
        began, ended: the two events.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        clock: Clock,
        *,
        subject: str = "agent",
        began: str = "outage began",
        ended: str = "outage ended",
    ) -> None:
        self._log = log
        self._clock = clock
        self._subject = subject
        self._began = began
        self._ended = ended
        self._outages: dict[str, tuple[float, int]] = {}

    def failed(self, key: str, reason: str, **fields: object) -> bool:
        """``key`` failed: logged when it is the outage's first failure, else counted; tells which."""
        begun, failures = self._outages.get(key, (self._clock.monotonic(), 0))
        self._outages[key] = (begun, failures + 1)
        if failures:
            return False
        self._log.warning(self._began, **{self._subject: key}, reason=reason, **fields)
        return True

    def recovered(self, key: str, **fields: object) -> bool:
        """``key`` works: logged with duration and failures when it was out, else nothing; tells which."""
        if (outage := self._outages.pop(key, None)) is None:
            return False
        begun, failures = outage
        seconds = round(self._clock.monotonic() - begun, 3)
        self._log.info(self._ended, **{self._subject: key}, seconds=seconds, failures=failures, **fields)
        return True

    def forget(self, key: str) -> None:
        """``key`` is gone for good: its outage ends without a line."""
        self._outages.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._outages
