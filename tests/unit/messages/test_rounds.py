"""Some conversations at a time, and those first that somebody waits in."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.messages.rounds import Round


class Desk:
    """Begins what it is given, and ends it when it is told to."""

    def __init__(self, *conversations: str, at_once: int) -> None:
        self.begun: list[str] = []
        self.may_end = asyncio.Event()
        self.round = Round(conversations, self._work, at_once=at_once, name="round")

    async def _work(self, conversation_id: str) -> None:
        self.begun.append(conversation_id)
        await self.may_end.wait()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_so_many_at_a_time_in_order() -> None:
    desk = Desk(*"abcde", at_once=2)
    running = asyncio.create_task(desk.round.run())
    await turns()
    assert desk.begun == ["a", "b"]
    desk.may_end.set()
    await running
    assert desk.begun == ["a", "b", "c", "d", "e"]


async def test_one_that_is_put_first_begins_at_once_and_only_once() -> None:
    desk = Desk(*"abcde", at_once=2)
    desk.round.put_first("d")
    running = asyncio.create_task(desk.round.run())
    await turns()
    for name in ("d", "d", "a", "elsewhere"):
        desk.round.put_first(name)
    await turns()
    assert desk.begun == ["a", "b", "d"]
    desk.may_end.set()
    await running
    assert sorted(desk.begun) == ["a", "b", "c", "d", "e"]


async def test_cancelled_it_leaves_nothing_under_way() -> None:
    desk = Desk(*"abc", at_once=1)
    running = asyncio.create_task(desk.round.run())
    await turns()
    desk.round.put_first("c")
    await turns()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    desk.round.put_first("b")
    await turns()
    assert desk.begun == ["a", "c"]
    assert [task.get_name() for task in asyncio.all_tasks()].count("round") == 0
