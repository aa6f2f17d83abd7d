"""The command against a supervisor that runs: live state, actions, the live table, its start and end."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli import live
from supervisor.settings import Settings
from tests.support.command import Command, InProcess, one_line, until

#: Many processes a test: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(300)

A1, A2 = "a" * 24, "b" * 24


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A sandbox of the command's own, and the settings that lead to it."""
    command = Command(tmp_path_factory.mktemp("sandbox"))
    command.start("sandbox", "--port", "0")
    found = command.wait_for_log("sandbox", r"API_URL +(\S+)\n +WS_URL +(\S+)")
    yield {"SUPERVISOR_API_URL": found[1], "SUPERVISOR_WS_URL": found[2]}
    command.close()


@pytest.fixture
def command(tmp_path: Path, platform: dict[str, str]) -> Iterator[Command]:
    made = InProcess(tmp_path, platform | {"AGENT_SECRET": "x", "SUPERVISOR_ADMIN_PORT": "0"})
    yield made
    made.close()


def add(command: Command, agent_id: str, *options: str) -> str:
    return command.ok("agents", "add", agent_id, "--handler", "echo", "--secret-env", "AGENT_SECRET", *options)


def start(command: Command, **env: str) -> subprocess.Popen[str]:
    log = command.log("run")
    log.unlink(missing_ok=True)
    process = command.start("run", **env)
    command.wait_for_log("run", r"admin=http://127\.0\.0\.1:[1-9]")
    return process


def address(command: Command) -> str:
    return str(command.wait_for_log("run", r"admin=(http://127\.0\.0\.1:[1-9]\d*)")[1])


def wait_for_state(command: Command, agent_id: str, wanted: str, token: str = "") -> None:
    """Asks over HTTP: a process for each look would take a second."""
    request = urllib.request.Request(f"{address(command)}/api/v1/agents")
    request.add_header("Authorization", f"Bearer {token}")

    def reached() -> bool:
        with urllib.request.urlopen(request) as answer:
            return (agent_id, wanted) in {(agent["id"], agent["state"]) for agent in json.load(answer)}

    until(reached, f"{agent_id} to be {wanted}")


def test_whoever_adds_an_agent_can_wait_for_what_becomes_of_it(command: Command) -> None:
    command.env["AGENT_OTHER"] = "y"
    start(command)
    assert add(command, A1, "--wait") == f"Added agent {A1}; it is online\n"
    # The folder is not among those of the supervisor that runs.
    given = ("--handler", "echo", "--secret-file", str(command.folder / "secret"), "--wait")
    (command.folder / "secret").write_text("another")
    refused = command("agents", "add", A2, *given, SUPERVISOR_SECRET_DIRS=str(command.folder))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"Agent {A2} is added, and faulted" in one_line(refused.stderr)
    command.ok("agents", "remove", A1, "--yes")
    # The platform knows the agent by another secret.
    wait = ("--wait", "--wait-seconds", "1m")
    rejected = command("agents", "add", A1, "--handler", "echo", "--secret-env", "AGENT_OTHER", *wait)
    assert (rejected.returncode, rejected.stdout) == (1, "")
    assert re.match(f"Error: Agent {A1} is added, and rejected: .*401", one_line(rejected.stderr))


def test_a_running_supervisor_is_followed_and_steered(command: Command) -> None:
    add(command, A1, "--name", "Ada")
    process = start(command)
    wait_for_state(command, A1, "online")
    shown = command.json("agents", "show", A1)
    assert shown["since"] <= time.time()
    assert shown["auth_expires_at"] > time.time()
    assert (shown["name"], shown["reason"], shown["health"]) == ("Ada", "", "ok")
    assert "● online" in command.ok("agents", "list")

    assert f"pid {process.pid}" in add(command, A2)
    wait_for_state(command, A2, "online")
    overview = command.json("status")
    assert (overview["pid"], overview["agents"]) == (process.pid, {"online": 2})
    text = command.ok("status")
    assert "2 agents  ● 2 online" in text
    assert "ready" in text
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert command.json("agents", "show", A1)["state"] == "stopped"


