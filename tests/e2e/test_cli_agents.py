"""``supervisor agents`` on a registry that no supervisor runs, and the commands about the deployment."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet

from tests.support.command import Command, InProcess, one_line

#: Some have many processes: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(300)

A1, A2, A3 = "a" * 24, "b" * 24, "c" * 24
FIELDS = [
    *("id", "name", "handler", "state", "since", "reason", "health", "conversation_id", "conversations"),
    *(
        "auth_expires_at",
        "inbox",
        "settings",
        "labels",
        "paused",
        "undelivered",
        "undelivered_reason",
        "notes",
        "handling",
        "trouble",
        "oldest_at",
        "answered_lately",
        "replica",
        "stale_since",
        "secret",
    ),
]


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Every command a process of its own, as for people."""
    return Command(tmp_path, {"AGENT_SECRET": "x"})


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return InProcess(tmp_path, {"AGENT_SECRET": "x"})


def add(command: Command, agent_id: str, *options: str) -> str:
    return command.ok("agents", "add", agent_id, "--handler", "echo", "--secret-env", "AGENT_SECRET", *options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--name", "n" * 10_001), "name has 10,001 characters; at most 10,000 are allowed"),
        (("--handler", "e" * 10_001), "no handler"),
        (("--set", "a=" + "[" * 64 + "]" * 64), "settings is nested more than 64 deep"),
        (("--set", "a=" + "[" * 5_000 + "]" * 5_000), "--set a: its value is nested too deep to be read"),
    ],
)
def test_what_is_too_long_or_too_deep_is_refused_in_one_line(
    command: Command, options: tuple[str, str], words: str
) -> None:
    add(command, A1)
    before = command.json("agents", "show", A1)
    for asked in (("update", A1), ("add", A2, "--secret-env", "AGENT_SECRET", "--handler", "echo")):
        refused = command("agents", *asked, *options)
        assert refused.returncode in (1, 2)
        assert words in one_line(refused.stderr)
        assert len(refused.stderr) < 12_000
    assert command.json("agents", "list") == [before]


def test_each_command_about_an_agent_works_as_a_process(process: Command) -> None:
    add(process, A1)
    process.ok("agents", "update", A1, "--name", "Ada")
    process.ok("agents", "pause", A1)
    assert process.json("agents", "show", A1)["state"] == "paused"
    process.ok("agents", "resume", A1)
    assert "Ada" in process.ok("agents", "list")
    process.ok("agents", "remove", A1, "--yes")


def test_each_command_about_the_deployment_works_as_a_process(process: Command) -> None:
    assert "(current)" in process.ok("db", "upgrade")
    exported = f"agents: [{{id: {A1}, handler: echo, secret: 'env:AGENT_SECRET'}}]"
    process.ok("agents", "import", "-", stdin=exported)
    assert yaml.safe_load(process.ok("agents", "export")) == yaml.safe_load(exported)
    assert "1 agents" in process.ok("db", "check")
    process.ok("db", "backup", "copy.db")
    Fernet(process.ok("keys", "generate").strip())
    assert "SUPERVISOR_REGISTRY_URL" in process.ok("config")


def test_an_agent_from_added_to_removed(command: Command) -> None:
    command.ok("db", "upgrade")
    assert "supervisor agents add" in command.ok("agents", "list")
    said = add(command, A1, "--name", "Ada", "--set", "concurrency=2", "--set", "model=gpt-4o", "--label", "team=x")
    assert "supervisor run" in said
    add(command, A2, "--paused")
    listed = command.json("agents", "list")
    assert [list(agent) for agent in listed] == [FIELDS, FIELDS]
    assert [(agent["id"], agent["state"], agent["paused"]) for agent in listed] == [
        (A1, "stopped", False),
        (A2, "paused", True),
    ]
    shown = command.json("agents", "show", A1)
    assert shown == listed[0]
    assert (shown["name"], shown["settings"], shown["labels"]) == (
        "Ada",
        {"concurrency": 2, "model": "gpt-4o"},
        {"team": "x"},
    )
    assert shown["inbox"] == {"available": 0, "running": 0, "dead": 0}
    text = command.ok("agents", "list")
    assert "○ stopped" in text
    assert "‖ paused" in text


