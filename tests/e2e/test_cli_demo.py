"""``supervisor demo``: one command, nothing to configure, nothing left behind."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Command, until

#: Many processes a test: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(300)

#: What a person may have set for a supervisor of his own; none of it may reach the demo.
HOSTILE = {
    "SUPERVISOR_REGISTRY_URL": "nonsense",
    "SUPERVISOR_API_URL": "https://api.invalid",
    "SUPERVISOR_ADMIN_HOST": "0.0.0.0",
    "SUPERVISOR_UNKNOWN": "x",
    "SUPERVISOR_AGENTS_DIR": "/nowhere",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}
#: What only the extras bring; here none of it can be imported.
WITHOUT_EXTRAS = """
import sys

for name in ("pydantic_ai", "openai", "anthropic", "google", "mcp", "fastmcp", "httpx2", "opentelemetry.sdk"):
    sys.modules[name] = None
sys.argv = ["supervisor", "demo", "--port", "0", "--ask", "Hello"]
from supervisor.cli import main

main()
"""


def make_command(folder: Path) -> Command:
    """The command in a folder of its own, beside the one for its temporary files."""
    (folder / "tmp").mkdir(parents=True)
    (folder / "cwd").mkdir()
    return Command(folder / "cwd", HOSTILE | {"TMPDIR": str(folder / "tmp")})


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = make_command(tmp_path)
    yield made
    made.close()


def left_behind(command: Command) -> list[str]:
    folder = command.folder.parent
    return [path.name for path in (*folder.glob("tmp/*"), *folder.glob("cwd/*")) if path.suffix != ".log"]


@pytest.mark.parametrize("profile", ["v1", "v2", "v3"])
def test_a_question_is_answered_on_standard_output_and_nothing_else(command: Command, profile: str) -> None:
    (command.folder / ".env").write_text("SUPERVISOR_CONCURRENCY=nonsense\n")
    done = command("demo", "--ask", "Grüße, 世界 🎉", "--profile", profile)
    assert (done.returncode, done.stdout) == (0, "Echo: Grüße, 世界 🎉\n")
    assert done.stderr.splitlines() == [
        f"✔ sandbox up ({profile})",
        "✔ registry with 4 agents",
        "✔ 4/4 agents online",
    ]
    (command.folder / ".env").unlink()
    assert left_behind(command) == []


def test_one_agent_is_enough_to_ask(command: Command) -> None:
    done = command("demo", "--agents", "1", "--ask", "hello")
    assert (done.returncode, done.stdout) == (0, "Echo: hello\n")


def test_it_ends_by_itself_when_told_to(command: Command) -> None:
    done = command("demo", "--agents", "3", "--for", "0.2")
    assert done.returncode == 0
    assert "3/3 agents online" in done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind(command) == []


def test_an_empty_question_is_a_usage_error(command: Command) -> None:
    done = command("demo", "--ask", " ")
    assert done.returncode == 2
    assert done.stderr == "Error: --ask wants a text\n"


def take(taken: socket.socket, port: int) -> None:
    """Listen on ``port``; another test's demo gives it back soon, whoever else has it keeps it."""
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            taken.bind(("127.0.0.1", port))
            taken.listen()
        except OSError:
            time.sleep(0.05)
        else:
            return


def test_every_address_answers_even_where_the_usual_ports_are_taken_and_every_end_is_clean(tmp_path: Path) -> None:
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    commands = [make_command(tmp_path / str(number)) for number in range(len(ends))]
    # Held for all three at once: tests that take the same ports in turn would wait for each other.
    with socket.socket() as admin, socket.socket() as chat:
        take(admin, 8640)
        take(chat, 8641)
        try:
            demos = [(command, command.start("demo", "--agents", "2")) for command in commands]
            for (command, process), end in zip(demos, ends, strict=True):
                every_address_answers(command)
                assert left_behind(command) != []
                process.send_signal(end)
                assert process.wait(30) == 0
                assert "Traceback" not in command.log("demo").read_text()
                assert left_behind(command) == []
        finally:
            for command in commands:
                command.close()


def every_address_answers(command: Command) -> None:
    """Whatever a demo prints as an address is one, and none has a usual port."""
    command.wait_for_log("demo", "Ctrl-C ends it")
    text = command.log("demo").read_text()
    addresses = dict(re.findall(r"^  (\S.*?) {2,}(http://\S+)$", text, re.MULTILINE))
    assert set(addresses) == {"Chat with an agent", "Console", "Metrics", "Status", "API"}
    for name, address in addresses.items():
        assert ":8640/" not in address
        assert ":8641/" not in address
        with urllib.request.urlopen(address) as answer:
            assert answer.status == 200, name
    with urllib.request.urlopen(addresses["Metrics"]) as answer:
        assert b'supervisor_agents{state="online"} 2.0' in answer.read()


def test_a_stop_while_it_starts_leaves_nothing_either(command: Command) -> None:
    process = command.start("demo", "--agents", "50")
    until(lambda: left_behind(command), "the temporary folder")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, 130)
    assert left_behind(command) == []
    assert "Traceback" not in command.log("demo").read_text()


def test_it_runs_without_the_extras(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "Echo: Hello" in ran.stdout


def test_commands_reach_a_demo_that_runs_whatever_is_configured(command: Command) -> None:
    none = command("--demo", "status")
    assert (none.returncode, "No demo runs here" in none.stderr) == (1, True)
    demo = command.start("demo", "--port", "0", "--agents", "2")
    command.wait_for_log("demo", "Ctrl-C ends it")
    assert "supervisor --demo status" in command.log("demo").read_text()
    assert command("agents", "list").returncode == 1, "what is configured is nonsense"
    listed = json.loads(command.ok("--demo", "agents", "list", "--json"))
    assert [(agent["name"], agent["state"]) for agent in listed] == [("Tour guide", "online"), ("Echo", "online")]
    command.ok("--demo", "agents", "pause", "Echo")
    assert "1 online" in command.ok("--demo", "status")
    command.ok("--demo", "agents", "resume", "Echo")
    assert command.ok("--demo", "chat", "Echo", "--once", "hello") == "Echo: hello\n"
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(30) == 0
    assert command("--demo", "status").returncode == 1
