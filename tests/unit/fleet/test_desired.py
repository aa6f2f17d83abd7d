"""What is wanted of an agent, and who is woken by it."""

from __future__ import annotations

import asyncio
import math

import pytest

from supervisor.core.records import AgentRecord
from supervisor.fleet.desired import Desired
from tests.support.clock import ManualClock

RECORD = AgentRecord(id="a" * 24, handler="echo", secret="env:AGENT_SECRET")
PAUSED = AgentRecord(id="a" * 24, handler="echo", secret="env:AGENT_SECRET", paused=True)


@pytest.fixture
def desired(clock: ManualClock) -> Desired:
    return Desired(RECORD, clock)


async def is_woken(desired: Desired) -> bool:
    """Whether whoever waits for the change of a wish would go on."""
    try:
        async with asyncio.timeout(0):
            await desired.change.wait()
    except TimeoutError:
        return False
    return True


def test_in_the_beginning_the_agent_is_to_be_online(desired: Desired) -> None:
    assert (desired.record, desired.offline, desired.stopping, desired.reload_due) == (RECORD, False, False, False)
    assert (desired.grace_seconds, desired.stop_at) == (0.0, math.inf)


async def test_a_row_alone_wakes_nobody(desired: Desired) -> None:
    desired.replace(PAUSED)
    assert (desired.record, desired.offline, desired.stopping) == (PAUSED, True, False)
    assert not await is_woken(desired)


async def test_a_stop_says_until_when(desired: Desired, clock: ManualClock) -> None:
    await clock.advance(100)
    desired.stop(7)
    assert (desired.stopping, desired.offline, desired.grace_seconds, desired.stop_at) == (True, True, 7, 107)
    assert await is_woken(desired)


async def test_a_reload_is_due_until_it_was_taken(desired: Desired) -> None:
    desired.reload()
    assert desired.reload_due
    assert await is_woken(desired)
    desired.reload_taken()
    assert not desired.reload_due


@pytest.mark.parametrize("reason", ["", "the handler is broken"])
async def test_whoever_waits_for_a_reload_hears_how_it_went(desired: Desired, reason: str) -> None:
    waiting = [asyncio.ensure_future(desired.refresh()) for _ in range(2)]
    await asyncio.sleep(0)
    desired.reload_taken()
    desired.answer_reloads(reason)
    assert await asyncio.gather(*waiting) == [reason, reason]


async def test_an_answer_while_another_reload_is_due_is_none(desired: Desired) -> None:
    waiting = asyncio.ensure_future(desired.refresh())
    await asyncio.sleep(0)
    desired.answer_reloads("of before")
    await asyncio.sleep(0)
    assert not waiting.done()
    desired.reload_taken()
    desired.answer_reloads("")
    assert await waiting == ""


async def test_one_who_gave_up_waiting_harms_nobody(desired: Desired) -> None:
    waiting = [asyncio.ensure_future(desired.refresh()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    desired.reload_taken()
    desired.answer_reloads("")
    assert await waiting[1] == ""


async def test_whoever_waits_for_a_reload_hears_that_it_cannot_be_and_it_stays_due(desired: Desired) -> None:
    waiting = asyncio.create_task(desired.refresh())
    await asyncio.sleep(0)
    desired.reload_failed("no such handler")
    assert await waiting == "no such handler"
    assert desired.reload_due
