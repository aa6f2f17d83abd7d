"""The command's parts without a process: option values, tables, the error line."""

from __future__ import annotations

import errno
import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from supervisor.cli import checks, errors, output, status
from supervisor.cli.errors import UsageError
from supervisor.core.errors import ConfigurationError
from supervisor.core.replicas import ReplicaStatus
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus, InboxCounts, Overview

NOW = 1_800_000_000.0


def agent(number: int, state: AgentState = AgentState.ONLINE, **fields: Any) -> AgentStatus:
    values: dict[str, Any] = {"name": f"Agent {number}", "handler": "echo", "since": NOW - 3700} | fields
    return AgentStatus(id=f"{number:024x}", state=state, **values)


def drawn(renderable: RenderableType, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(renderable)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_setting_values_are_json_where_they_parse_and_text_where_not() -> None:
    pairs = ["a=1", "b=true", "c=text", 'd={"x": [1]}', "e=", "f=a=b", "g=NaN", " h =1", "a=2", 'i="1"', "j={"]
    assert checks.setting_values(pairs) == {
        "a": 2,
        "b": True,
        "c": "text",
        "d": {"x": [1]},
        "e": "",
        "f": "a=b",
        "g": "NaN",
        "h": 1,
        "i": "1",
        "j": "{",
    }


@pytest.mark.parametrize("pair", ["novalue", "=x", " =x", ""])
def test_a_pair_without_key_or_value_is_a_usage_error(pair: str) -> None:
    with pytest.raises(UsageError, match="--label wants KEY=VALUE"):
        checks.key_values([pair], "--label")


def test_every_state_has_a_symbol_of_its_own() -> None:
    assert set(output.STATE_STYLES) == set(AgentState)
    styles = [*output.STATE_STYLES.values(), *output.TROUBLE_STYLES.values()]
    assert len({symbol for symbol, _ in styles}) == len(styles) == len(AgentState) + 4


@pytest.mark.parametrize("width", [60, 80, 100, 140, 400])
def test_tables_fit_and_never_lose_who_it_is_its_state_or_reason(width: int) -> None:
    reason = "the platform refused the secret"
    rows = [agent(1, AgentState.REJECTED, reason=reason), agent(2, inbox=InboxCounts(1, 2, 3), auth_expires_at=NOW - 1)]
    lines = drawn(output.agents_table(output.worst_first(rows), NOW, width), width)
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert ("Agent 1 " if width < 80 else f"{1:024x}") in text
    assert "✖ rejected" in text
    assert "● online" in text
    assert reason in text
    assert ("TOKEN" in text) == (width >= 80)


def test_where_all_have_names_a_narrow_table_keeps_those() -> None:
    rows = [agent(number, name=f"Agent number {number}", auth_expires_at=NOW + 90) for number in range(3)]
    narrow, wide = (drawn(output.agents_table(rows, NOW, width), width) for width in (60, 100))
    assert all("Agent number" in line and line.startswith("● online") for line in narrow[1:])
    assert f"{1:024x}" not in "\n".join(narrow)
    assert f"{1:024x}" in "\n".join(wide)


def test_an_empty_table_is_a_heading() -> None:
    (line,) = drawn(output.agents_table([], NOW, 100), 100)
    assert line.startswith("STATE")


def test_the_worst_come_first() -> None:
    states = [AgentState.PAUSED, AgentState.ONLINE, AgentState.BACKOFF, AgentState.FAULTED]
    ordered = output.worst_first(agent(number, state) for number, state in enumerate(states))
    assert [row.state for row in ordered] == states[::-1]
    alike = [agent(1), agent(2, health="failing: no key"), agent(3)]
    assert [row.failing for row in output.worst_first(alike)] == [True, False, False]
    mixed = [agent(1), agent(2, AgentState.REJECTED), agent(3, trouble="stuck"), agent(4, AgentState.FAULTED)]
    mixed.append(agent(5, trouble="failing", health="failing: no key"))
    assert [row.trouble or row.state for row in output.worst_first(mixed)] == [
        *("faulted", "failing", "stuck", "rejected", "online")
    ]


def test_names_from_outside_cannot_draw_on_the_screen() -> None:
    rows = [agent(1, name="evil\x1b[2J\nname [red]x[/red]", reason="a\x07b\r\nc")]
    text = "\n".join(drawn(output.agents_table(rows, NOW, 300), 300))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x[/red]" in text
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (172_800, "2 d")]
)
def test_durations_are_one_figure(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


def overview(**fields: Any) -> Overview:
    values: dict[str, Any] = {
        "version": "1.2.3",
        "pid": 7,
        "registry_uuid": "u",
        "started_at": 0.0,
        "agents": {"online": 40},
        "inbox": InboxCounts(1, 2, 3),
    }
    return Overview(**(values | fields))


def test_a_screen_shows_what_fits_and_says_what_does_not() -> None:
    rows = [agent(number) for number in range(40)] + [agent(99, AgentState.FAULTED, reason="broken")]
    seen = status.Seen(overview=overview(notices=("a host is down",), problems=("no disk",)), statuses=rows, trouble="")
    lines = drawn(status.draw(seen, (100, 20)), 100)
    assert len(lines) <= 20
    text = "\n".join(lines)
    for expected in ("not ready", "no disk", "a host is down", "▲ faulted", "broken", "of 41", "q end"):
        assert expected in text


@pytest.mark.parametrize("size", [(60, 20), (80, 20), (100, 24), (40, 24)])
def test_a_narrow_screen_is_never_overfull(size: tuple[int, int]) -> None:
    long = "a model answered 500, and what it said is much longer than any line of any terminal " * 3
    rows = [agent(number, name=f"Agent {number}", health=f"failing: {long}", trouble="failing") for number in range(40)]
    figures = overview(notices=("1 agent is failing; see: supervisor agents list --state failing, and the rest",))
    for trouble in ("", "No supervisor answers at this address any more, or it does not answer in time"):
        lines = drawn(status.draw(status.Seen(overview=figures, statuses=rows, trouble=trouble), size), size[0])
        assert len(lines) <= size[1]
        assert all(len(line) <= size[0] for line in lines)
        assert any("1 to " in line and " of 40" in line for line in lines)
        assert " ".join(lines).endswith("q end")


@pytest.mark.parametrize("size", [(60, 12), (100, 12), (250, 12), (100, None)])
def test_an_agent_that_answers_nobody_is_seen_among_forty_that_do(size: tuple[int, int | None]) -> None:
    health = "failing: 3 messages in a row got no answer, the last one: busy"
    rows = [agent(number) for number in range(40)] + [agent(99, name="Zoe", health=health, trouble="failing")]
    lines = drawn(status.draw(status.Seen(overview=overview(), statuses=rows, trouble=""), size), size[0])
    assert size[1] is None or len(lines) <= size[1]
    assert "⚠ 1 failing" in lines[1]
    first = next(line for line in lines if line.startswith(("● online", "⚠ failing")))
    assert {"Zoe", f"{99:024x}"} & set(first.split()), "its connection is well, and yet it stands first"
    assert "3 messages in a row got no answer" in " ".join(lines)


def test_replicas_stand_below_the_figures_a_line_each() -> None:
    living = ReplicaStatus(7, "living", "http://10.0.0.7:8640", "1.2", "web-1", 4242, NOW - 7200, 3, 2, me=True)
    silent = ReplicaStatus(8, "silent", "", "1.2", "web-2\x1b[31m", 43, NOW - 60, 1, reason="it took too long")
    assert drawn(output.replica_line(living, NOW), 200) == [
        "● replica 7 living  3 agents (2 online)  pid 4242 on web-1  1.2, up 2 h  http://10.0.0.7:8640  this one"
    ]
    [line] = drawn(output.replica_line(silent, NOW), 200)
    assert line.startswith("? replica 8 silent  1 agent  pid 43 on web-2")
    assert line.endswith("no address  silent: it took too long")
    assert "\x1b" not in line
    rows = [agent(1), agent(2, AgentState.STOPPED, trouble="unknown", replica=8, stale_since=NOW - 60)]
    figures = overview(replicas=(living, silent), unknown=1)
    lines = drawn(status.draw(status.Seen(overview=figures, statuses=rows, trouble=""), (200, None)), 200)
    assert "? 1 unknown" in lines[1]
    assert [line.partition("  ")[0] for line in lines[2:4]] == ["● replica 7 living", "? replica 8 silent"]
    assert next(line for line in lines[4:] if line.startswith(("●", "?"))).startswith("? unknown")


def test_while_the_supervisor_is_away_the_last_figures_stay_with_their_age() -> None:
    seen = status.Seen(trouble="No supervisor runs")
    assert drawn(status.draw(seen, (80, 20)), 80) == ["⚠ No supervisor runs"]
    seen = status.Seen(overview=overview(), statuses=[agent(1)], trouble="No supervisor runs")
    text = "\n".join(drawn(status.draw(seen, (80, 20)), 80))
    assert "No supervisor runs" in text
    assert "s old" in text
    assert "● online" in text


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (ConfigurationError("two\nlines"), "Error: two lines", 1),
        (UsageError("wrong"), "Error: wrong", 2),
        (OSError(errno.ENOSPC, "No space left on device", "x.db"), "Error: No space left on device (x.db)", 1),
        (
            KeyError("secret=s3cr3t"),
            "Error: internal error, please report it: KeyError: 'secret=[redacted]; "
            "supervisor --debug … shows the traceback",
            1,
        ),
    ],
)
def test_every_failure_is_one_line(error: Exception, line: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.report(error) == code
    assert capsys.readouterr().err == line + "\n"
