"""The fleet's file: taken at the start and whenever it has changed, whole or not at all, and never half written."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from supervisor.core.records import AgentRecord
from supervisor.management.agents import Checker
from supervisor.service.agents_file import AgentsFile
from supervisor.settings import Settings
from supervisor.store import LockInfo, Registry
from tests.support.clock import ManualClock
from tests.support.observing import named
from tests.support.stores import SqliteStore, open_on

SECRET = "in-the-clear-s3cr3t"
A1, A2, A3 = (f"{number:024x}" for number in range(1, 4))


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await open_on(SqliteStore(tmp_path), lock=LockInfo())
    yield opened
    await opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(SECRET)
    return tmp_path / "fleet.yaml"


def agents_file(path: Path, registry: Registry, *, prune: bool = False) -> AgentsFile:
    settings = Settings(secret_dirs=(path.parent,), _env_file=None)
    return AgentsFile(path, registry, lambda: Checker(settings), ManualClock(), prune=prune)


def fleet(path: Path, *agents: str, **fields: Any) -> str:
    secret = f"file:{path.parent / 'secret'}"
    return json.dumps({"agents": [{"id": one, "handler": "echo", "secret": secret, **fields} for one in agents]})


async def looks(watched: AgentsFile, times: int = 3) -> list[bool]:
    return [await watched.look() for _ in range(times)]


async def ids(registry: Registry) -> list[str]:
    return [record.id for record in await registry.agents()]


async def test_what_changes_is_taken_once_and_what_stays_is_left_alone(
    path: Path, registry: Registry, log: list[Any]
) -> None:
    watched = agents_file(path, registry)
    path.write_text(fleet(path, A1))
    assert await watched.take()
    await registry.update_agent(A1, paused=True)
    assert await looks(watched) == [False, False, False]
    assert (await registry.agent(A1)).paused, "by hand, and the file has not changed"
    path.write_text(fleet(path, A1, A2))
    # Seen, then taken: between two looks it may be half written.
    assert await looks(watched) == [False, True, False]
    assert [(one.id, one.paused) for one in await registry.agents()] == [(A1, False), (A2, False)]
    assert [(one["added"], one["changed"]) for one in named(log, "agents_file_imported")] == [(1, 0), (1, 1)]
    assert watched.problem == ""


async def test_a_file_that_is_being_written_is_waited_for(path: Path, registry: Registry) -> None:
    watched = agents_file(path, registry, prune=True)
    path.write_text(fleet(path, A1, A2, A3))
    await watched.take()
    for text in ("", "agents:", f"agents: [{fleet(path, A1)[12:-2]}]"):
        # Each of them alone would be refused, or, the last one, remove two agents.
        path.write_text(text)
        assert not await watched.look()
    path.write_text(fleet(path, A1, A2, A3, name="New"))
    assert await looks(watched) == [False, True, False]
    assert [one.name for one in await registry.agents()] == ["New"] * 3


async def test_a_mounted_folder_that_is_swapped_is_noticed(path: Path, registry: Registry) -> None:
    """As the kubelet does it: the file is a link into a folder that is replaced behind another link."""
    folder = path.parent / "mounted"
    for version, agents in enumerate(((A1,), (A2,))):
        (folder / str(version)).mkdir(parents=True)
        (folder / str(version) / "fleet.yaml").write_text(fleet(path, *agents))
        # Nothing but the file itself tells them apart.
        os.utime(folder / str(version) / "fleet.yaml", (1, 1))
    (folder / "..data").symlink_to("0")
    (folder / "fleet.yaml").symlink_to("..data/fleet.yaml")
    watched = agents_file(folder / "fleet.yaml", registry)
    await watched.take()
    (folder / "fresh").symlink_to("1")
    (folder / "fresh").rename(folder / "..data")
    assert await looks(watched) == [False, True, False]
    assert await ids(registry) == [A1, A2]


@pytest.mark.parametrize(("prune", "left"), [(False, [A1, A2]), (True, [A2])])
async def test_an_entry_that_goes_stays_unless_pruned(
    path: Path, registry: Registry, prune: bool, left: list[str]
) -> None:
    watched = agents_file(path, registry, prune=prune)
    path.write_text(fleet(path, A1, A2))
    await watched.take()
    path.write_text(fleet(path, A2))
    assert await looks(watched) == [False, prune, False]
    assert await ids(registry) == left


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("agents: [", "line 1"),
        ("", 'it must hold a list "agents:"'),
        (f'agents: [{{id: "{A2}", handler: echo, secret: {SECRET}}}]', "never the secret itself"),
        (f'agents: [{{id: "{A2}", handler: echo}}]', "secret is missing"),
        (None, "cannot be read: No such file"),
    ],
)
async def test_a_bad_file_changes_nothing_and_is_said_once_until_it_is_mended(
    path: Path, registry: Registry, log: list[Any], text: str | None, reason: str
) -> None:
    watched = agents_file(path, registry, prune=True)
    path.write_text(fleet(path, A1))
    await watched.take()
    path.unlink() if text is None else path.write_text(text)
    assert await looks(watched, 4) == [False] * 4
    assert await ids(registry) == [A1]
    [line] = named(log, "agents_file_refused")
    assert line["log_level"] == "error"
    assert reason in line["reason"]
    assert reason in watched.problem
    assert SECRET not in str(log) + watched.problem
    path.write_text(fleet(path, A1, A3))
    assert await looks(watched) == [False, True, False]
    assert (watched.problem, await ids(registry)) == ("", [A1, A3])
    assert len(named(log, "agents_file_taken_again")) == 1


async def test_an_agent_that_cannot_run_yet_keeps_no_other_out(path: Path, registry: Registry, log: list[Any]) -> None:
    watched = agents_file(path, registry)
    nowhere = {"id": A2, "handler": "ecco", "secret": f"file:{path.parent / 'missing'}"}
    path.write_text(json.dumps({"agents": [*json.loads(fleet(path, A1))["agents"], nowhere]}))
    assert await watched.take()
    assert await ids(registry) == [A1, A2]
    assert any("There is no handler 'ecco'" in line["reason"] for line in named(log, "agents_file_warning"))
    assert watched.problem == ""


async def test_a_registry_that_is_busy_is_tried_again_and_a_bad_file_is_not(
    path: Path, registry: Registry, log: list[Any], tmp_path: Path
) -> None:
    watched = agents_file(path, registry)
    path.write_text(fleet(path, A1))
    hidden = tmp_path / "hidden.db"
    database = SqliteStore(tmp_path).path
    database.rename(hidden)
    assert await registry.look()
    assert not await watched.take()
    assert "registry" in watched.problem
    hidden.rename(database)
    assert not await registry.look()
    assert await looks(watched) == [True, False, False]
    assert (await ids(registry), watched.problem) == ([A1], "")


async def test_rows_of_others_stay_as_they_are(path: Path, registry: Registry) -> None:
    await registry.add_agent(AgentRecord(id=A3, handler="echo", secret="env:AGENT_X", paused=True))
    watched = agents_file(path, registry)
    path.write_text(fleet(path, A1))
    await watched.take()
    assert [(one.id, one.paused) for one in await registry.agents()] == [(A1, False), (A3, True)]
