"""Places of messages on their way into the journal: who came first runs first; none is kept for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from supervisor.messages.arrivals import Arrival
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.places import Places
from tests.support.clock import ManualClock
from tests.support.journaling import inbound
from tests.support.lanes import Desk, row


@pytest.fixture
async def desk(clock: ManualClock) -> AsyncIterator[Desk]:
    made = Desk(Dispatcher(10), clock, concurrency=5)
    yield made
    await made.lanes.close()


def arrival(key: str, conversation: str = "c") -> Arrival:
    return Arrival(inbound(key, conversation), key, received_at=1.0, size_bytes=1)


async def test_one_does_not_run_before_another_that_is_on_its_way(desk: Desk, clock: ManualClock) -> None:
    places = Places(desk.lanes)
    first, second, third, elsewhere = arrival("1"), arrival("2"), arrival("3"), arrival("4", "d")
    for one in (first, second, elsewhere):
        places.take(one)
    assert (first.claimed, second.claimed, elsewhere.claimed) == (True, False, True)
    desk.journal[1] = row(1)
    desk.lanes.run_reserved(desk.journal[1])
    places.leave(first, used=True)
    await clock.settle()
    desk.finish(1)
    await clock.settle()
    # The lane is idle; the second is not in it yet.
    places.take(third)
    assert not third.claimed
    for one in (second, third):
        places.leave(one, used=True)
    places.take(fourth := arrival("5"))
    assert fourth.claimed
    places.leave(fourth, used=False)
    places.leave(elsewhere, used=False)
    assert desk.lanes.running == 0


async def test_what_is_given_up_keeps_no_place(desk: Desk) -> None:
    places = Places(desk.lanes)
    for one in (arrival("1"), arrival("2"), arrival("3", "d")):
        places.take(one)
    assert desk.lanes.running == 2
    places.give_up()
    assert (desk.lanes.running, places.given_up) == (0, 1)
    places.take(again := arrival("4"))
    assert again.claimed


async def test_what_nobody_works_on_needs_none(desk: Desk) -> None:
    places = Places(desk.lanes)
    command = arrival("/stop")
    command.command = True
    places.take(command)
    places.leave(command, used=True)
    assert (command.claimed, desk.lanes.running) == (False, 0)
