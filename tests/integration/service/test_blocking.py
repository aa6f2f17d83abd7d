"""A handler that blocks the event loop is named, with its line and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from supervisor.service.watchdogs import BLOCK_SECONDS
from tests.support.stack import Stack, stack

BLOCKING = '''
"""Blocks the loop in a helper of its own; the plain function blocks only its thread."""
import time

def rest():
    time.sleep(0.45)  # the line to be named

async def on_message(message, ctx):
    rest()
    return "rested"
'''
THREADED = """
import time

def on_message(message, ctx):
    time.sleep(0.45)
    return "rested"
"""


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def agents_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "blocking.py").write_text(BLOCKING)
    (folder / "threaded.py").write_text(THREADED)
    return folder


def named(log: list[Any]) -> list[Any]:
    return [line for line in log if line["event"] == "handler_blocks"]


async def ask(fleet: Stack, handler: str) -> None:
    identity = await fleet.add(1, handler)
    await fleet.online()
    for _ in range(2):
        [reply] = await fleet.ask(identity, "hello", timeout=30)
        assert reply.content == "rested"


async def test_a_handler_that_blocks_is_named_once_a_minute(tmp_path: Path, agents_dir: Path, log: list[Any]) -> None:
    async with stack(tmp_path, agents_dir=agents_dir) as fleet:
        await ask(fleet, "blocking")
        await fleet.until(lambda: named(log))
    [line] = named(log)
    assert (line["handler"], line["file"]) == ("blocking", str(agents_dir / "blocking.py"))
    assert "the line to be named" in BLOCKING.splitlines()[line["line"] - 1]
    assert line["seconds"] >= BLOCK_SECONDS
    assert line["log_level"] == "warning"
    assert "plain def" in line["remedy"]


async def test_a_plain_function_is_not_named(tmp_path: Path, agents_dir: Path, log: list[Any]) -> None:
    async with stack(tmp_path, agents_dir=agents_dir) as fleet:
        await ask(fleet, "threaded")
    assert named(log) == []


async def test_a_handler_of_an_installed_package_is_named_by_its_module(
    tmp_path: Path, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "slow_bots"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "lazy.py").write_text(BLOCKING)
    monkeypatch.syspath_prepend(str(package.parent))
    try:
        async with stack(tmp_path, handler_packages=["slow_bots"]) as fleet:
            await ask(fleet, "slow_bots.lazy:on_message")
            await fleet.until(lambda: named(log))
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "slow_bots"]:
            del sys.modules[name]
    assert named(log)[0]["handler"] == "slow_bots.lazy"
