"""A file and a registry: read within bounds, checked whole, written whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.errors import ConfigurationError, SeveralProblemsError
from supervisor.core.records import AgentRecord
from supervisor.management import fleet_import
from supervisor.management.agents import Checker
from supervisor.settings import Settings
from supervisor.store import LockInfo, Registry
from tests.support.stores import SqliteStore, open_on

A1, A2 = f"{1:024x}", f"{2:024x}"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await open_on(SqliteStore(tmp_path), lock=LockInfo())
    yield opened
    await opened.close()


def record(agent_id: str, **fields: object) -> AgentRecord:
    return AgentRecord(id=agent_id, handler="echo", secret="env:AGENT_X", **fields)  # type: ignore[arg-type]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    with pytest.raises(ConfigurationError, match=r"fleet.yaml cannot be read: No such file"):
        fleet_import.read(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"fleet.yaml is not text in UTF-8"):
        fleet_import.read(path)
    with path.open("wb") as opened:
        opened.truncate(fleet_import.MAX_FILE_BYTES + 1)
    with pytest.raises(ConfigurationError, match="more than 32 MiB"):
        fleet_import.read(path)
    path.write_text("agents: []  # Ä")
    assert fleet_import.read(path) == "agents: []  # Ä"


def test_entries_are_named_and_what_only_keeps_one_from_running_may_be_let_through() -> None:
    text = "agents:\n"
    for one, handler in ((A1, "echo"), (A2, "ecco")):
        text += f'  - {{id: "{one}", handler: {handler}, secret: "env:AGENT_X"}}\n'
    checker = Checker(Settings(_env_file=None))
    with pytest.raises(ConfigurationError, match=rf"f.yaml: agent 2 \({A2}\): There is no handler 'ecco'"):
        fleet_import.checked(text, "f.yaml", [], checker, keep_going=False)
    found = fleet_import.checked(text, "f.yaml", [], checker, keep_going=True)
    assert [one.id for one in found] == [A1, A2]
    assert any("There is no handler 'ecco'" in warning for warning in checker.take_warnings())


def test_what_is_wrong_in_several_entries_is_told_at_once() -> None:
    text = f"""
    agents:
      - {{id: "{A1}", handler: ecco, secret: "file:/nowhere/s", settings: {{concurrency: 0, timeout_seconds: never}}}}
      - {{id: "{A2}", handler: echo, secret: "env:AGENT_X", paused: 1}}
    """
    checker = Checker(Settings(_env_file=None))
    with pytest.raises(SeveralProblemsError) as caught:
        fleet_import.checked(text, "f.yaml", [], checker, keep_going=False)
    handler, secret, concurrency, timeout, paused = caught.value.problems
    assert paused == f"f.yaml: agent 2 ('{A2}'): paused must be true or false"
    assert handler.startswith(f"f.yaml: agent 1 ({A1}): There is no handler 'ecco'")
    assert secret.startswith(f"f.yaml: agent 1 ({A1}): ")
    assert "/nowhere/s" in secret
    assert concurrency.startswith(f"f.yaml: agent 1 ({A1}): settings: concurrency: ")
    assert timeout.startswith(f"f.yaml: agent 1 ({A1}): settings: timeout_seconds: ")


async def test_the_registry_holds_what_is_wanted_and_is_left_alone_when_it_does(registry: Registry) -> None:
    first = await fleet_import.bring(registry, [record(A1), record(A2)], prune=False)
    assert [one.id for one in first.add] == [A1, A2]
    before = await registry.agents()
    assert (await fleet_import.bring(registry, [record(A1)], prune=False)).empty
    assert await registry.agents() == before
    last = await fleet_import.bring(registry, [record(A1, name="Ann")], prune=True)
    assert ([one.record.id for one in last.change], last.remove) == ([A1], (A2,))
    assert [(one.id, one.name) for one in await registry.agents()] == [(A1, "Ann")]