def test_an_agent_is_changed_paused_and_removed(command: Command) -> None:
    add(command, A1, "--name", "Ada", "--set", "concurrency=2", "--set", "model=gpt-4o", "--label", "team=x")
    command.ok("agents", "update", A1, "--set", 'model={"a": 1}', "--unset", "concurrency", "--unlabel", "team")
    command.ok("agents", "update", A1, "--name", "Grace", "--handler", "tour", "--label", "x=y")
    command.ok("agents", "pause", A1)
    shown = command.json("agents", "show", A1)
    assert (shown["name"], shown["handler"], shown["state"]) == ("Grace", "tour", "paused")
    assert (shown["settings"], shown["labels"]) == ({"model": {"a": 1}}, {"x": "y"})
    command.ok("agents", "resume", A1)
    assert command.json("agents", "show", A1)["state"] == "stopped"

    assert "Grace" in command.ok("agents", "show", A1)
    command.ok("agents", "remove", A1, "--yes")
    assert command.json("agents", "list") == []


def test_secrets_are_stored_sealed_and_shown_nowhere(command: Command) -> None:
    key = command.ok("keys", "generate").strip()
    Fernet(key)
    done = command(
        *("agents", "add", A1, "--handler", "echo", "--secret-stdin", "--set", "api_key=s3cr3t-setting"),
        stdin="s3cr3t-value\n",
        SUPERVISOR_SECRET_KEYS=key,
    )
    assert done.returncode == 0
    with sqlite3.connect(command.folder / "supervisor.db") as database:
        (stored,) = database.execute("SELECT secret FROM agents").fetchone()
    database.close()
    assert Fernet(key).decrypt(stored.removeprefix("fernet:")) == b"s3cr3t-value"
    everywhere = done.stdout + done.stderr
    for args in (("agents", "list"), ("agents", "show", A1), ("agents", "list", "--json"), ("config",)):
        everywhere += command.ok(*args, SUPERVISOR_SECRET_KEYS=key, SUPERVISOR_ADMIN_TOKEN="s3cr3t-admin")
    assert "s3cr3t" not in everywhere
    assert key not in everywhere
    assert b"s3cr3t-value" not in (command.folder / "supervisor.db").read_bytes()


def test_what_may_be_right_is_a_warning_and_not_an_error(command: Command) -> None:
    done = command("agents", "add", "short-id", "--handler", "echo", "--secret-env", "AGENT_NOT_SET")
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert first.startswith("Warning: agent short-id: ids of the platform are 24 hex digits")
    assert second.startswith("Warning: AGENT_NOT_SET is not set here")
    assert command.json("agents", "list")[0]["id"] == "short-id"


def test_a_row_that_raw_sql_has_spoilt_is_shown_with_its_problem(command: Command) -> None:
    add(command, A1)
    with sqlite3.connect(command.folder / "supervisor.db") as database:
        database.execute("UPDATE agents SET settings = 'no json'")
    database.close()
    assert "settings is not JSON" in command.json("agents", "show", A1)["reason"]
    done = command("agents", "export")
    assert "settings is not JSON" in one_line(done.stderr)
    assert yaml.safe_load(done.stdout) == {"agents": []}
    # Other fields can still be changed, and the settings put right.
    command.ok("agents", "update", A1, "--name", "Ada")
    command.ok("agents", "update", A1, "--set", "concurrency=1")
    assert command.json("agents", "show", A1)["reason"] == ""


