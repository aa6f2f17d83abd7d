"""``/api/v1/board`` over real sockets: the fleet as a live table, and only what changed in it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from supervisor.core.records import AgentRecord
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, stack


class Follower:
    """A table that is kept as the console keeps it."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self.rows: dict[str, dict[str, Any]] = {}
        self.overview: dict[str, Any] = {}
        self.sizes: list[int] = []

    async def take(self) -> None:
        """The next event, with those that go on with it."""
        while True:
            data = await self._next()
            if data["first"]:
                self.rows = {}
            self.rows |= {one["id"]: one for one in data["agents"]}
            for gone in data["gone"]:
                self.rows.pop(gone, None)
            self.overview = data["overview"]
            self.sizes.append(len(data["agents"]))
            if not data["more"]:
                return

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.take()

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            async for raw in self._content:
                if raw.startswith(b"data: "):
                    made: dict[str, Any] = json.loads(raw[6:])
                    return made
        raise AssertionError("the stream ended")


@asynccontextmanager
async def following(fleet: Stack) -> AsyncIterator[Follower]:
    async with (
        aiohttp.ClientSession(read_bufsize=1 << 22) as session,
        session.get(f"{fleet.service.admin_url}/api/v1/board") as answer,
    ):
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        yield Follower(answer.content)


async def test_the_table_follows_the_fleet_and_holds_no_setting(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        first = await fleet.add(1, settings={"api_key": SECRET, "model": "m"})
        await fleet.online()
        async with following(fleet) as board:
            await board.take()
            assert set(board.rows) == {first}
            assert (board.rows[first]["state"], board.rows[first]["settings"]) == ("online", {})
            assert board.overview["agents"] == {"online": 1}
            second = await fleet.add(2)
            await board.until(lambda: board.rows.get(second, {}).get("state") == "online")
            await fleet.service.control.pause(first)
            await board.until(lambda: board.rows[first]["state"] == "paused")
            seen = len(board.sizes)
            await fleet.service.control.remove(second)
            await board.until(lambda: second not in board.rows)
            assert sum(board.sizes[seen:]) <= 2, "only what changed"
            assert set(board.rows) == {first}
        # Who comes later gets all of it too.
        async with following(fleet) as board:
            await board.take()
            assert {one["state"] for one in board.rows.values()} == {"paused"}


async def test_a_thousand_agents_come_in_pieces_and_a_stop_waits_for_nobody(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        secret = f"file:{tmp_path / SECRET_FILE}"
        rows = [AgentRecord(agent_id(number), "echo", secret, paused=True) for number in range(1, 1001)]
        await fleet.service.registry.apply(add=rows)
        await fleet.until(lambda: len(fleet.service.fleet.agent_ids()) == 1000)
        async with following(fleet) as board:
            await board.until(lambda: board.overview and len(board.rows) == 1000)
            assert max(board.sizes) <= 250
            seen = len(board.sizes)
            await fleet.service.control.act_on("resume", [agent_id(7)])
            await board.until(lambda: board.rows[agent_id(7)]["state"] != "paused")
            assert sum(board.sizes[seen:]) < 10, "one row and its way, not a thousand"
            began = time.monotonic()
            await fleet.service.stop(grace_seconds=1)
            assert time.monotonic() - began < 3.5
