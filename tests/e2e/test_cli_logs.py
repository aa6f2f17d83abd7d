"""``supervisor logs`` beside a supervisor in a process of its own: what was, what comes, and over a restart."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Command, InProcess, one_line, until

pytestmark = pytest.mark.timeout(300)
A1, A2 = "a" * 24, "b" * 24


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = InProcess(tmp_path, {"AGENT_SECRET": "x", "SUPERVISOR_ADMIN_PORT": "0"})
    made.start("sandbox", "--port", "0")
    found = made.wait_for_log("sandbox", r"API_URL +(\S+)\n +WS_URL +(\S+)")
    made.env |= {"SUPERVISOR_API_URL": found[1], "SUPERVISOR_WS_URL": found[2]}
    yield made
    made.close()


def test_logs_are_shown_and_followed_over_a_restart(command: Command) -> None:
    for agent in (A1, A2):
        command.ok("agents", "add", agent, "--handler", "echo", "--secret-env", "AGENT_SECRET")
    done = command("logs", A1)
    assert (done.returncode, "start it with: supervisor run" in one_line(done.stderr)) == (1, True)
    assert "No agent" in one_line(command("logs", "c" * 24).stderr)

    first = command.start("run")
    until(lambda: "agent_online" in command("logs", A1).stdout, "the first agent to be online")
    shown = command.ok("logs", A1)
    assert A2 not in shown
    assert "state=online was=registering" in shown
    command.ok("agents", "update", A1, "--name", "Ada", "--label", "team=support")
    named = command.ok("logs", "Ada", "--grep", "STATE=online", "--level", "info", "--since", "10m")
    assert f"agent={A1} name=Ada state=online was=registering" in one_line(named)
    selected = ("logs", "--label", "team=support", "--state", "online")
    until(lambda: "state=online" in command.ok(*selected), "the supervisor to know of the label")
    assert command.ok("logs", "--handler", "tour") == command.ok("logs", "Ada", "--since", "0s") == ""
    assert command("logs", "Ada", "--label", "team").returncode == 2
    last = command.ok("logs", A1, "--lines", "1", "--json").splitlines()
    assert [json.loads(line)["agent"] for line in last] == [A1]
    until(lambda: "agent_online" in command("logs", A2).stdout, "the second agent to be online")

    followed = command.start("logs", A1, "--follow", "--lines", "1", "--json")
    command.wait_for_log("logs", "{")
    command.ok("agents", "pause", A1)
    command.wait_for_log("logs", r'"state": "paused"')
    command.ok("agents", "resume", A1)
    command.wait_for_log("logs", r'"state": "online"')
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    command.wait_for_log("logs", r"waiting for it")
    second = command.start("run")
    command.wait_for_log("logs", r"The supervisor is back(?s:.*)\"state\": \"online\"")
    followed.send_signal(signal.SIGINT)
    assert followed.wait(60) == 0
    lines = [json.loads(line) for line in command.log("logs").read_text().splitlines() if line.startswith("{")]
    assert {line.get("agent", A1) for line in lines} == {A1}
    assert "Traceback" not in command.log("logs").read_text()
    assert second.poll() is None
