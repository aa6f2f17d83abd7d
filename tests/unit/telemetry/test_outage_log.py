"""Two lines for an outage, however often things fail in between."""

from __future__ import annotations

from supervisor.telemetry import logs
from supervisor.telemetry.outage_log import OutageLog
from tests.support.clock import ManualClock
from tests.support.logging import configured, lines


async def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(clock: ManualClock) -> None:
    stream = configured()
    outages = OutageLog(logs.get_logger("x"), clock, began="agent offline", ended="agent online again")
    assert outages.recovered("a1") is False
    assert outages.failed("a1", "refused", attempt=1) is True
    for _ in range(40):
        await clock.advance(1.5)
        assert outages.failed("a1", "refused") is False
    assert outages.failed("a2", "timeout") is True
    assert "a1" in outages
    assert outages.recovered("a1") is True
    outages.forget("a2")
    assert outages.recovered("a2") is False
    began, other, ended = lines(stream)
    assert (began["level"], began["event"], began["agent"], began["reason"], began["attempt"]) == (
        "warning",
        "agent offline",
        "a1",
        "refused",
        1,
    )
    assert other["agent"] == "a2"
    assert (ended["level"], ended["event"], ended["seconds"], ended["failures"]) == (
        "info",
        "agent online again",
        60.0,
        41,
    )
