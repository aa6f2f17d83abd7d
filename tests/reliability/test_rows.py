"""R21: rows that raw SQL has made nonsense of, and rows that reach for what the deployment does not allow."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from supervisor.core.states import AgentState
from tests.support.observing import Bystander, dropped, figures
from tests.support.reliability import Case
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, stack

DEEP = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"
#: A column, what it is set to, and what the reason of the fault names.
NONSENSE: list[tuple[str, Any, str]] = [
    ("name", b"\xff\xfe", "name"),
    ("name", "x" * 1_100_000, "name is too long"),
    ("handler", None, "handler"),
    ("handler", "", "handler"),
    ("handler", "  ", "handler"),
    ("handler", b"echo", "handler"),
    ("handler", "ecko", "did you mean echo"),
    ("handler", "echo:Nothing", "Nothing"),
    ("handler", "x" * 100_000, "handler"),
    ("handler", "echo\x00", "handler"),
    ("handler", "../echo", "handler"),
    ("handler", "/etc/passwd", "handler"),
    ("handler", "os:system", "no handler 'os'"),
    ("handler", "os.path:join", "HANDLER_PACKAGES"),
    ("handler", "supervisor.cli:main", "HANDLER_PACKAGES"),
    ("secret", None, "secret"),
    ("secret", "", "secret"),
    ("secret", b"env:AGENT_A", "secret"),
    ("secret", "hunter2-in-the-clear", "env:"),
    ("secret", 7, "secret"),
    ("secret", "env:", "env:"),
    ("secret", "env:AGENT_THAT_IS_NOT_SET", "AGENT_THAT_IS_NOT_SET"),
    ("secret", "env:HOME", "SECRET_ENV_PREFIXES"),
    ("secret", "env:AGENT_=\x00", "AGENT_"),
    ("secret", "file:/etc/passwd", "SECRET_DIRS"),
    ("secret", "file:{folder}/../../etc/passwd", "SECRET_DIRS"),
    ("secret", "file:{folder}/no-such-file", "no-such-file"),
    ("secret", "file:{folder}", "file"),
    ("secret", "file:{folder}/x\x00y", "file"),
    ("secret", "file:relative", "file:/"),
    ("secret", "fernet:nonsense", "SECRET_KEYS"),
    ("settings", "{oops", "settings"),
    ("settings", "[]", "settings"),
    ("settings", "7", "settings"),
    ("settings", 7, "settings"),
    ("settings", b"\xff", "settings"),
    ("settings", DEEP, "settings"),
    ("settings", '{"a":' * 100 + "1" + "}" * 100, "nested more than 64 deep"),
    ("settings", '{"a":1e999}', "settings"),
    ("settings", '{"a":"' + "x" * 2**20 + '"}', "settings is too long"),
    ("settings", '{"concurrency":"many"}', "concurrency"),
    ("settings", '{"concurrency":0}', "concurrency"),
    ("settings", '{"concurrency":1e300}', "concurrency"),
    ("settings", '{"timeout_seconds":-1}', "timeout_seconds"),
    ("settings", '{"timeout_seconds":null,"max_attempts":[]}', "max_attempts"),
    ("settings", '{"roles":7}', "roles"),
    ("settings", '{"delivery":"twice"}', "delivery"),
    ("settings", '{"api_url":"not a URL"}', "api_url"),
    ("settings", '{"api_url":"https://evil.example/x"}', "ALLOWED_HOSTS"),
    ("settings", '{"api_url":"file:///etc/passwd"}', "api_url"),
    ("settings", '{"api_url":"http://127.0.0.1@evil.example/"}', "api_url"),
    ("settings", '{"ws_url":"wss://evil.example/chat"}', "ALLOWED_HOSTS"),
    ("settings", '{"ws_url":"ws://[::1"}', "ws_url"),
    ("settings", '{"ws_namespace":"no slash"}', "ws_namespace"),
    ("settings", '{"ws_path":"a b"}', "ws_path"),
    ("labels", "{oops", "labels"),
    ("labels", '{"a":' * 100 + "1" + "}" * 100, "nested more than 64 deep"),
    ("labels", "[]", "labels"),
    ("labels", '{"team":7}', "labels"),
    ("labels", b"\x00", "labels"),
    ("labels", DEEP, "labels"),
    ("paused", "maybe", "paused"),
    ("paused", 2, "paused"),
    ("paused", -1, "paused"),
    ("paused", 0.5, "paused"),
    ("paused", b"0", "paused"),
]
#: What looks odd and harms nobody: the agent stays as it is.
HARMLESS: list[tuple[str, Any]] = [
    ("name", "x" * 100_000),
    ("name", "<script>\x00\u202e"),
    ("name", 7),
    ("settings", None),
    ("settings", ""),
    ("settings", '{"my own":{"a":[1,2]}}'),
    ("labels", None),
    ("labels", '{"":""}'),
    ("created_at", "never"),
    ("created_at", b"\xff"),
    ("created_at", -1e300),
    ("updated_at", ""),
    ("updated_at", 0),
]


def sql(fleet: Stack, *statements: tuple[str, tuple[Any, ...]]) -> None:
    """Write the registry as anybody might, in one transaction."""
    with closing(sqlite3.connect(fleet.folder / "supervisor.db", timeout=30)) as database, database:
        for statement, values in statements:
            database.execute(statement, values)


def spoil(fleet: Stack, number: int, column: str, value: Any) -> tuple[str, tuple[Any, ...]]:
    """The statement that sets one column of an agent's row to ``value``."""
    placed = value.replace("{folder}", str(fleet.folder)) if isinstance(value, str) and "folder" in value else value
    return f"UPDATE agents SET {column} = ? WHERE id = ?", (placed, agent_id(number))


