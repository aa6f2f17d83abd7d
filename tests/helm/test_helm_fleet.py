"""The fleet that values declare: read and followed by the supervisor of the chart's pod, against a platform."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from supervisor.sandbox import Sandbox
from tests.support.command import SECONDS, Command, InProcess
from tests.support.helm_chart import agent, readme_values, render
from tests.support.helm_pod import Pod, publish

pytestmark = pytest.mark.timeout(300)

SECRET = "s3cr3t-of-the-agent"
SECRETS = {"agents": {f"key-{number}": f"{SECRET}-{number}" for number in range(1, 4)}}
A1, A2, A3 = (f"{number:024x}" for number in range(1, 4))
SHOUT = """
from supervisor.handler import Context, Message


async def on_message(message: Message, ctx: Context) -> str:
    return message.content.upper()
"""


def import_agents(pod: Pod, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Deploy, and have the fleet's file imported as a supervisor would that starts there."""
    pod.deploy(render(values))
    environment = pod.environment("supervisor")
    return InProcess(pod.home, environment)("agents", "import", environment["SUPERVISOR_AGENTS_FILE"], "--keep-going")


def test_what_values_say_of_an_agent_arrives_as_it_was_said(tmp_path: Path) -> None:
    settings = {
        "tiny": 1e-07,
        "large": 10_000_000,
        "text": "1e-07",
        "html": "<b>&</b>",
        "zwölf": ["a", None, 1.5, True],
    }
    declared = agent(1, name='Ada "Ü" #1: yes', settings=settings, labels={"on": "off", "n": "1"})
    pod = Pod(tmp_path, SECRETS)
    assert import_agents(pod, {"agents": [declared]}).returncode == 0
    command = InProcess(pod.home, pod.environment("supervisor"))
    (exported,) = command.json("agents", "export")["agents"]
    assert exported["secret"] == f"file:{pod.path('/run/secrets/agents')}/agents/key-1"
    assert {name: exported[name] for name in ("name", "settings", "labels")} == {
        name: declared[name] for name in ("name", "settings", "labels")
    }
    assert type(exported["settings"]["large"]) is int
    # The same fleet by ids.
    del declared["id"]
    done = import_agents(pod, {"agents": {A1: declared, A2: None}})
    assert done.stdout.splitlines() == ["Added 0, changed 0, removed 0, 1 unchanged"]


async def test_agents_come_and_go_with_the_values_and_the_supervisor_stays(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        for identity in (A1, A2, A3):
            sandbox.add_agent(identity, f"{SECRET}-{int(identity, 16)}")
        values = {"config": {"API_URL": sandbox.api_url, "WS_URL": sandbox.ws_url}, "agentsPrune": True}
        pod = Pod(tmp_path, SECRETS)
        pod.deploy(render(values | {"agents": [agent(1), agent(2)]}))
        command = Command(pod.home, pod.environment("supervisor"))
        try:
            process = command.start(*pod.args("supervisor"))
            await sandbox.wait_online(A1, A2, timeout=SECONDS)
            before = pod.made.stateful_set
            pod.deploy(render(values | {"agents": {A2: agent(2), A3: agent(3)}}))
            assert pod.made.stateful_set == before, "what is not changed is not restarted"
            await sandbox.wait_online(A2, A3, timeout=SECONDS)
            in_process = InProcess(pod.home, pod.environment("supervisor"))
            listed = await asyncio.to_thread(in_process.json, "agents", "list")
            assert [found["id"] for found in listed] == [A2, A3]
            assert process.poll() is None
            assert SECRET not in command.log("run").read_text()
        finally:
            command.close()


async def test_the_fleet_of_values_comes_online(tmp_path: Path) -> None:
    """Three agents with handlers from values; one of them waits for its secret, which comes later."""
    async with Sandbox() as sandbox:
        for identity in (A1, A2, A3):
            sandbox.add_agent(identity, f"{SECRET}-{int(identity, 16)}")
        values = {
            "config": {"API_URL": sandbox.api_url, "WS_URL": sandbox.ws_url, "DRAIN_SECONDS": 5},
            "handlers": {"files": {"shout.py": SHOUT, "calm.py": SHOUT.replace("upper", "lower")}},
            "agents": [agent(1, handler="calm"), agent(2, handler="shout"), agent(3, handler="calm")],
        }
        pod = Pod(tmp_path, {"agents": {"key-1": f"{SECRET}-1", "key-2": f"{SECRET}-2"}})
        pod.deploy(render(values))
        command = Command(pod.home, pod.environment("supervisor"))
        try:
            process = command.start(*pod.args("supervisor"))
            await sandbox.wait_online(A1, A2, timeout=SECONDS)

            user = await sandbox.user()
            conversation = await user.open(A2)
            asked = await user.say(conversation, "hello")
            (reply,) = await user.wait_for_reply(conversation, after=asked, timeout=SECONDS)
            assert reply.content == "HELLO"

            started = next(
                json.loads(line) for line in command.log("run").read_text().splitlines() if '"started"' in line
            )
            await asyncio.to_thread(assert_the_test_pod_is_content, pod.made.one("Pod")["spec"], started["admin"])

            in_process = InProcess(pod.home, pod.environment("supervisor"))
            waiting = await asyncio.to_thread(in_process.json, "agents", "show", A3)
            assert (waiting["state"], "cannot be read" in waiting["reason"]) == ("faulted", True)
            # Its secret is added, and the kubelet brings it.
            publish(pod.path("/run/secrets/agents/agents"), SECRETS["agents"])
            await asyncio.to_thread(in_process.ok, "agents", "resume", A3)
            await sandbox.wait_online(A3, timeout=SECONDS)

            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, SECONDS) == 0
            assert SECRET not in command.log("run").read_text()
        finally:
            command.close()


async def test_readmes_agents_come_online(tmp_path: Path) -> None:
    values = readme_values()[0]
    secrets = {entry["secretRef"]["key"]: f"{SECRET}-{entry['id']}" for entry in values["agents"]}
    async with Sandbox() as sandbox:
        for entry in values["agents"]:
            sandbox.add_agent(entry["id"], secrets[entry["secretRef"]["key"]])
        values["config"] = {"API_URL": sandbox.api_url, "WS_URL": sandbox.ws_url}
        pod = Pod(tmp_path, {"aiwm-agents": secrets, "aiwm-handlers": {"openai-key": "x", "signing-secret": "x" * 32}})
        pod.deploy(render(values))
        command = Command(pod.home, pod.environment("supervisor"))
        try:
            command.start(*pod.args("supervisor"))
            # The assistant's libraries take their time on a busy machine.
            await sandbox.wait_online(timeout=3 * SECONDS)
        finally:
            command.close()


def assert_the_test_pod_is_content(spec: dict[str, Any], admin_url: str) -> None:
    """Run what `helm test` runs, at the address where the supervisor of this test listens."""
    (container,) = spec["containers"]
    python, *args, url = container["command"]
    assert (python, url) == ("python", "http://prod-aiwm-supervisor:8640/livez")
    livez = url.replace("http://prod-aiwm-supervisor:8640", admin_url)

    def ask(address: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *args, address]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)

    assert ask(livez).returncode == 0
    assert ask(f"{livez}x").returncode != 0
