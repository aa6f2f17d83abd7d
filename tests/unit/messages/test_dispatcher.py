"""Whose turn it is among agents: the fleet's one limit, and nobody starves."""

from __future__ import annotations

from supervisor.core.records import CRASHED, SUSPECT_CRASHES, JournaledMessage
from supervisor.messages.dispatcher import SUSPECT_SECONDS, Dispatcher
from tests.support.clock import ManualClock
from tests.support.lanes import Desk, row


async def test_all_agents_together_keep_the_global_limit(clock: ManualClock) -> None:
    dispatcher = Dispatcher(3)
    desks = [Desk(dispatcher, clock, concurrency=3) for _ in range(3)]
    for number in range(1, 4):
        for one in desks:
            one.put(row(number, f"c{number}"))
    await clock.settle()
    assert dispatcher.running == sum(len(one.running) for one in desks) == 3
    for one in desks:
        await one.lanes.close()
    assert dispatcher.running == 0


async def test_a_busy_agent_does_not_starve_another(clock: ManualClock) -> None:
    dispatcher = Dispatcher(1)
    busy, quiet = (Desk(dispatcher, clock, concurrency=10) for _ in range(2))
    for number in range(1, 51):
        busy.put(row(number, f"c{number}"))
    quiet.put(row(1))
    await clock.settle()
    for number in (1, 2):
        busy.finish(number)
        await clock.settle()
    assert list(quiet.running) == [1], "it had its turn after at most one more of the busy one's"
    await busy.lanes.close()
    await quiet.lanes.close()


async def test_a_message_that_waits_for_its_next_attempt_holds_no_place(clock: ManualClock) -> None:
    dispatcher = Dispatcher(1)
    one, other = Desk(dispatcher, clock), Desk(dispatcher, clock)
    one.put(row(1, not_before=clock.now() + 60))
    await clock.settle()
    other.put(row(1))
    await clock.settle()
    assert (list(one.running), list(other.running)) == ([], [1])
    other.finish(1)
    await clock.advance(60)
    assert list(one.running) == [1]
    await one.lanes.close()


async def test_a_cancelled_reservation_gives_lane_and_place_to_those_who_wait(clock: ManualClock) -> None:
    dispatcher = Dispatcher(1)
    one, other = Desk(dispatcher, clock), Desk(dispatcher, clock)
    assert one.lanes.reserve("c")
    one.put(row(2))
    other.put(row(1))
    await clock.settle()
    assert not one.running
    assert not other.running
    one.lanes.cancel_reserved("c")
    await clock.settle()
    assert list(other.running) == [1], "it waited for longer"
    other.finish(1)
    await clock.settle()
    assert list(one.running) == [2]
    one.finish(2)
    await clock.settle()
    assert dispatcher.running == one.lanes.running == 0


async def test_nothing_is_reserved_past_those_who_wait(clock: ManualClock) -> None:
    dispatcher = Dispatcher(1)
    one, other = Desk(dispatcher, clock), Desk(dispatcher, clock, concurrency=2)
    one.put(row(1))
    other.put(row(1))
    await clock.settle()
    assert not other.lanes.reserve("c"), "an earlier message of the lane waits"
    assert not other.lanes.reserve("d"), "another agent has the fleet's last place"
    other.lanes.pause()
    one.finish(1)
    await clock.settle()
    assert not other.lanes.reserve("d"), "paused"
    assert dispatcher.running == 0


async def test_suspects_start_one_after_the_other(clock: ManualClock) -> None:
    """Together they would all be counted a death that one of them caused."""
    dispatcher = Dispatcher(10)
    one, other = Desk(dispatcher, clock), Desk(dispatcher, clock)
    one.put(suspect(1))
    other.put(suspect(2))
    await clock.settle()
    await clock.advance(SUSPECT_SECONDS / 2)
    assert (list(one.running), list(other.running)) == ([1], [])
    one.finish(1)
    await clock.advance(1)
    assert list(other.running) == [2]
    other.finish(2)


async def test_a_suspect_that_runs_for_long_without_harm_does_not_hold_up_the_next(clock: ManualClock) -> None:
    dispatcher = Dispatcher(10)
    one, other = Desk(dispatcher, clock), Desk(dispatcher, clock)
    one.put(suspect(1))
    other.put(suspect(2))
    await clock.settle()
    await clock.advance(SUSPECT_SECONDS + 1)
    assert (list(one.running), list(other.running)) == ([1], [2])
    for desk in (one, other):
        await desk.run_all()


def suspect(number: int) -> JournaledMessage:
    """A message whose last attempts ended with the process."""
    made = row(number)
    made.attempts, made.error = SUSPECT_CRASHES, CRASHED
    return made