def heal(fleet: Stack, number: int) -> tuple[str, tuple[Any, ...]]:
    """The statement that makes an agent's row good."""
    return (
        "UPDATE agents SET name = '', handler = 'echo', secret = ?, settings = '{}', labels = '{}', paused = 0, "
        "created_at = CURRENT_TIMESTAMP, updated_at = CURRENT_TIMESTAMP WHERE id = ?",
        (f"file:{fleet.folder / SECRET_FILE}", agent_id(number)),
    )


async def insert(fleet: Stack, count: int) -> None:
    """So many good rows, by raw SQL; returns when all of them and the bystander are online."""
    statements = []
    for number in range(1, count + 1):
        fleet.sandbox.add_agent(agent_id(number), SECRET)
        insertion = "INSERT INTO agents (id, handler, secret) VALUES (?, 'echo', ?)"
        statements.append((insertion, (agent_id(number), f"file:{fleet.folder / SECRET_FILE}")))
    sql(fleet, *statements)
    await fleet.online(count + 1, timeout=60)


async def test_r21_every_column_made_nonsense_of(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R21")
    async with stack(tmp_path) as fleet:
        bystander = await Bystander.join(fleet)
        count = len(NONSENSE)
        await insert(fleet, count)
        sql(fleet, *[spoil(fleet, number, column, value) for number, (column, value, _) in enumerate(NONSENSE, 1)])
        counted.faults = count
        await fleet.until(lambda: fleet.service.fleet.states().get(AgentState.FAULTED) == count, timeout=60)
        await bystander.answers()
        for number, (column, value, hint) in enumerate(NONSENSE, 1):
            status = fleet.service.control.status(agent_id(number))
            assert hint in status.reason, (column, value, status.reason)
            assert "hunter2" not in repr(status)
            assert "root:" not in repr(status)
            assert len(status.reason.splitlines()) == 1
        sql(fleet, *[heal(fleet, number) for number in range(1, count + 1)])
        await fleet.online(count + 1, timeout=60)
        for number in range(1, count + 1):
            [reply] = await fleet.ask(agent_id(number), "healed?")
            counted.answers(["Echo: healed?"], [reply.content])
        await bystander.answers()
        assert figures(fleet.service.metrics)['supervisor_agents{state="online"}'] == count + 1
    assert (counted.lost, counted.doubled) == (0, 0)


async def test_r21_what_only_looks_odd_disturbs_nobody(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R21 harmless")
    async with stack(tmp_path) as fleet:
        bystander = await Bystander.join(fleet)
        count = len(HARMLESS)
        await insert(fleet, count)
        sql(fleet, *[spoil(fleet, number, *change) for number, change in enumerate(HARMLESS, 1)])
        # The last of the same transaction: once it is seen, all were.
        sql(fleet, ('UPDATE agents SET labels = \'{"seen":"yes"}\' WHERE id = ?', (bystander.id,)))
        await fleet.until(lambda: fleet.service.control.status(bystander.id).labels == {"seen": "yes"})
        for number, change in enumerate(HARMLESS, 1):
            [reply] = await fleet.ask(agent_id(number), "well?")
            assert reply.content == "Echo: well?", change
            counted.faults += 1
        assert len(fleet.sandbox.connects) == count + 1, "nobody had to connect anew"
        await bystander.answers()


async def test_r21_rows_with_ids_that_are_none(tmp_path: Path, case: Callable[[str], Case]) -> None:
    """Whatever stands in the id, the row harms nobody; not even the agent whose id it spells in another type."""
    counted = case("R21 ids")
    async with stack(tmp_path) as fleet:
        bystander = await Bystander.join(fleet)
        ids: list[Any] = [
            "",
            " ",
            "a/../b",
            "x" * 100_000,
            "a\x00b",
            "\u202e",
            7,
            b"\xff\xfe",
            "A" * 24,
            "%2e%2e",
            "?x#y",
        ]
        ids += [bystander.id.encode(), bystander.id + "\n", f" {bystander.id}"]
        insertion = "INSERT INTO agents (id, handler, secret) VALUES (?, 'echo', ?)"
        before = len(fleet.sandbox.token_requests)
        sql(fleet, *[(insertion, (one, f"file:{fleet.folder / SECRET_FILE}")) for one in ids])
        counted.faults = len(ids)
        stuck = (AgentState.FAULTED, AgentState.REJECTED)
        await fleet.until(
            lambda: sum(one.state in stuck for one in fleet.service.control.statuses()) == counted.faults, timeout=60
        )
        await bystander.answers(3)
        for status in fleet.service.control.statuses():
            assert (status.state in stuck) == (status.id != bystander.id), status
            assert status.reason or status.id == bystander.id
        asked = {request.agent_id for request in fleet.sandbox.token_requests[before:]}
        assert asked <= {"7"}, "what cannot be an id is not made part of a URL"
        sql(fleet, ("DELETE FROM agents WHERE id IS NOT ?", (bystander.id,)))
        await fleet.until(lambda: [one.id for one in fleet.service.control.statuses()] == [bystander.id])
        await bystander.answers()
        assert not dropped(fleet.service.metrics).get("inbox_full")