def test_a_running_supervisor_is_steered(command: Command) -> None:
    add(command, A1)
    process = Command(command.folder, command.env)
    start(command)
    wait_for_state(command, A1, "online")
    command.ok("agents", "pause", A1)
    wait_for_state(command, A1, "paused")
    command.ok("agents", "resume", A1)
    wait_for_state(command, A1, "online")
    assert A1 in process.ok("agents", "reload", A1)
    wait_for_state(command, A1, "online")
    reloaded = command.json("agents", "reload", A1)
    assert (reloaded["id"], reloaded["handler"]) == (A1, "echo")
    assert list(reloaded) == list(command.json("agents", "show", A1))
    done = command("agents", "reload", "c" * 24)
    assert done.returncode == 1
    assert "supervisor agents list" in one_line(done.stderr)
    command.ok("agents", "remove", A1, "--yes")
    until(lambda: process.json("status")["agents"] == {}, "the removed agent to go")


def test_an_agent_whose_secret_is_missing_says_so_and_can_be_mended(command: Command) -> None:
    command.ok("agents", "add", A1, "--handler", "echo", "--secret-env", "AGENT_MISSING")
    start(command)
    wait_for_state(command, A1, "faulted")
    assert "AGENT_MISSING" in command.json("agents", "show", A1)["reason"]
    command.ok("agents", "update", A1, "--secret-env", "AGENT_SECRET")
    wait_for_state(command, A1, "online")


def test_an_admin_token_is_asked_for_and_given(command: Command) -> None:
    token = {"SUPERVISOR_ADMIN_TOKEN": "s3cr3t"}
    add(command, A1)
    start(command, **token)
    for args in (("status",), ("agents", "list"), ("agents", "reload", A1)):
        done = command(*args)
        assert done.returncode == 1
        assert "SUPERVISOR_ADMIN_TOKEN" in one_line(done.stderr)
    # What needs no live state works all the same.
    assert command("agents", "pause", A1).returncode == 0
    resumed = command("agents", "resume", A1)
    assert resumed.returncode == 0
    assert one_line(resumed.stderr).startswith("Warning: ")
    # What was done is shown as it stands in the registry, when the supervisor does not say more.
    paused = command("agents", "pause", A1, "--json")
    assert (paused.returncode, json.loads(paused.stdout)["paused"]) == (0, True)
    assert "its live state is unknown" in one_line(paused.stderr)
    assert command.json("status", **token)["agents"]


