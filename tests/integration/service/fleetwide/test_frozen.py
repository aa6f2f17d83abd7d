"""A replica that is frozen: whoever asks another one sees that nothing is known of its agents, and waits for nobody."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.cli import live
from supervisor.sandbox import Sandbox
from supervisor.settings import Settings
from tests.support.replicas import ReplicaProcess, Replicas, replicas
from tests.support.together import TOKEN

pytestmark = pytest.mark.timeout(180)
#: What a question to a frozen one may take, and as much again for a busy machine.
SECONDS = 6.0


def address(process: ReplicaProcess) -> str:
    """Where one answers, as its log says; empty until it does."""
    lines = [json.loads(line) for line in process.log.splitlines() if line.startswith("{")]
    return next((str(line["admin"]) for line in lines if line.get("event") == "started"), "")


async def ask(fleet: Replicas, process: ReplicaProcess, path: str) -> Any:
    url = await fleet.until(lambda: address(process), "its address")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession() as session, session.get(url + path, headers=headers) as answer:
        assert answer.status == 200
        return await answer.json()


async def standings(fleet: Replicas, process: ReplicaProcess) -> list[str]:
    return [one["trouble"] or one["state"] for one in await ask(fleet, process, "/api/v1/agents")]


async def until(fleet: Replicas, process: ReplicaProcess, wanted: list[str]) -> None:
    async with asyncio.timeout(60):
        while sorted(await standings(fleet, process)) != wanted:
            await asyncio.sleep(0.1)


async def test_of_a_frozen_one_nothing_is_known_and_nobody_waits(tmp_path: Path) -> None:
    async with Sandbox() as sandbox, replicas(tmp_path, sandbox, {}, admin_token=TOKEN, lease_seconds=60) as fleet:
        first = await fleet.start()
        await fleet.until(lambda: address(first), "the first one's start")
        second = await fleet.start()
        await fleet.until(lambda: address(second), "the second one's start")
        await fleet.add(4)
        await until(fleet, first, ["online"] * 4)
        theirs = fleet.owned()[1]
        assert 0 < theirs < 4
        second.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            found = sorted(await standings(fleet, first))
            assert time.monotonic() - began < SECONDS
            assert found == ["online"] * (4 - theirs) + ["unknown"] * theirs
            # The first one waited; those who come at once do not.
            began = time.monotonic()
            overview = await ask(fleet, first, "/api/v1/status")
            assert time.monotonic() - began < SECONDS
            assert [one["state"] for one in overview["replicas"]] == ["living", "silent"]
            assert re.search(r"Replica \d+ \(pid \d+ on .*\) does not answer at http://127", overview["notices"][-1])
            # A command asks the newest one first, and gives it up as soon.
            began = time.monotonic()
            found_one = await asyncio.to_thread(live.find, Settings(registry_url=fleet.url, admin_token=TOKEN))
            assert time.monotonic() - began < SECONDS
            assert found_one is not None
            assert found_one.url == address(first)
        finally:
            second.signal(signal.SIGCONT)
        await until(fleet, first, ["online"] * 4)
        assert TOKEN not in first.log + second.log