def test_a_fleet_is_imported_with_a_plan_and_only_once(command: Command) -> None:
    file = command.folder / "fleet.yaml"
    file.write_text(
        f"agents:\n"
        f"  - {{id: '{A1}', handler: echo, secret: 'env:AGENT_SECRET', name: Ada, settings: {{concurrency: 3}}}}\n"
        f"  - {{id: '{A2}', handler: tour, secret: 'env:AGENT_SECRET', labels: {{team: x}}, paused: true}}\n"
    )
    add(command, A3)
    planned = command.ok("agents", "import", "fleet.yaml", "--dry-run")
    assert planned.splitlines() == [f"+ {A1} Ada", f"+ {A2} tour", "2 to add, 0 to change, 0 to remove, 0 unchanged"]
    assert len(command.json("agents", "list")) == 1
    assert "Added 2, changed 0, removed 0, 0 unchanged" in command.ok("agents", "import", "fleet.yaml")
    assert "Added 0, changed 0, removed 0, 2 unchanged" in command.ok("agents", "import", "fleet.yaml")
    command.ok("agents", "update", A1, "--name", "Changed", "--set", "concurrency=1", "--set", "api_key=s3cr3t")
    again = command.ok("agents", "import", "fleet.yaml", "--prune")
    changed = f"~ {A1} name: Changed → Ada; settings.api_key: [redacted] → -; settings.concurrency: 1 → 3"
    assert again.splitlines() == [changed, f"- {A3}", "Added 0, changed 1, removed 1, 1 unchanged"]
    assert [agent["id"] for agent in command.json("agents", "list")] == [A1, A2]


def test_agents_that_cannot_run_yet_are_taken_in_when_asked(command: Command, tmp_path: Path) -> None:
    late = tmp_path / "late"
    (command.folder / "fleet.yaml").write_text(
        f"agents:\n"
        f"  - {{id: '{A1}', handler: echo, secret: 'env:AGENT_SECRET'}}\n"
        f"  - {{id: '{A2}', handler: echo, secret: 'file:{late}'}}\n"
        f"  - {{id: '{A3}', handler: ecco, secret: 'env:AGENT_SECRET'}}\n"
    )
    allowed = {"SUPERVISOR_SECRET_DIRS": str(tmp_path)}
    refused = command("agents", "import", "fleet.yaml", **allowed)
    assert refused.returncode == 1
    second, third = refused.stderr.splitlines()
    assert f"Error: fleet.yaml: agent 2 ({A2}): The secret's file" in second
    assert f"Error: fleet.yaml: agent 3 ({A3}): There is no handler 'ecco'" in third
    assert not (command.folder / "supervisor.db").exists()

    taken = command("agents", "import", "fleet.yaml", "--keep-going", **allowed)
    assert taken.returncode == 0, taken
    assert "Added 3, changed 0, removed 0, 0 unchanged" in taken.stdout
    warnings = " ".join(taken.stderr.split())
    assert f"agent 2 ({A2}): The secret's file {late} cannot be read" in warnings
    assert f"agent 3 ({A3}): There is no handler 'ecco'" in warnings
    assert warnings.count("the agent is faulted") == 2
    assert [agent["id"] for agent in command.json("agents", "list")] == [A1, A2, A3]


def test_a_misspelt_setting_is_refused_with_the_nearest_name(command: Command) -> None:
    given = ("--handler", "webhook", "--secret-env", "AGENT_SECRET", "--set", "retrys=1")
    said = "settings: there is no retrys; did you mean retries?"
    refused = command("agents", "add", A1, *given)
    assert (refused.returncode, said in one_line(refused.stderr)) == (1, True), refused
    row = "{{id: '{0}', handler: webhook, secret: 'env:AGENT_SECRET', settings: {{retrys: 1, {1}}}}}"
    (command.folder / "fleet.yaml").write_text(f"agents: [{row.format(A1, '')}]")
    refused = command("agents", "import", "fleet.yaml")
    assert f"fleet.yaml: agent 1 ({A1}): {said}" in one_line(refused.stderr)
    assert not (command.folder / "supervisor.db").exists()
    # At a start that takes what it gets it is a warning, as it runs.
    taken = command("agents", "import", "fleet.yaml", "--keep-going")
    assert (taken.returncode, said in one_line(taken.stderr)) == (0, True), taken
    # What stands in a row already is in nobody's way; a new one is.
    (command.folder / "fleet.yaml").write_text(f"agents: [{row.format(A1, 'history: 1')}]")
    assert "changed 1" in command.ok("agents", "import", "fleet.yaml")
    command.ok("agents", "update", A1, "--set", "history=2")
    refused = command("agents", "update", A1, "--set", "histroy=2")
    assert "there is no histroy; did you mean history?" in one_line(refused.stderr)


