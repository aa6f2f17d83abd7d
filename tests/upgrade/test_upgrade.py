"""Today's code goes on where a release stopped: its registry, its settings, its handlers, whoever reads its output."""

from __future__ import annotations

import ast
import gzip
import json
import re
import signal
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from supervisor.sandbox import Sandbox
from tests.support.helm_chart import CHART, chart
from tests.support.paths import ROOT
from tests.upgrade.home import SECRET, Home, Run, Version, agent_id, until
from tests.upgrade.names import names_of
from tests.upgrade.record import EXACT, FIXTURES, settings_of
from tests.upgrade.shapes import losses, shape
from tests.upgrade.story import (
    CANCELLED,
    DEAD_LETTER,
    DONE,
    FAILING,
    FERNET_KEY,
    FLAKY,
    ONCE,
    REFUSED,
    UNACKNOWLEDGED,
    WAITING,
    play,
)

#: Dozens of processes, one after the other.
pytestmark = pytest.mark.timeout(600)

TODAY = Version(ROOT)
#: An agent of a release's registry that repeats what it hears, and has nothing left to do.
ECHO = 1
#: Releases whose registries do not say when an agent was registered last.
_WITHOUT_LIVES = ("0.1.0",)
RELEASES = sorted(path.parent.name for path in FIXTURES.glob("*/made"))
#: Times in the registry file, as a release has written them.
_TIMES = {
    "inbox": ("received_at", "not_before", "settled_at"),
    "outbox": ("created_at", "not_before", "settled_at"),
    "conversations": ("last_seen",),
}


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> Path:
    """What a release was given and made."""
    return FIXTURES / str(request.param)


def made(release: Path, name: str) -> Any:
    """What a release made, from its file."""
    return json.loads((release / "made" / f"{name}.json").read_text())


@pytest.fixture
async def running(release: Path, tmp_path: Path) -> AsyncIterator[Home]:
    """Where today's code runs with what the release was given."""
    async with Home(TODAY, tmp_path, release / "given") as home:
        yield home


def unpacked(release: Path, name: str, to: Path) -> None:
    """The registry file as the release's process left it when it was killed."""
    to.write_bytes(gzip.decompress((release / "made" / f"{name}.db.gz").read_bytes()))


def moved_to_now(database: Path) -> None:
    """The same registry, killed a moment ago: nothing in it is past its retention."""
    with closing(sqlite3.connect(database)) as sql, sql:
        [(newest,)] = sql.execute("SELECT max(received_at) FROM inbox").fetchall()
        late = time.time() - newest
        for table, columns in _TIMES.items():
            for column in columns:
                sql.execute(f"UPDATE {table} SET {column} = {column} + ? WHERE {column} > 0", (late,))


# What programs read


async def test_the_story_of_a_release_goes_as_it_went(release: Path, tmp_path: Path) -> None:
    """Every form of handler answers the same; commands, API, events and figures have all the keys that they had."""
    told = await play(TODAY, tmp_path, release / "given")
    was = made(release, "looks")
    assert set(was) <= set(told.looks)
    assert told.looks["answers"] == was["answers"]
    for name in set(was) - EXACT:
        assert list(losses(was[name], shape(told.looks[name]), name)) == []
    for name in EXACT - {"openapi"}:
        assert list(losses(shape(was[name]), shape(told.looks[name]), name)) == []
    for route, parts in was["openapi"].items():
        assert set(parts) <= set(told.looks["openapi"].get(route, ())), route
    for name, series in made(release, "metrics").items():
        assert set(series) <= set(told.metrics[name]), name


async def test_settings_are_read_as_they_were(release: Path, running: Home) -> None:
    found = await settings_of(running)
    was = made(release, "settings")
    assert {name: found.get(name) for name in was} == was


