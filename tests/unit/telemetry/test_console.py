"""Lines for people: coloured where that is wanted, and nobody can forge one."""

from __future__ import annotations

import pytest

from supervisor.telemetry import logs
from tests.support.logging import Written, configured


def test_text_from_outside_forges_no_line() -> None:
    stream = configured("console")
    log = logs.get_logger("x")
    log.info("one\nFAKE", reason="two\n12:00:00 error FAKE \x1b[31m")
    log.info("event", traceback="first line\nsecond \x1b[2J line")
    assert len(stream.getvalue().splitlines()) == 4
    assert "\x1b" not in stream.getvalue()


class Terminal(Written):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "variables", "coloured"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    terminal: bool, variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if terminal else Written()
    logs.configure("INFO", "console", stream)
    logs.get_logger("x").warning("agent offline", agent="a1", reason="two words", empty="")
    assert ("\x1b[" in stream.getvalue()) is coloured
    if not coloured:
        assert stream.getvalue()[8:].rstrip() == (
            ' warning  agent offline                agent=a1 reason="two words" empty=""'
        )
