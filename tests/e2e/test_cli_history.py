"""``supervisor agents`` history, rollback and restore, on a registry that no supervisor runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.support.command import Command, InProcess, one_line

pytestmark = pytest.mark.timeout(300)

A1 = "a" * 24


@pytest.fixture
def command(tmp_path: Path) -> Command:
    made = InProcess(tmp_path, {"AGENT_SECRET": "x", "SUPERVISOR_SECRET_KEYS": Fernet.generate_key().decode()})
    made.ok("agents", "add", A1, "--handler", "echo", "--secret-stdin", "--label", "team=x", stdin="s3cr3t")
    made.ok("agents", "update", A1, "--name", "Ada", "--set", "history=3", "--set", "api_key=hush")
    return made


def told(command: Command, *args: str) -> list[tuple[str, str]]:
    return [(event["action"], event["actor"]["kind"]) for event in command.json("agents", "history", *args)]


def test_it_is_shown_who_changed_what(command: Command) -> None:
    with closing(sqlite3.connect(command.folder / "supervisor.db")) as database:
        database.execute("UPDATE agents SET name = 'Grace'")
        database.commit()
    exported = command.ok("agents", "export").replace("Grace", "Eve")
    command.ok("agents", "import", "-", stdin=exported)
    assert told(command, "Eve") == [
        ("changed", "import"),
        ("changed", "sql"),
        ("changed", "command"),
        ("added", "command"),
    ]
    head, imported, raw, changed, added = command.ok("agents", "history", "Eve").splitlines()
    assert head.split() == ["VERSION", "AGE", "AGENT", "ACTION", "BY", "CHANGED"]
    assert "name: Grace → Eve" in imported
    assert "import (standard input, " in imported
    assert "name: Ada → Grace" in raw
    assert "settings.api_key: - → [redacted]; settings.history: - → 3" in changed
    assert "@" in added
    command.ok("messages", "purge", "--agent", A1, "--yes")
    command.ok("keys", "rotate")
    assert told(command)[:2] == [("keys rotated", "command"), ("messages purged", "command")]
    for secret in ("s3cr3t", "hush"):
        assert secret not in command.ok("agents", "history", "Eve", "--json")


def test_an_agent_goes_back_to_a_version(command: Command) -> None:
    version = command.json("agents", "history", A1)[0]["id"]
    command.ok("agents", "update", A1, "--name", "Grace", "--set", "history=9", "--set", "api_key=other")
    command.ok("agents", "update", A1, "--unlabel", "team", "--handler", "tour")
    done = command("agents", "rollback", "Grace", "--to", str(version))
    assert done.returncode == 0
    assert f"back at version {version} (handler, labels, name, settings)" in done.stdout
    assert "settings api_key stay as they are" in done.stderr
    assert "the secret stays as it is" in done.stderr
    shown = command.json("agents", "show", A1)
    assert (shown["name"], shown["handler"], shown["labels"]) == ("Ada", "echo", {"team": "x"})
    row = command.json("agents", "export")["agents"][0]
    assert row["settings"] == {"history": 3, "api_key": "other"}
    assert told(command, A1)[0] == (f"rolled back to {version}", "command")


def test_the_way_back_over_an_encrypted_secret_says_that_it_is_kept_nowhere(command: Command) -> None:
    version = command.json("agents", "history", A1)[0]["id"]
    command.ok("agents", "update", A1, "--secret-stdin", stdin="another")
    done = command("agents", "rollback", A1, "--to", str(version))
    assert done.returncode == 0
    assert "the secret stays as it is: an encrypted one is kept nowhere else" in done.stderr
    assert f"Agent {A1} stays as it is: but for that it is as at version {version}" in done.stdout


def test_a_secret_in_the_clear_does_not_outlive_its_row(command: Command) -> None:
    with closing(sqlite3.connect(command.folder / "supervisor.db")) as database:
        database.execute("UPDATE agents SET secret = 'in-the-clear'")
        database.commit()
    command.ok("agents", "remove", A1, "--yes")
    with closing(sqlite3.connect(command.folder / "supervisor.db")) as database:
        [(undo,)] = database.execute("SELECT undo FROM agent_events WHERE undo IS NOT NULL").fetchall()
    assert '"name":"Ada"' in undo
    assert "in-the-clear" not in undo
    command.ok("agents", "restore", A1)
    assert command.json("agents", "show", A1)["reason"].startswith("secret is empty")


def test_what_cannot_be_gone_back_to_is_one_line(command: Command) -> None:
    done = command("agents", "rollback", A1, "--to", "99")
    assert (done.returncode, "no version 99; see: supervisor agents history" in one_line(done.stderr)) == (1, True)
    assert command("agents", "rollback", A1, "--to", "0").returncode == 2
    assert command("agents", "history", "b" * 24).returncode == 1
    with closing(sqlite3.connect(command.folder / "supervisor.db")) as database:
        database.execute("UPDATE agents SET settings = 'no JSON'")
        database.commit()
    command.ok("agents", "pause", A1)
    broken = command.json("agents", "history", A1)[1]["id"]
    assert "of no use" in one_line(command("agents", "rollback", A1, "--to", str(broken)).stderr)
    command.ok("agents", "rollback", A1, "--to", str(broken - 1))
    assert command.json("agents", "export")["agents"][0]["settings"] == {"history": 3}


def test_a_removal_is_undone_with_labels_and_budget(command: Command) -> None:
    command.ok("agents", "update", A1, "--set", "budget_tokens=1000")
    before = command.json("agents", "export")
    command.ok("agents", "remove", A1, "--yes")
    assert "No agent" in one_line(command("agents", "show", A1).stderr)
    assert told(command, A1)[0] == ("removed", "command"), "it is known of one that is gone"
    assert f"Restored agent {A1}" in command.ok("agents", "restore", "Ada")
    assert command.json("agents", "export") == before
    again = command("agents", "restore", A1)
    assert (again.returncode, "registered already" in one_line(again.stderr)) == (1, True)
    assert command("agents", "restore", "b" * 24).returncode == 1