def test_a_supervisor_of_another_registry_is_not_asked(
    command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    add(command, A1)
    start(command)
    other = InProcess(tmp_path_factory.mktemp("other"), command.env)
    add(other, A2)
    # A lock of somebody who says that he listens where the other supervisor does.
    lock = other.folder / "supervisor.db.lock"
    holder = {"pid": os.getpid(), "host": "here", "address": address(command), "started_at": 1.0}
    script = (
        "import fcntl, os, sys, time; f = open(sys.argv[1], 'w'); f.write(sys.argv[2]); f.flush()\n"
        "fcntl.flock(f, fcntl.LOCK_EX); print('locked', flush=True); time.sleep(60)"
    )
    args = ["python3", "-c", script, str(lock), json.dumps(holder)]
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "locked\n"
        done = other("agents", "list")
        held.kill()
    assert done.returncode == 1
    assert "runs another registry" in one_line(done.stderr)


def test_a_supervisor_that_holds_its_lock_and_does_not_answer_is_named(command: Command) -> None:
    add(command, A1)
    process = start(command)
    process.send_signal(signal.SIGSTOP)
    try:
        settings = Settings(registry_url=f"sqlite+aiosqlite:///{command.folder / 'supervisor.db'}")
        with pytest.raises(live.UnreachableError, match=rf"pid {process.pid} .*does not answer"):
            live.find(settings, answer_seconds=0.5)
    finally:
        process.send_signal(signal.SIGCONT)


def test_json_lines_for_machines_on_standard_output_and_nothing_secret_in_them(command: Command) -> None:
    add(command, A1)
    with command.log("run").open("w") as log, command.log("errors").open("w") as errors:
        settings = {"SUPERVISOR_LOG_FORMAT": "json", "SUPERVISOR_LOG_LEVEL": "DEBUG"}
        process = command.process(("run",), settings, stdin=subprocess.DEVNULL, stdout=log, stderr=errors)
    command.running.append(process)
    command.wait_for_log("run", '"event": "started"')
    until(lambda: command.json("status")["agents"] == {"online": 1}, "the agent to be online")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    lines = [json.loads(line) for line in command.log("run").read_text().splitlines()]
    assert {"timestamp", "level", "event"} <= set.intersection(*(set(line) for line in lines))
    assert "eyJ" not in command.log("run").read_text()
    assert command.log("errors").read_text() == ""


def test_lines_for_people_are_on_standard_error(command: Command) -> None:
    with command.log("run").open("w") as log, command.log("said").open("w") as said:
        process = command.process(("run",), {}, stdin=subprocess.DEVNULL, stdout=said, stderr=log)
    command.running.append(process)
    command.wait_for_log("run", "started")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert command.log("said").read_text() == ""


def test_ctrl_c_drains_as_sigterm_does(command: Command) -> None:
    add(command, A1)
    process = start(command)
    wait_for_state(command, A1, "online")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "draining" in command.log("run").read_text()


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, command: Command, *args: str) -> None:
        master, slave = pty.openpty()
        self._master = master
        self.text = ""
        self.process = command.process(
            args, {"TERM": "xterm", "COLUMNS": "110", "LINES": "20"}, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

    def read(self) -> str:
        """All that was written so far."""
        while select.select([self._master], [], [], 0.05)[0]:
            try:
                chunk = os.read(self._master, 65_536)
            except OSError:
                break
            if not chunk:
                break
            self.text += chunk.decode(errors="replace")
        return self.text

    def wait_for(self, pattern: str) -> None:
        """Wait until something new is written that matches; what came before is forgotten."""
        until(lambda: re.search(pattern, self.read()), f"{pattern!r} on the terminal")
        self.text = ""

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_the_live_table_outlives_its_supervisor(command: Command) -> None:
    add(command, A1, "--name", "Ada")
    terminal = Terminal(command, "status", "--watch")
    try:
        terminal.wait_for("No supervisor runs on this registry")
        process = start(command)
        terminal.wait_for("● online")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        terminal.wait_for("No supervisor runs on this registry")
        start(command)
        terminal.wait_for("● online")
        leaves_the_terminal_as_it_was(terminal, signal.SIGINT)
    finally:
        terminal.close()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_live_table_leaves_the_terminal_as_it_was_while_there_is_nothing_to_show(
    command: Command, end: signal.Signals
) -> None:
    add(command, A1)
    terminal = Terminal(command, "status", "--watch")
    try:
        terminal.wait_for("No supervisor runs on this registry")
        leaves_the_terminal_as_it_was(terminal, end)
    finally:
        terminal.close()


def leaves_the_terminal_as_it_was(terminal: Terminal, end: signal.Signals) -> None:
    """Ended by a signal it leaves the alternate screen, shows the cursor again and says nothing more."""
    terminal.process.send_signal(end)
    assert terminal.process.wait(20) == 0
    rest = terminal.read()
    assert "\x1b[?1049l" in rest
    assert "\x1b[?25h" in rest
    assert "Traceback" not in rest


def test_the_live_table_is_json_lines_for_programs(command: Command) -> None:
    add(command, A1)
    process = command.start("status", "--watch", "--json")
    assert "error" in json.loads(command.wait_for_log("status", r"(.*)\n")[1])
    start(command)
    found = command.wait_for_log("status", r'(\{"version".*"online": 1.*)\n')
    assert json.loads(found[1])["agents"] == {"online": 1}
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_health_is_served_where_the_log_says(command: Command) -> None:
    start(command)
    for path in ("/livez", "/readyz", "/metrics", "/", "/docs", "/api/v1/agents"):
        with urllib.request.urlopen(address(command) + path) as answer:
            assert answer.status == 200


def test_one_supervisor_on_a_file_is_its_only_replica(command: Command) -> None:
    add(command, A1)
    assert command.ok("replicas").startswith("No supervisor runs on this registry; start one")
    process = start(command)
    until(lambda: command.json("replicas", "list", "--json")[0]["online"] is not None, "a line of its own")
    [shown] = command.json("replicas", "list", "--json")
    assert (shown["id"], shown["state"], shown["pid"], shown["agents"]) == (1, "living", process.pid, 1)
    assert shown["address"] == address(command)
    assert command.ok("replicas").startswith("● replica 1 living  1 agent")
    refused = command("replicas", "drain", "1")
    assert refused.returncode == 1
    assert "supervisor db copy" in one_line(refused.stderr)
    # What one process runs is shown as before.
    assert "replica" not in command.ok("status")
