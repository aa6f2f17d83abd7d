"""Changes of rows that people ask for: none is lost to another one, and what is not shown is not stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.errors import AgentNotFoundError, ConfigurationError
from supervisor.core.records import AgentRecord
from supervisor.management.agents import Changes, Checker, add_agent, change_agents
from supervisor.settings import Settings
from supervisor.store import Registry
from supervisor.telemetry.redaction import REDACTED, mask


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}"


@pytest.fixture
async def registry(url: str) -> AsyncIterator[Registry]:
    opened = await Registry.open(url, upgrade=True)
    await opened.add_agent(AgentRecord("a1", "echo", "env:AGENT_A1", settings={"kept": 1}, labels={"kept": "1"}))
    yield opened
    await opened.close()


@pytest.fixture
def checker() -> Checker:
    return Checker(Settings())


async def test_of_concurrent_changes_none_is_lost(registry: Registry, checker: Checker, url: str) -> None:
    # Another program, such as a command beside a running supervisor.
    other = await Registry.open(url)
    registries, numbers = (registry, other), range(10)
    changes = [Changes(settings={f"k{number}": number}, labels={f"l{number}": "x"}) for number in numbers]
    try:
        made = [change_agents(registries[n % 2], checker, ["a1"], changes[n]) for n in numbers]
        await asyncio.gather(*made)
    finally:
        await other.close()
    row = await registry.agent("a1")
    assert row.settings == {"kept": 1} | {f"k{number}": number for number in numbers}
    assert row.labels == {"kept": "1"} | {f"l{number}": "x" for number in numbers}


async def test_a_change_that_is_refused_leaves_the_row_as_it_was(registry: Registry, checker: Checker) -> None:
    before = await registry.agent("a1")
    with pytest.raises(ConfigurationError, match="concurrency"):
        await change_agents(registry, checker, ["a1"], Changes({"name": "Ada"}, settings={"concurrency": 0}))
    assert await registry.agent("a1") == before


async def test_many_are_changed_together_or_none(registry: Registry, checker: Checker) -> None:
    await registry.apply(add=[AgentRecord(f"a{n}", "echo", "env:AGENT_A1", settings={"kept": n}) for n in range(2, 5)])
    ids = [f"a{n}" for n in range(1, 5)]
    await change_agents(registry, checker, ids, Changes({"name": "Ada"}, settings={"concurrency": 2}))
    rows = await registry.agents()
    assert [(row.name, row.settings) for row in rows] == [("Ada", {"kept": n, "concurrency": 2}) for n in range(1, 5)]
    # One that would be too large with it.
    await registry.update_agent("a3", settings={"long": "x" * 1_000_000})
    before = await registry.agents()
    with pytest.raises(ConfigurationError, match="a3"):
        await change_agents(registry, checker, ids, Changes({"name": "Eve"}, settings={"more": "y" * 100_000}))
    with pytest.raises(AgentNotFoundError):
        await change_agents(registry, checker, [*ids, "gone"], Changes({"name": "Eve"}))
    assert await registry.agents() == before


async def test_what_stands_for_a_secret_is_not_stored_over_it(registry: Registry, checker: Checker) -> None:
    secrets = {"api_key": "hush", "headers": [{"Authorization": "Bearer hush"}], "url": "http://me:hush@host/"}
    await registry.update_agent("a1", settings=secrets)
    for key, shown in mask(secrets).items():
        with pytest.raises(ConfigurationError, match=rf"leave that key out, or give its value \('{key}'\)"):
            await change_agents(registry, checker, ["a1"], Changes(settings={"tag": "x", key: shown}))
    assert (await registry.agent("a1")).settings == secrets
    with pytest.raises(ConfigurationError, match="not shown"):
        checker.check(AgentRecord("a2", "echo", "env:AGENT_A2", settings=mask(secrets)), keep_going=True)


async def test_a_row_that_was_damaged_like_that_can_be_changed_and_mended(registry: Registry, checker: Checker) -> None:
    await registry.update_agent("a1", settings={"api_key": REDACTED, "password": REDACTED})
    await change_agents(registry, checker, ["a1"], Changes({"name": "Ada"}, settings={"tag": "x"}))
    await change_agents(registry, checker, ["a1"], Changes(settings={"api_key": "hush"}, unset=["password"]))
    assert (await registry.agent("a1")).settings == {"api_key": "hush", "tag": "x"}


@pytest.mark.parametrize(
    ("key", "warned"),
    [
        ("concurency", "settings: concurency is left to the handler; did you mean concurrency?"),
        ("max_attemps", "settings: max_attemps is left to the handler; did you mean max_attempts?"),
        ("concurrency", None),
        ("command", None),
        ("model", None),
    ],
)
async def test_a_slip_in_a_key_is_a_warning(checker: Checker, key: str, warned: str | None) -> None:
    checker.given({key: 2})
    assert checker.take_warnings() == ([warned] if warned else [])


async def test_a_slip_for_a_setting_that_the_handler_says_it_has_is_refused(
    registry: Registry, checker: Checker
) -> None:
    refused = "^settings: there is no temprature; did you mean temperature\\?$"
    with pytest.raises(ConfigurationError, match=refused):
        await add_agent(registry, checker, AgentRecord("a2", "assistant", "env:AGENT_A2", settings={"temprature": 1}))
    await add_agent(registry, checker, AgentRecord("a2", "assistant", "env:AGENT_A2", settings={"team": "blue"}))
    with pytest.raises(ConfigurationError, match=refused):
        await change_agents(registry, checker, ["a2"], Changes(settings={"temprature": 1}))
    # A handler that does not say what it has may have anything.
    await change_agents(registry, checker, ["a1"], Changes(settings={"temprature": 1}))
    with pytest.raises(ConfigurationError, match=refused):
        await change_agents(registry, checker, ["a1"], Changes({"handler": "assistant"}, settings={"temprature": 2}))
    assert (await registry.agent("a1")).handler == "echo"


async def test_a_value_that_does_not_fit_is_refused_unless_the_row_has_it(registry: Registry, checker: Checker) -> None:
    refused = "^settings: temperature must be a number, and is text$"
    wrong = {"temperature": "warm", "tools": "shop"}
    with pytest.raises(ConfigurationError, match=refused):
        await add_agent(registry, checker, AgentRecord("a2", "assistant", "env:AGENT_A2", settings=wrong))
    await registry.add_agent(AgentRecord("a2", "assistant", "env:AGENT_A2", settings=wrong))
    await change_agents(registry, checker, ["a2"], Changes(settings={"temperature": "warm", "model": "openai:gpt-4o"}))
    with pytest.raises(ConfigurationError, match=refused):
        await change_agents(registry, checker, ["a2"], Changes(settings={"temperature": "cold"}))
    await change_agents(registry, checker, ["a2"], Changes(settings={"temperature": 0.5}))


async def test_a_number_in_quotes_is_taken_as_before_and_warned_about(registry: Registry, checker: Checker) -> None:
    quoted = {"temperature": "0.5", "model": "openai:gpt-4o"}
    await add_agent(registry, checker, AgentRecord("a2", "assistant", "env:AGENT_A2", settings=quoted))
    assert (await registry.agent("a2")).settings == quoted
    [warned] = [line for line in checker.take_warnings() if "temperature" in line]
    assert warned == (
        "settings: temperature must be a number, and is text: write it without quotes; the next version refuses it"
    )


async def test_a_slip_that_a_row_has_had_is_in_nobodys_way(registry: Registry, checker: Checker) -> None:
    await registry.add_agent(AgentRecord("a2", "assistant", "env:AGENT_A2", settings={"temprature": 1}))
    await change_agents(registry, checker, ["a2"], Changes(settings={"temprature": 1, "model": "openai:gpt-4o"}))
    await registry.add_agent(AgentRecord("a3", "gone", "env:AGENT_A3"))
    await change_agents(registry, checker, ["a3"], Changes(settings={"temprature": 1}))


def test_a_handler_whose_packages_are_not_installed_is_a_warning_with_the_cure(tmp_path: Path) -> None:
    requires = {"not_there_1": "install both", "not_there_2": "install both", "not_there_3": "apt install it"}
    (tmp_path / "needy.py").write_text(f"REQUIRES = {requires}")
    checker = Checker(Settings(), tmp_path)
    checker.handler("needy:Handler")
    assert checker.take_warnings() == [
        "handler needy needs not_there_1 and not_there_2, not installed here; where the supervisor runs: install both",
        "handler needy needs not_there_3, not installed here; where the supervisor runs: apt install it",
    ]
    # Those of the assistant are installed where tests run.
    bundled = Checker(Settings())
    bundled.handler("assistant")
    assert bundled.take_warnings() == []
