"""Bad input: one readable line that says what to do, the contract's exit code, and nothing half-written."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import Command, InProcess, one_line, until

#: Many processes a test: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(300)

A1, A2 = "a" * 24, "b" * 24
ADD = ("agents", "add", A2, "--handler", "echo")
SECRET = "in-the-clear-s3cr3t"
Prepare = Callable[[Path], object]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path, {"AGENT_SECRET": "x", "SUPERVISOR_ADMIN_PORT": "0"})
    yield made
    made.close()


def here(command: Command) -> Command:
    """The same command without a process."""
    return InProcess(command.folder, command.env)


@pytest.fixture(scope="session")
def registry_with_agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registry")
    made = InProcess(folder, {"AGENT_SECRET": "x"})
    made.ok("agents", "add", A1, "--handler", "echo", "--secret-env", "AGENT_SECRET")
    return folder / "supervisor.db"


@pytest.fixture
def with_agent(command: Command, registry_with_agent: Path) -> Command:
    shutil.copy(registry_with_agent, command.folder)
    return command


def yaml(text: str) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / "fleet.yaml").write_text(text)

    return prepare


def good_then(entry: str) -> Prepare:
    return yaml(f"agents:\n  - {{id: {A2}, handler: echo, secret: 'env:AGENT_SECRET'}}\n  - {entry}\n")


IMPORT = ("agents", "import", "fleet.yaml")
CASES: dict[str, tuple[tuple[str, ...], dict[str, str], Prepare | None, int, str]] = {
    "unknown variable": (
        ("config",),
        {"SUPERVISOR_REGISTRY_URI": "x"},
        None,
        1,
        "did you mean SUPERVISOR_REGISTRY_URL",
    ),
    "bad URL": (("agents", "list"), {"SUPERVISOR_API_URL": "ftp://x"}, None, 1, "SUPERVISOR_API_URL: must be a URL"),
    "bad registry URL": (("agents", "list"), {"SUPERVISOR_REGISTRY_URL": "nonsense"}, None, 1, "REGISTRY_URL"),
    "no folder for the registry": (
        ("agents", "list"),
        {"SUPERVISOR_REGISTRY_URL": "sqlite+aiosqlite:////nowhere/at/all.db"},
        None,
        1,
        "/nowhere",
    ),
    "bad number": (("config",), {"SUPERVISOR_CONCURRENCY": "many"}, None, 1, "SUPERVISOR_CONCURRENCY"),
    "off loopback without a token": (("run",), {"SUPERVISOR_ADMIN_HOST": "0.0.0.0"}, None, 1, "ADMIN_TOKEN"),
    ".env that is no text": (("config",), {}, lambda f: (f / ".env").write_bytes(b"\xff\xfe\x00"), 1, ".env"),
    "no agents folder": (("run",), {"SUPERVISOR_AGENTS_DIR": "/nowhere"}, None, 1, "SUPERVISOR_AGENTS_DIR"),
    "no agents folder given": (("run", "--agents-dir", "nowhere"), {}, None, 1, "agents folder"),
    "no secret": (ADD, {}, None, 2, "--secret-env"),
    "two secrets": ((*ADD, "--secret-env", "AGENT_X", "--secret-stdin"), {}, None, 2, "only one"),
    "variable out of bounds": ((*ADD, "--secret-env", "HOME"), {}, None, 1, "SUPERVISOR_SECRET_ENV_PREFIXES"),
    "file out of bounds": ((*ADD, "--secret-file", "/etc/hostname"), {}, None, 1, "SUPERVISOR_SECRET_DIRS"),
    "unreadable file": (
        (*ADD, "--secret-file", "/tmp/no/such/file"),
        {"SUPERVISOR_SECRET_DIRS": "/tmp"},
        None,
        1,
        "/tmp/no/such/file cannot be read",
    ),
    "no key": ((*ADD, "--secret-stdin"), {}, None, 1, "supervisor keys generate"),
    "wrong key": ((*ADD, "--secret-stdin"), {"SUPERVISOR_SECRET_KEYS": "abc"}, None, 1, "key 1 is not a Fernet key"),
    "unknown handler": (
        ("agents", "add", A2, "--handler", "ecko", "--secret-env", "AGENT_SECRET"),
        {},
        None,
        1,
        "did you mean echo?",
    ),
    "package not allowed": (
        ("agents", "add", A2, "--handler", "os.path:join", "--secret-env", "AGENT_SECRET"),
        {},
        None,
        1,
        "SUPERVISOR_HANDLER_PACKAGES",
    ),
    "duplicate agent": (
        ("agents", "add", A1, "--handler", "echo", "--secret-env", "AGENT_SECRET"),
        {},
        None,
        1,
        "registered already",
    ),
    "impossible id": (
        ("agents", "add", "two words", "--handler", "echo", "--secret-env", "AGENT_SECRET"),
        {},
        None,
        1,
        "two words",
    ),
    "bad setting": (
        (*ADD, "--secret-env", "AGENT_SECRET", "--set", "concurrency=many"),
        {},
        None,
        1,
        "settings: concurrency",
    ),
    "host not allowed": (
        ("agents", "update", A1, "--set", "api_url=https://evil.example"),
        {},
        None,
        1,
        "SUPERVISOR_ALLOWED_HOSTS",
    ),
    "malformed option value": ((*ADD, "--set", "concurrency"), {}, None, 2, "--set wants KEY=VALUE"),
    "nothing to change": (("agents", "update", A1), {}, None, 2, "Say what to change"),
    "unknown agent": (("agents", "show", A2), {}, None, 1, "supervisor agents list"),
    "unknown agent changed": (("agents", "update", A2, "--name", "x"), {}, None, 1, "supervisor agents list"),
    "unknown agent paused": (("agents", "pause", A2), {}, None, 1, "supervisor agents list"),
    "unknown agent removed": (("agents", "remove", A2, "--yes"), {}, None, 1, "supervisor agents list"),
    "nobody to ask": (("agents", "remove", A1), {}, None, 2, "--yes"),
    "reload without a supervisor": (("agents", "reload", A1), {}, None, 1, "supervisor run"),
    "status without a supervisor": (("status",), {}, None, 1, "supervisor run"),
    "no file for the backup": (("db", "backup"), {}, None, 2, "supervisor db backup --help"),
    "a backup over a file": (
        ("db", "backup", "copy.db"),
        {},
        lambda f: (f / "copy.db").write_text("dear to somebody"),
        1,
        "copy.db exists already",
    ),
    "a backup into no folder": (("db", "backup", "nowhere/copy.db"), {}, None, 1, "nowhere/copy.db cannot be created"),
    "no such file": (IMPORT, {}, None, 1, "fleet.yaml cannot be read: No such file"),
    "no text": (IMPORT, {}, lambda f: (f / "fleet.yaml").write_bytes(b"\xff\xfe\x00"), 1, "UTF-8"),
    "no YAML": (IMPORT, {}, yaml("agents: [{"), 1, "fleet.yaml, line 1"),
    "secret in the clear": (
        IMPORT,
        {},
        good_then(f"{{id: {'c' * 24}, handler: echo, secret: {SECRET}}}"),
        1,
        "agent 2 ('cccccccccccccccccccccccc'): secret must be a reference",
    ),
    "entry twice": (
        IMPORT,
        {},
        good_then(f"{{id: {A2}, handler: echo, secret: 'env:AGENT_SECRET'}}"),
        1,
        f"agent 2: id {A2} is there twice",
    ),
    "handler of an entry": (
        IMPORT,
        {},
        good_then(f"{{id: {'c' * 24}, handler: nope, secret: 'env:AGENT_SECRET'}}"),
        1,
        "fleet.yaml: agent 2 (cccccccccccccccccccccccc): There is no handler 'nope'",
    ),
    "unknown command": (("agents", "explode"), {}, None, 2, "No such command"),
    "unknown option": (("agents", "list", "--bogus"), {}, None, 2, "--bogus"),
    "missing argument": (("agents", "show"), {}, None, 2, "supervisor agents show --help"),
    "demo of nothing": (("demo", "--agents", "0"), {}, None, 2, "--agents"),
    "sandbox of no profile": (("sandbox", "--profile", "v9"), {}, None, 2, "--profile"),
    "sandbox of no port": (("sandbox", "--port", "70000"), {}, None, 2, "--port"),
}


#: The exit paths of a process of its own, and what takes over signals and logging. That each command works as a
#: process is shown where it succeeds; here a process proves nothing that the same entry point does not.
AS_PROCESSES = frozenset(
    {
        *("unknown variable", "no secret", "unknown agent", "no such file", "unknown command"),
        *("reload without a supervisor", "status without a supervisor"),
        *("no agents folder", "no agents folder given", "demo of nothing", "sandbox of no profile"),
    }
)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_changes_nothing(with_agent: Command, case: str) -> None:
    args, env, prepare, code, expected = CASES[case]
    command = with_agent if case in AS_PROCESSES else here(with_agent)
    before = (command.folder / "supervisor.db").read_bytes()
    if prepare is not None:
        prepare(command.folder)
    done = command(*args, stdin=SECRET, **env)
    line = one_line(done.stderr)
    assert line.startswith("Error: ")
    assert expected in line
    assert done.returncode == code
    assert done.stdout == ""
    assert SECRET not in line
    assert (command.folder / "supervisor.db").read_bytes() == before


@pytest.mark.parametrize("args", [("agents", "list"), ("run",), ("db", "check"), ("db", "upgrade")])
def test_a_newer_schema_is_refused(with_agent: Command, args: tuple[str, ...]) -> None:
    command = with_agent if args == ("run",) else here(with_agent)
    with sqlite3.connect(with_agent.folder / "supervisor.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    done = command(*args)
    assert done.returncode == 1
    assert "newer schema (9999)" in one_line(done.stderr)


def test_a_file_that_is_no_database_is_refused_and_kept(command: Command) -> None:
    file = command.folder / "supervisor.db"
    file.write_text("my diary " * 1000)
    done = here(command)("agents", "list")
    assert done.returncode == 1
    assert str(file) in one_line(done.stderr)
    assert file.read_text() == "my diary " * 1000


def test_a_port_in_use_stops_the_start_and_gives_the_registry_back(with_agent: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = with_agent("run", SUPERVISOR_ADMIN_PORT=port)
        assert done.returncode == 1
        assert f"Port {port} on 127.0.0.1 is in use" in one_line(done.stderr)
        assert "SUPERVISOR_ADMIN_PORT" in done.stderr
        sandbox = with_agent("sandbox", "--port", port)
        assert sandbox.returncode == 1
        assert "--port" in one_line(sandbox.stderr)
        demo = with_agent("demo", "--port", port)
        assert demo.returncode == 1
        assert "--port" in one_line(demo.stderr)
    assert here(with_agent).json("agents", "list")[0]["state"] == "stopped"


def test_two_supervisors_on_one_registry_the_second_says_who_holds_it(command: Command) -> None:
    first = command.start("run")
    command.wait_for_log("run", r"admin=http://127\.0\.0\.1:[1-9]")
    done = command("run")
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert f"pid {first.pid}" in line
    assert "http://127.0.0.1:" in line
    assert first.poll() is None


def test_a_defect_is_one_line_and_debug_shows_the_traceback(command: Command) -> None:
    broken = command.folder / "supervisor.db"
    broken.mkdir()
    done = command("agents", "list")
    assert done.returncode == 1
    one_line(done.stderr)
    shown = command("--debug", "agents", "list")
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr
    assert shown.stderr.splitlines()[-1] == done.stderr.strip()


def test_an_interrupted_command_ends_quietly(command: Command) -> None:
    process = command.start("sandbox", "--port", "0")
    command.wait_for_log("sandbox", "Chat page")
    process.send_signal(2)
    assert until(lambda: process.poll() is not None, "its end")
    assert process.returncode == 0
    assert "Traceback" not in command.log("sandbox").read_text()
