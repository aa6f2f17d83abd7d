"""The examples, each as its README has it: a real process that answers through a running supervisor."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.stack import is_apology, stack

EXAMPLES = ROOT / "examples"
SIGNING_SECRET = "shared-with-the-example"


def program(language: str) -> str:
    """The program that runs examples in ``language``; without it the test is skipped, in CI it fails."""
    if language == "python":
        return sys.executable
    found = shutil.which("node")
    if found is None:
        missing = "there is no Node: apt-get install -y --no-install-recommends nodejs"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture
def webhook_url(language: str) -> Iterator[str]:
    """The webhook example of a language, on a port of its own."""
    file = EXAMPLES / f"webhook-{language}" / {"python": "webhook.py", "node": "webhook.mjs"}[language]
    env = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": SIGNING_SECRET}
    with subprocess.Popen(
        [program(language), str(file), "0"], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            port = re.fullmatch(r"listening on (\d+)\n", line)
            assert port, line
            yield f"http://127.0.0.1:{port[1]}/"
        finally:
            process.kill()


@pytest.mark.parametrize("language", ["python", "node"])
async def test_a_webhook_answers_in_two_parts_and_refuses_what_others_sign(
    tmp_path: Path, language: str, webhook_url: str
) -> None:
    (tmp_path / "signing").write_text(SIGNING_SECRET)
    (tmp_path / "other").write_text("not-the-secret")
    async with stack(tmp_path, allow_private_webhooks=True) as fleet:
        settings = {"url": webhook_url, "allow_private": True, "max_attempts": 1, "retries": 0}
        right = await fleet.add(1, "webhook", settings=settings | {"signing_secret": f"file:{tmp_path / 'signing'}"})
        wrong = await fleet.add(2, "webhook", settings=settings | {"signing_secret": f"file:{tmp_path / 'other'}"})
        await fleet.online(2)
        for text in ("hello ä", "again"):
            thinking, reply = await fleet.ask(right, text)
            assert thinking.type == "thinking"
            assert reply.content == f"{language.title()} heard: {text}"
        [apology] = await fleet.ask(wrong, "hello")
        assert is_apology(apology)
        assert "answered 401" in fleet.service.control.status(wrong).health


@pytest.mark.parametrize("language", ["python", "node"])
async def test_a_program_answers_in_two_parts(tmp_path: Path, language: str) -> None:
    file = EXAMPLES / f"command-{language}" / {"python": "agent.py", "node": "agent.mjs"}[language]
    settings = {"command": [program(language), str(file)], "output": "ndjson", "cpu_seconds": 10}
    async with stack(tmp_path, allow_commands=True) as fleet:
        identity = await fleet.add(1, "command", settings=settings)
        await fleet.online()
        thinking, reply = await fleet.ask(identity, "hello ä", timeout=60)
        assert thinking.type == "thinking"
        assert reply.content == f"{language.title()} heard: hello ä"
        [apology] = await fleet.ask(identity, "x" * 10_001, timeout=60)
        assert is_apology(apology)
        assert "ended with status 65: that is too long for me" in fleet.service.control.status(identity).health


async def test_the_handler_of_the_derived_image_answers(tmp_path: Path) -> None:
    async with stack(tmp_path, agents_dir=EXAMPLES / "derived-image" / "agents") as fleet:
        identity = await fleet.add(1, "countdown")
        await fleet.online()
        [future] = await fleet.ask(identity, "31 December 2999")
        assert re.fullmatch(r"That is in \d+ years, \d+ months and \d+ days\.", future.content)
        [past] = await fleet.ask(identity, "1999-12-31")
        assert past.content.endswith("days ago.")
        [unknown] = await fleet.ask(identity, "some day")
        assert unknown.content.startswith("Name me a day")
