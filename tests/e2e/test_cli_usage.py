"""``supervisor usage``: sums and costs from the registry, whether or not a supervisor runs on it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from supervisor.core.days import days_before
from supervisor.core.records import UsageRecord
from supervisor.store import Registry
from tests.support.command import Command, InProcess, one_line

A1, A2, GONE = "a" * 24, "b" * 24, "c" * 24


def day(ago: int = 0) -> str:
    return days_before(time.time(), ago)


def record(command: Command, *records: UsageRecord) -> None:
    """Have the registry hold what a supervisor would have written."""

    async def run() -> None:
        registry = await Registry.open(f"sqlite+aiosqlite:///{command.folder / 'supervisor.db'}", upgrade=True)
        for one in records:
            registry.journal.usage.add(one)
        await registry.close()

    asyncio.run(run())


@pytest.fixture
def command(tmp_path: Path) -> Command:
    made = InProcess(tmp_path, {"AGENT_SECRET": "x"})
    made.ok("agents", "add", A1, "--handler", "echo", "--name", "Anna", "--secret-env", "AGENT_SECRET")
    made.ok("agents", "add", A2, "--handler", "echo", "--secret-env", "AGENT_SECRET")
    return made


@pytest.fixture
def used(command: Command) -> Command:
    """Two agents, one of them removed, two models, one without a price, and a day of last month."""
    record(
        command,
        UsageRecord(A1, "gpt-4o", day(), 3, 12_345, 678, 1_000, 0.25, 0),
        UsageRecord(A1, "gpt-4o", day(1), 1, 100, 10, 0, 0.05, 0),
        UsageRecord(A1, "homemade", day(), 2, 50, 5, 0, 0.0, 2),
        UsageRecord(GONE, "gpt-4o", day(), 4, 1_000_000, 0, 0, 12.5, 1),
        UsageRecord(A1, "gpt-4o", day(30), 1, 7, 7, 7, 7.0, 0),
    )
    return command


def test_programs_get_every_record_and_the_sums(used: Command) -> None:
    shown = used.json("usage")
    assert [(row["day"], row["agent_id"], row["model"]) for row in shown["usage"]] == [
        (day(1), A1, "gpt-4o"),
        (day(), A1, "gpt-4o"),
        (day(), A1, "homemade"),
        (day(), GONE, "gpt-4o"),
    ]
    assert shown["usage"][1] == {
        "agent_id": A1,
        "model": "gpt-4o",
        "day": day(),
        "requests": 3,
        "input_tokens": 12_345,
        "output_tokens": 678,
        "cached_tokens": 1_000,
        "cost": 0.25,
        "unpriced_requests": 0,
        "reasoning_tokens": 0,
        "estimated_requests": 0,
        "total_tokens": 13_023,
    }
    assert shown["usage"][2]["cost"] is None, "no price, so nobody knows"
    assert [(row["agent_id"], row["requests"], row["cost"]) for row in shown["agents"]] == [
        (A1, 6, pytest.approx(0.3)),
        (GONE, 4, 12.5),
    ]
    assert (shown["total"]["requests"], shown["total"]["cost"]) == (10, pytest.approx(12.8))
    assert shown["since"] == day(6)


def test_one_agent_and_so_many_days(used: Command) -> None:
    assert used.json("usage", "--agent", A1, "--days", "31")["usage"][0]["day"] == day(30)
    assert {row["day"] for row in used.json("usage", "--days", "1")["usage"]} == {day()}
    assert [row["agent_id"] for row in used.json("usage", "--agent", GONE)["usage"]] == [GONE]


def test_people_get_a_table_that_marks_what_has_no_price(used: Command) -> None:
    done = used("usage")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["DAY", "AGENT", "NAME", "MODEL", "REQUESTS", "INPUT", "CACHED", "OUTPUT", "COST", "(USD)"]
    assert lines[1] == [day(), A1, "Anna", "gpt-4o", "3", "12,345", "1,000", "678", "0.2500"]
    assert lines[2][-1] == "?"
    assert lines[3] == [day(), GONE, "(removed)", "gpt-4o", "4", "1,000,000", "0", "0", "12.50+?"]
    assert lines[-1] == ["total", "10", "1,012,495", "1,000", "693", "12.80+?"]
    assert "No price for gpt-4o, homemade" in one_line(done.stderr)
    assert "SUPERVISOR_PRICES" in done.stderr


def test_amounts_are_in_the_currency_of_the_prices(used: Command) -> None:
    assert used.json("usage", SUPERVISOR_CURRENCY="chf")["currency"] == "CHF"
    head = used("usage", "--by", "model", SUPERVISOR_CURRENCY="chf").stdout.splitlines()[0]
    assert head.endswith("  COST (CHF)")


def test_reasoning_has_a_column_and_what_is_estimated_a_mark(command: Command) -> None:
    record(
        command,
        UsageRecord(A1, "deep", day(), 1, 100, 2_000, 0, 0.5, 0, 1_500),
        UsageRecord(A1, "silent", day(), 2, 30, 40, 0, 0.1, 0, 0, 1),
    )
    done = command("usage", SUPERVISOR_PRICES="", COLUMNS="200")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][-4:] == ["OUTPUT", "REASONING", "COST", "(USD)"]
    assert [line[-5:-1] for line in lines[1:]] == [
        ["100", "0", "2,000", "1,500"],
        ["~30", "0", "~40", "0"],
        ["~130", "0", "~2,040", "1,500"],
        ["~130", "0", "~2,040", "1,500"],
    ]
    assert "Figures after ~ are estimates" in one_line(done.stderr)
    total = command.json("usage")["total"]
    assert (total["reasoning_tokens"], total["estimated_requests"], total["total_tokens"]) == (1_500, 1, 2_170)


def test_without_usage_it_says_how_there_comes_to_be_some(command: Command) -> None:
    done = command("usage")
    assert (done.returncode, done.stdout) == (0, "")
    assert "ctx.usage()" in one_line(done.stderr)
    assert command.json("usage") == {"since": day(6), "currency": "USD", "usage": [], "agents": [], "total": None}


@pytest.mark.parametrize("options", [("--days", "0"), ("--days", "401"), ("--days", "x")])
def test_days_that_make_no_sense_are_a_mistake_of_use(command: Command, options: tuple[str, ...]) -> None:
    assert command("usage", *options).returncode == 2


def test_an_agent_that_never_was_is_an_error_and_one_that_used_nothing_is_not(used: Command) -> None:
    done = used("usage", "--agent", "d" * 24)
    assert done.returncode == 1
    assert "No agent" in one_line(done.stderr)
    assert used("usage", "--agent", A2).returncode == 0


def test_names_from_outside_cannot_spoil_the_table(command: Command) -> None:
    record(command, UsageRecord(A1, "evil\x1b[31m\nmodel [bold]", day(), 1, 1, 1, 0, 0.0, 0))
    out = command.ok("usage")
    assert "\x1b" not in out
    assert "model [bold]" in out
    assert len(out.splitlines()) == 3


def test_sums_are_those_of_each_agent_model_or_day(used: Command) -> None:
    by_model = used.json("usage", "--by", "model")
    assert [(one["model"], one["requests"], one["cost"]) for one in by_model["groups"]] == [
        ("gpt-4o", 8, 12.8),
        ("homemade", 2, None),
    ]
    assert {"since", "currency", "usage", "agents", "total", "by", "groups"} == set(by_model)
    assert not {"agent_id", "day"} & set(by_model["groups"][0])
    by_day = used.json("usage", "--by", "day")["groups"]
    assert [(one["day"], one["requests"]) for one in by_day] == [(day(1), 1), (day(), 9)]

    head, dearest, other, total = used.ok("usage", "--by", "agent").splitlines()
    assert head.split()[:2] == ["AGENT", "NAME"]
    assert (dearest.split()[:2], other.split()[:2]) == ([GONE, "(removed)"], [A1, "Anna"])
    assert total.split()[0] == "total"
    assert [line.split()[0] for line in used.ok("usage", "--by", "day").splitlines()] == ["DAY", day(), day(1), "total"]
    assert used("usage", "--by", "hour").returncode == 2


def test_usage_is_that_of_the_agents_that_are_selected(used: Command) -> None:
    used.ok("agents", "update", A1, "--label", "team=support")
    assert {row["agent_id"] for row in used.json("usage", "--label", "team=support")["usage"]} == {A1}
    assert used.json("usage", "--label", "team=sales")["usage"] == []
