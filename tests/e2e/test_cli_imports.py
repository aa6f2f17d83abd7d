"""What a command imports before it answers: people wait for it, and it is most of what a command that reads costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Command

pytestmark = pytest.mark.timeout(300)

A1 = "a" * 24
#: What only a supervisor that runs needs, or a migration.
HEAVY = frozenset(
    {
        "aiohttp",
        "alembic",
        "fastapi",
        "prometheus_client",
        "socketio",
        "sqlalchemy",
        "starlette",
        "structlog",
        "uvicorn",
    }
)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Every command a process of its own, beside a supervisor that runs."""
    made = Command(tmp_path_factory.mktemp("imports"), {"AGENT_SECRET": "x", "SUPERVISOR_ADMIN_PORT": "0"})
    made.ok("agents", "add", A1, "--handler", "echo", "--secret-env", "AGENT_SECRET", "--name", "Ada")
    made.ok("agents", "pause", A1)
    made.start("run")
    made.wait_for_log("run", "started")
    yield made
    made.close()


def imported(command: Command, *args: str) -> set[str]:
    """The top-level names of all that a command imports from its first line to its end; it must succeed."""
    done = command(*args, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done
    return named(done.stderr)


def named(text: str) -> set[str]:
    """The top-level names of the modules in what the interpreter writes about its imports."""
    lines = [line for line in text.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_help_imports_neither_databases_nor_servers(command: Command) -> None:
    found = imported(command, "--help")
    assert "typer" in found, "what is imported is seen"
    assert found & (HEAVY | {"pydantic", "cryptography", "sqlite3", "yaml", "msgspec"}) == set()


@pytest.mark.parametrize(
    "args",
    [
        ("status",),
        ("status", "--json"),
        ("agents", "list"),
        ("agents", "list", "--json"),
        ("agents", "show", A1),
        ("messages", "list"),
        ("messages", "list", "--state", "done", "--json"),
        ("usage",),
        ("logs",),
        ("logs", A1),
        ("config",),
        ("db", "check"),
    ],
    ids=" ".join,
)
def test_a_command_that_reads_imports_no_server_and_no_migration(command: Command, args: tuple[str, ...]) -> None:
    assert imported(command, *args) & HEAVY == set()


def test_an_upgrade_imports_what_migrates(command: Command, tmp_path: Path) -> None:
    """That a name of ``HEAVY`` is seen where it is imported."""
    found = imported(command, "db", "upgrade")
    assert found & HEAVY == set(), "nothing is to be migrated"
    command.env["SUPERVISOR_REGISTRY_URL"] = f"sqlite+aiosqlite:///{tmp_path}/new.db"
    try:
        assert {"alembic", "sqlalchemy"} <= imported(command, "db", "upgrade")
    finally:
        del command.env["SUPERVISOR_REGISTRY_URL"]


def test_a_supervisor_without_agents_has_imported_what_serves_and_nothing_else(command: Command) -> None:
    """Its memory is that of its modules: no API, migration, wire, cipher or model before it is needed."""
    alone = Command(command.folder / "alone", {"SUPERVISOR_ADMIN_PORT": "0", "PYTHONPROFILEIMPORTTIME": "1"})
    alone.folder.mkdir()
    alone.ok("db", "upgrade")
    running = alone.start("run")
    try:
        alone.wait_for_log("run", "started")
    finally:
        alone.close()
    assert running.returncode == 0
    found = named(alone.log("run").read_text())
    assert {"aiohttp", "uvicorn", "aiosqlite", "prometheus_client"} <= found
    # The API comes with the first who asks for it (supervisor/admin/door.py).
    later = {
        "fastapi",
        "alembic",
        "sqlalchemy",
        "cryptography",
        "requests",
        "socketio",
        "pydantic_ai",
        "mcp",
        "asyncpg",
    }
    assert found & later == set()