def test_an_id_that_cannot_be_stored_is_refused_all_the_same(command: Command) -> None:
    entries = (
        f"agents: [{{id: '{A1}', handler: echo, secret: 'env:AGENT_SECRET'}}, {{id: 'a b', handler: x, secret: env:A}}]"
    )
    done = command("agents", "import", "-", "--keep-going", stdin=entries)
    assert done.returncode == 1
    assert "agent 2 (a b): The agent id 'a b' holds a space" in one_line(done.stderr)
    assert not (command.folder / "supervisor.db").exists()


def test_an_export_is_an_import_elsewhere(command: Command, tmp_path_factory: pytest.TempPathFactory) -> None:
    add(command, A1, "--name", 'Ada "Ü" #1', "--set", 'deep={"a": [1, null, "x: y"]}', "--label", "k=yes")
    add(command, A2, "--paused")
    exported = command.ok("agents", "export")
    other = InProcess(tmp_path_factory.mktemp("other"), command.env)
    other.ok("agents", "import", "-", stdin=exported)
    assert other.ok("agents", "export") == exported
    assert other.json("agents", "list") == command.json("agents", "list")


def test_an_import_that_fails_halfway_writes_nothing(command: Command) -> None:
    add(command, A1)
    entries = [f"  - {{id: 'x{number}', handler: echo, secret: 'env:AGENT_SECRET'}}" for number in range(3)]
    entries.append("  - {id: 'bad id', handler: echo, secret: 'env:AGENT_SECRET'}")
    done = command("agents", "import", "-", "--prune", stdin="\n".join(["agents:", *entries]))
    assert done.returncode == 1
    assert "standard input: agent 4 (bad id)" in one_line(done.stderr)
    assert [agent["id"] for agent in command.json("agents", "list")] == [A1]


def test_the_database_is_made_and_checked(command: Command) -> None:
    done = command("db", "check")
    assert done.returncode == 1
    assert "supervisor db upgrade" in one_line(done.stderr)
    assert not (command.folder / "supervisor.db").exists()
    assert "(current)" in command.ok("db", "upgrade")
    assert "(current)" in command.ok("db", "upgrade")
    add(command, A1)
    assert "1 agents" in command.ok("db", "check")


def test_a_backup_is_the_registry_as_it_is(command: Command) -> None:
    add(command, A1, "--name", "Ada")
    said = command.ok("db", "backup", "copy.db")
    copy = command.folder / "copy.db"
    assert f"to copy.db ({copy.stat().st_size} bytes)" in said
    assert copy.stat().st_mode & 0o077 == 0
    elsewhere = {"SUPERVISOR_REGISTRY_URL": f"sqlite+aiosqlite:///{copy}"}
    assert command.json("agents", "list", **elsewhere) == command.json("agents", "list")
    assert command.json("db", "backup", "second.db") == {
        "registry_url": "sqlite+aiosqlite:///supervisor.db",
        "file": "second.db",
        "bytes": (command.folder / "second.db").stat().st_size,
    }


def test_what_changes_an_agent_shows_it_in_json(command: Command) -> None:
    added = command.json("agents", "add", A1, "--handler", "echo", "--secret-env", "AGENT_SECRET", "--set", "token=x")
    assert list(added) == FIELDS
    assert (added["id"], added["state"], added["settings"]) == (A1, "stopped", {"token": "[redacted]"})
    assert command.json("agents", "update", A1, "--name", "Ada")["name"] == "Ada"
    assert command.json("agents", "pause", A1)["state"] == "paused"
    assert command.json("agents", "resume", A1) == command.json("agents", "show", A1)
    assert command.json("agents", "remove", A1, "--yes") == {"removed": A1}


def test_what_concerns_the_deployment_is_shown_in_json(command: Command) -> None:
    made = command.json("db", "upgrade")
    assert made == {"registry_url": "sqlite+aiosqlite:///supervisor.db", "schema": made["schema"]}
    checked = command.json("db", "check")
    assert (checked["sound"], checked["registry_url"]) == (True, made["registry_url"])
    assert f"schema {made['schema']} (current), 0 agents" in checked["summary"]
    Fernet(command.json("keys", "generate")["key"])