async def test_names_are_still_there(release: Path, running: Home) -> None:
    """Commands and their options, what handlers import, the log's events and loggers."""
    names, was = await names_of(running), made(release, "names")
    for command, options in was["commands"].items():
        assert set(options) <= set(names["commands"].get(command, ())), command
    for name, parameters in was["public"].items():
        now = names["public"][name]
        # 0.1.0 was recorded without the stars of variadic parameters.
        was_there = {one.strip("*=") for one in parameters}
        kept = [one for one in now if one.strip("*=") in was_there]
        assert kept == parameters or [one.lstrip("*") for one in kept] == parameters, name
        added = [one for one in now if one not in kept]
        assert all(one.endswith("=") or one.startswith("*") for one in added), f"{name} wants more than it did"
    written = set(_texts(ROOT / "supervisor"))
    assert set(was["log events"]) <= written
    assert set(was["loggers"]) <= written


def _texts(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


# What a process left behind


async def test_a_registry_reads_as_it_did(release: Path, running: Home) -> None:
    unpacked(release, "registry", running.database)
    was = made(release, "looks")
    assert (await running.json("db", "upgrade"))["schema"]
    assert (await running.json("db", "check"))["sound"] is True
    assert await running.json("agents", "export") == was["agents export"]
    assert _same(was["at rest: agents list"], await running.json("agents", "list"))
    states = [part for state in _STATES for part in ("--state", state)]
    listed = await running.json("messages", "list", "--limit", "100", *states)
    assert _same(was["at rest: messages list"], listed)
    for message in was["at rest: messages show"]:
        assert _same(message, await running.json("messages", "show", str(message["id"])))
    with closing(sqlite3.connect(running.database)) as sql, sql:
        sql.execute("UPDATE usage SET day = ?", (time.strftime("%Y-%m-%d", time.gmtime()),))
    used = await running.json("usage")
    assert _same(was["at rest: usage"]["total"], used["total"])
    assert _same(was["at rest: usage"]["agents"], used["agents"])


_STATES = ("available", "running", "retryable", "done", "dead", "cancelled")


def _same(was: Any, now: Any) -> bool:
    """Whether all that was is there with the same values."""
    if isinstance(was, dict):
        return all(key in now and _same(value, now[key]) for key, value in was.items())
    if isinstance(was, list):
        return len(was) == len(now) and all(_same(*pair) for pair in zip(was, now, strict=True))
    return bool(was == now)


async def test_a_killed_supervisor_goes_on(release: Path, running: Home) -> None:
    """What waited and ran is answered, in order; what was to be sent is sent; a dead letter can be replayed."""
    unpacked(release, "registry", running.database)
    moved_to_now(running.database)
    listed = made(release, "looks")["at rest: messages list"]
    conversations = {one["agent_id"]: one["conversation_id"] for one in listed}
    async with Sandbox(profile="v1") as sandbox:
        running.at(sandbox)
        for agent in await running.json("agents", "list"):
            sandbox.add_agent(agent["id"], SECRET)
        running.settings["ACK_SECONDS"] = "5"
        (running.folder / "released").touch()
        run = await Run.start(running)

        def said(number: int) -> list[str]:
            return [message.content for message in sandbox.messages(conversations[agent_id(number)])]

        try:
            # The webhook's agent comes online too: its URL is asked only once somebody says something.
            await run.online(17)
            await until(lambda: said(WAITING) == ["waiting: first", "waiting: second"], "those that waited")
            await until(lambda: said(FLAKY) == ["flaky: hello"], "the one to be tried again")
            await until(lambda: said(UNACKNOWLEDGED) == ["Echo: hello"], "the reply nobody acknowledged")
            assert running.states(FAILING) == [DEAD_LETTER, CANCELLED]
            [refused] = [one for one in listed if one["agent_id"] == agent_id(REFUSED)]
            await running.command("messages", "replay", str(refused["id"]))
            await until(lambda: said(REFUSED) == ["Echo: hello"], "the replayed reply")
            await until(lambda: not running.sql("SELECT 1 FROM outbox WHERE settled_at IS NULL"), "every reply")
            assert said(ONCE) == [], "a send that may have arrived is not repeated there"
            assert (await run.get_json("/readyz"))["ready"] is True
        finally:
            assert await run.end(signal.SIGTERM) == 0
    for number in (WAITING, FLAKY, REFUSED, UNACKNOWLEDGED, ONCE):
        assert set(running.states(number)) == {DONE}


async def test_who_spoke_before_an_upgrade_is_answered_where_the_release_knew_when_it_was_online(
    release: Path, running: Home
) -> None:
    """What was said before nobody knows when is left alone. Where its schema changed the registry was copied first."""
    known = release.name not in _WITHOUT_LIVES
    unpacked(release, "registry", running.database)
    moved_to_now(running.database)
    (running.folder / "released").touch()
    async with Sandbox(profile="v2") as sandbox:
        running.at(sandbox)
        for number in range(1, 20):
            sandbox.add_agent(agent_id(number), SECRET)
        person = await sandbox.user()
        conversation = await person.open(agent_id(ECHO))
        await person.say(conversation, "before the upgrade")
        run = await Run.start(running)
        try:
            await run.online(17)
            await person.say(conversation, "after it")

            def answers() -> list[str]:
                said = sandbox.messages(conversation)
                return [message.content for message in said if message.sender_kind == "agent"]

            expected = [*(["Echo: before the upgrade"] if known else []), "Echo: after it"]
            await until(lambda: len(answers()) >= len(expected), "the answers")
            assert answers() == expected
            copies = list(running.database.parent.glob(f"{running.database.name}.before-*"))
            assert [stat.S_IMODE(copy.stat().st_mode) for copy in copies] == [0o600] * (not known)
        finally:
            assert await run.end(signal.SIGTERM) == 0


async def test_an_encrypted_registry_is_opened_with_its_key(release: Path, running: Home) -> None:
    running.settings |= {"SECRET_KEYS": FERNET_KEY, "JOURNAL_ENCRYPTION": "true"}
    unpacked(release, "encrypted", running.database)
    moved_to_now(running.database)
    (running.folder / "released").touch()
    [(conversation,)] = running.sql("SELECT conversation_id FROM inbox")
    assert b"a secret question" not in running.database.read_bytes()
    async with Sandbox(profile="v1") as sandbox:
        running.at(sandbox)
        sandbox.add_agent(agent_id(1), SECRET)
        run = await Run.start(running)
        try:
            await run.online(1)

            def answers() -> list[str]:
                return [message.content for message in sandbox.messages(conversation)]

            await until(answers, "the answer")
            assert answers() == ["waiting: a secret question"]
        finally:
            await run.end(signal.SIGTERM)


# What deployments hold


def test_the_chart_takes_the_values_that_it_took(release: Path) -> None:
    files = sorted((release / "made").glob("*-values.yaml"))
    assert files
    for file in files:
        values = helm_python.values_from_yaml(file.read_text())
        assert chart().render(values, name="prod", namespace="chat"), file.name
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert list(losses(shape(made(release, "values")), shape(defaults), "values")) == []


# The tools themselves


def test_a_loss_is_seen() -> None:
    was = shape([{"id": 1, "at": None, "inner": {"a": "x"}}, {"id": 2, "at": 1.5, "inner": {"a": "y", "b": 1}}])
    assert was == [{"id": "number", "at": "null|number", "inner": {"a": "text", "b?": "number"}}]
    assert list(losses(was, shape([{"id": 1, "at": 2, "inner": {"a": "z"}, "new": True}]))) == []
    assert list(losses(was, shape([{"at": 2, "inner": {"a": 1}}]))) == [
        "[].id is missing",
        "[].inner.a is number, was text",
    ]
    assert list(losses(was, shape([{"id": 1, "at": 2, "inner": "x"}]))) == ["[].inner is of another kind"]
    assert list(losses({"one": [{"a": "text"}]}, {"one": []})) == []


def test_every_release_has_a_set_of_its_own() -> None:
    """A version that was cut is recorded: ``python -m tests.upgrade.record VERSION``."""
    cut = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sorted(cut) == RELEASES
    size = sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file())
    assert size < len(RELEASES) * 200_000, "fixtures stay small"
