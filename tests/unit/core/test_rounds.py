"""Rounds: a timer between, a task while there is something to do, and an end that is one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from supervisor.core.rounds import Rounds
from tests.support.clock import ManualClock


class Owner:
    """Owns the tasks of some rounds, and counts what becomes of them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.tasks: list[asyncio.Task[None]] = []
        self.turns: list[float] = []
        self.ends = 0

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    def end(self) -> None:
        self.ends += 1

    def come_round(self) -> None:
        self.turns.append(self.clock.monotonic())


@pytest.fixture
async def owner() -> Owner:
    return Owner()


async def test_one_that_has_nothing_to_do_makes_no_task(owner: Owner) -> None:
    def turn() -> float | None:
        owner.come_round()
        return 5.0 if len(owner.turns) < 3 else None

    rounds = Rounds(owner.clock, turn, owner.start, owner.end)
    rounds.begin(2.0)
    await owner.clock.advance(100)
    assert (owner.turns, owner.tasks, owner.ends) == ([2.0, 7.0, 12.0], [], 1)
    rounds.begin(1.0)
    await owner.clock.advance(100)
    assert len(owner.turns) == 3, "they have ended"


async def test_the_next_comes_so_long_after_the_work_of_the_one_before(owner: Owner) -> None:
    async def work() -> float | None:
        owner.come_round()
        await owner.clock.sleep(3)
        return 4.0 if len(owner.turns) < 2 else None

    Rounds(owner.clock, work, owner.start, owner.end).begin(0.0)
    await owner.clock.advance(100)
    assert (owner.turns, owner.ends) == ([0.0, 7.0], 1)
    assert [task.done() for task in owner.tasks] == [True, True]


async def test_once_ended_none_begins_and_what_is_done_goes_on(owner: Owner) -> None:
    async def work() -> float:
        owner.come_round()
        await owner.clock.sleep(3)
        owner.come_round()
        return 1.0

    rounds = Rounds(owner.clock, work, owner.start, owner.end)
    rounds.begin(1.0)
    await owner.clock.advance(2)
    rounds.end()
    rounds.end()
    await owner.clock.advance(100)
    assert (owner.turns, owner.ends, owner.clock.sleepers) == ([1.0, 4.0], 1, 0)


async def test_ended_between_two_the_timer_is_gone(owner: Owner) -> None:
    rounds = Rounds(owner.clock, lambda: 1.0, owner.start)
    rounds.begin(1.0)
    rounds.end()
    assert owner.clock.sleepers == 0