def test_a_plan_and_a_fleet_in_json(command: Command) -> None:
    entries = [{"id": A1, "handler": "echo", "secret": "env:AGENT_SECRET", "name": "Ada"}]
    (command.folder / "fleet.json").write_text(json.dumps({"agents": entries}))
    planned = {"dry_run": True, "add": [A1], "change": [], "remove": [], "unchanged": []}
    assert command.json("agents", "import", "fleet.json", "--dry-run") == planned
    assert command.json("agents", "import", "fleet.json") == planned | {"dry_run": False}
    assert command.json("agents", "export") == {"agents": entries}
    add(command, A2)
    command.ok("agents", "update", A1, "--name", "Changed")
    assert command.json("agents", "import", "fleet.json", "--prune") == {
        "dry_run": False,
        "add": [],
        "change": [{"id": A1, "fields": ["name"], "before": {"name": "Changed"}, "after": {"name": "Ada"}}],
        "remove": [A2],
        "unchanged": [],
    }


def test_the_settings_in_effect_are_shown_and_secrets_masked(command: Command) -> None:
    (command.folder / ".env").write_text("SUPERVISOR_CONCURRENCY=7\nSUPERVISOR_ADMIN_TOKEN=s3cr3t\n")
    proxy = {"SUPERVISOR_PROXY": "http://ann:s3cr3t@proxy.example:3128"}
    env = proxy | {"SUPERVISOR_DRAIN_SECONDS": "2m", "SUPERVISOR_SECRET_KEYS": Fernet.generate_key().decode()}
    shown = command.json("config", **env)
    assert (shown["concurrency"], shown["drain_seconds"], shown["ws_namespace"]) == (7, 120.0, "auto")
    assert shown["admin_token"] == "**********"
    assert shown["proxy"] == "http://**********@proxy.example:3128"
    text = command.ok("config", **env)
    assert "s3cr3t" not in text
    assert env["SUPERVISOR_SECRET_KEYS"] not in text
    (line,) = [line for line in text.splitlines() if line.startswith("SUPERVISOR_CONCURRENCY ")]
    assert line.split()[:3] == ["SUPERVISOR_CONCURRENCY", "7", ".env"]
    origins = {line.split()[0]: line.split()[2] for line in text.splitlines()[1:] if line.startswith("SUPERVISOR_")}
    assert (origins["SUPERVISOR_PROXY"], origins["SUPERVISOR_DRAIN_SECONDS"]) == ("environment", "environment")


COMMANDS = [
    *(
        ["run"],
        ["demo"],
        ["sandbox"],
        ["status"],
        ["config"],
        ["db", "upgrade"],
        ["db", "check"],
        ["db", "backup"],
        ["keys", "generate"],
    ),
    *(["agents", name] for name in ("add", "list", "show", "update", "pause", "resume", "reload", "remove")),
    *(["agents", "import"], ["agents", "export"]),
]


def test_help_has_an_example_for_every_command(process: Command) -> None:
    overall = process.ok("--help")
    for words in COMMANDS:
        assert words[0] in overall
    assert process.ok() == overall
    # One process each would take half a minute: the tree is walked in one.
    script = (
        "import sys; from supervisor.cli.app import app\n"
        f"for words in {COMMANDS!r}:\n"
        "    print('#', *words); app([*words, '--help'], standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"COLUMNS": "200", "PATH": ""}
    )
    pages = done.stdout.split("# ")[1:]
    assert len(pages) == len(COMMANDS)
    for words, page in zip(COMMANDS, pages, strict=True):
        assert f"supervisor {' '.join(words)}" in page.replace("root", "supervisor").partition("Example")[2], page


def test_the_version_is_shown(process: Command) -> None:
    assert process.ok("--version").startswith("supervisor 0.")


def test_a_reader_that_has_had_enough_is_no_error(command: Command) -> None:
    script = f"{sys.executable} -m supervisor --help | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=command.folder)
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
