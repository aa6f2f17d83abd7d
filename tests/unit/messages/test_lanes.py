"""Whose turn it is: order within a lane, limits, fairness, retries in place, and what does not fit into memory."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.messages.lanes import MEMORY_LIMIT, Dispatcher, Lanes
from supervisor.protocol import InboundMessage
from tests.support.clock import ManualClock

Finish = asyncio.Future[float | None]


def row(number: int, conversation: str = "c", *, not_before: float = 0.0, size: int = 0) -> JournaledMessage:
    message = InboundMessage(conversation_id=conversation, role="user", content=str(number).ljust(size))
    return JournaledMessage(
        number, "a" * 24, f"key-{number}", message, MessageState.AVAILABLE, 0, 100.0 + number, not_before=not_before
    )


class Desk:
    """One agent's lanes over a journal in memory; each message runs until :meth:`finish`."""

    def __init__(self, dispatcher: Dispatcher, clock: ManualClock, *, concurrency: int = 1, go: bool = True) -> None:
        self.journal: dict[int, JournaledMessage] = {}
        self.concurrency = concurrency
        self.started: list[int] = []
        self.running: dict[int, Finish] = {}
        self.cancelled: list[int] = []
        self.most = 0
        self.reads = 0
        self.at_read: Callable[[], Awaitable[None]] | None = None
        self.read_errors: list[Exception] = []
        self.lanes = Lanes(dispatcher, clock, concurrency=lambda: self.concurrency, work=self.work, refill=self.read)
        if go:
            self.lanes.go()

    async def work(self, message: JournaledMessage) -> float | None:
        assert message.id in self.journal, "a message that is settled ran again"
        assert message.id not in self.running, "a message ran twice at once"
        self.started.append(message.id)
        done: Finish = asyncio.get_running_loop().create_future()
        self.running[message.id] = done
        self.most = max(self.most, len(self.running))
        try:
            again_at = await done
        except asyncio.CancelledError:
            self.cancelled.append(message.id)
            raise
        finally:
            del self.running[message.id]
        if again_at is None:
            del self.journal[message.id]
        else:
            message.not_before = again_at
        return again_at

    async def read(self, after_id: int, limit: int) -> list[JournaledMessage]:
        self.reads += 1
        if self.read_errors:
            raise self.read_errors.pop()
        found = [r for number, r in sorted(self.journal.items()) if number > after_id and number not in self.running]
        found = found[:limit]
        if self.at_read is not None:
            await self.at_read()
        return found

    def put(self, message: JournaledMessage) -> None:
        self.journal[message.id] = message
        self.lanes.put(message)

    def finish(self, number: int, again_at: float | None = None) -> None:
        self.running[number].set_result(again_at)

    async def run_all(self) -> None:
        """Let every message end as soon as it starts, until none does."""
        while self.running:
            for done in list(self.running.values()):
                done.set_result(None)
            await ManualClock.settle(3)


@pytest.fixture
async def desk(clock: ManualClock) -> AsyncIterator[Desk]:
    made = Desk(Dispatcher(100), clock)
    yield made
    await made.lanes.close()


async def test_a_lane_runs_one_message_at_a_time_in_order(desk: Desk, clock: ManualClock) -> None:
    desk.concurrency = 5
    for number in range(1, 6):
        desk.put(row(number))
    for number in range(1, 6):
        await clock.settle()
        assert list(desk.running) == [number]
        desk.finish(number)
    await clock.settle()
    assert desk.started == [1, 2, 3, 4, 5]


async def test_lanes_of_an_agent_run_together_up_to_its_concurrency(desk: Desk, clock: ManualClock) -> None:
    desk.concurrency = 2
    for number in range(1, 6):
        desk.put(row(number, f"c{number}"))
    await clock.settle()
    assert list(desk.running) == [1, 2]
    desk.finish(1)
    await clock.settle()
    assert list(desk.running) == [2, 3]


async def test_a_concurrency_that_is_raised_counts_at_the_next_go(desk: Desk, clock: ManualClock) -> None:
    for number in (1, 2, 3):
        desk.put(row(number, f"c{number}"))
    await clock.settle()
    desk.concurrency = 3
    desk.lanes.go()
    await clock.settle()
    assert list(desk.running) == [1, 2, 3]


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


async def test_a_long_lane_does_not_starve_another_lane(desk: Desk, clock: ManualClock) -> None:
    for number in range(1, 51):
        desk.put(row(number, "long"))
    desk.put(row(51, "short"))
    await clock.settle()
    desk.finish(1)
    await clock.settle()
    assert list(desk.running) == [51]


async def test_a_retry_keeps_its_place_and_later_messages_wait(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(1))
    desk.put(row(2))
    desk.put(row(3, "other"))
    await clock.settle()
    desk.finish(1, again_at=clock.now() + 30)
    await clock.settle()
    assert list(desk.running) == [3]
    desk.finish(3)
    await clock.advance(29)
    assert not desk.running
    await clock.advance(1)
    assert list(desk.running) == [1]
    desk.finish(1)
    await clock.settle()
    assert desk.started == [1, 3, 1, 2]


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


async def test_hold_starts_nothing_and_go_goes_on(clock: ManualClock) -> None:
    desk = Desk(Dispatcher(10), clock, go=False)
    desk.put(row(1))
    await clock.settle()
    assert not desk.running
    desk.lanes.go()
    desk.lanes.hold()
    desk.put(row(2, "other"))
    await clock.settle()
    assert list(desk.running) == [1]
    assert desk.lanes.oldest_at == 102.0
    await desk.lanes.close()


async def test_a_reserved_message_runs_at_once(desk: Desk, clock: ManualClock) -> None:
    assert desk.lanes.reserve("c")
    assert not desk.lanes.reserve("c"), "the lane is taken"
    assert not desk.lanes.reserve("other"), "the agent's one place is taken"
    desk.journal[1] = row(1)
    desk.lanes.run_reserved(desk.journal[1])
    desk.put(row(2))
    await clock.settle()
    assert list(desk.running) == [1]
    desk.finish(1)
    await clock.settle()
    assert list(desk.running) == [2]


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
    other.lanes.hold()
    one.finish(1)
    await clock.settle()
    assert not other.lanes.reserve("d"), "held"
    assert dispatcher.running == 0


# ── what does not fit into memory ────────────────────────────────────────────────────────────────────────────────────


async def test_what_does_not_fit_is_read_again_in_order_and_once(desk: Desk, clock: ManualClock) -> None:
    total = MEMORY_LIMIT * 2 + 123
    for number in range(1, total + 1):
        desk.put(row(number))
    await clock.settle()
    assert desk.reads == 0
    await desk.run_all()
    assert desk.started == list(range(1, total + 1))
    assert desk.most == 1


async def test_messages_that_come_while_a_refill_reads_are_neither_lost_nor_doubled(
    desk: Desk, clock: ManualClock
) -> None:
    numbers = iter(range(MEMORY_LIMIT + 200, MEMORY_LIMIT + 230))

    async def arrive() -> None:
        """One comes after the snapshot, and what runs goes on meanwhile."""
        if (number := next(numbers, None)) is not None:
            desk.put(row(number))
        for done in list(desk.running.values()):
            done.set_result(None)
        await clock.settle(3)

    for number in range(1, MEMORY_LIMIT + 101):
        desk.put(row(number))
    desk.at_read = arrive
    await clock.settle()
    await desk.run_all()
    assert desk.started == [*range(1, MEMORY_LIMIT + 101), *range(MEMORY_LIMIT + 200, MEMORY_LIMIT + 230)]
    assert not desk.journal


async def test_a_message_that_a_refill_read_before_it_was_put_runs_once(desk: Desk, clock: ManualClock) -> None:
    """Another thread may see a commit before the event loop does."""
    desk.journal[1] = row(1)
    desk.lanes.restore()
    await clock.settle()
    desk.lanes.put(row(1))
    await desk.run_all()
    assert desk.started == [1]


async def test_a_reserved_message_does_not_hide_those_left_in_the_journal(desk: Desk, clock: ManualClock) -> None:
    """It was reserved before memory was full, and its number is higher than those of messages that were left."""
    desk.concurrency = 2
    desk.put(row(1, "busy"))
    await clock.settle()
    assert desk.lanes.reserve("reserved")
    for number in range(2, MEMORY_LIMIT + 50):
        desk.put(row(number, "busy"))
    last = MEMORY_LIMIT + 50
    desk.journal[last] = row(last, "reserved")
    desk.lanes.run_reserved(desk.journal[last])
    await clock.settle()
    await desk.run_all()
    assert sorted(desk.started) == list(range(1, last + 1))


async def test_a_reserved_message_that_starts_while_a_refill_reads_hides_nothing(
    desk: Desk, clock: ManualClock
) -> None:
    last = MEMORY_LIMIT * 3
    desk.concurrency = 2
    desk.put(row(1, "busy"))
    await clock.settle()
    assert desk.lanes.reserve("reserved")
    for number in range(2, last):
        desk.put(row(number, "busy"))

    async def start() -> None:
        desk.at_read = None
        desk.journal[last] = row(last, "reserved")
        desk.lanes.run_reserved(desk.journal[last])

    desk.at_read = start
    await desk.run_all()
    assert sorted(desk.started) == list(range(1, last + 1))


async def test_an_old_message_that_is_replayed_into_a_full_memory_runs(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(5))
    await clock.settle()
    await desk.run_all()
    for number in range(10, MEMORY_LIMIT + 100):
        desk.put(row(number))
    desk.put(row(5))
    await clock.settle()

    async def go_on() -> None:
        """Messages that the refill reads again, because they are in memory, end before it is through."""
        for _ in range(5):
            for done in list(desk.running.values()):
                done.set_result(None)
            await clock.settle(3)

    desk.at_read = go_on
    await desk.run_all()
    assert sorted(desk.started) == [5, 5, *range(10, MEMORY_LIMIT + 100)]


async def test_a_retry_is_not_read_again_while_it_waits_in_memory(desk: Desk, clock: ManualClock) -> None:
    desk.concurrency = 2
    desk.put(row(1, "retried"))
    await clock.settle()
    desk.finish(1, again_at=clock.now() + 60)
    for number in range(2, MEMORY_LIMIT + 100):
        desk.put(row(number))
    desk.put(row(1, "replayed"))
    await clock.settle()
    await desk.run_all()
    assert desk.started == list(range(1, MEMORY_LIMIT + 100))
    await clock.advance(60)
    assert list(desk.running) == [1]


async def test_restore_takes_up_what_an_earlier_run_left(desk: Desk, clock: ManualClock) -> None:
    desk.journal = {number: row(number, f"c{number % 7}") for number in range(1, MEMORY_LIMIT + 1)}
    desk.concurrency = 3
    desk.lanes.restore()
    await clock.settle()
    await desk.run_all()
    assert sorted(desk.started) == list(range(1, MEMORY_LIMIT + 1))
    assert desk.most == 3


async def test_a_journal_that_cannot_be_read_is_asked_again(desk: Desk, clock: ManualClock) -> None:
    desk.journal[1] = row(1)
    desk.read_errors = [OSError("database is locked"), OSError("database is locked")]
    desk.lanes.restore()
    await clock.settle()
    assert not desk.running
    await clock.advance(5)
    assert list(desk.running) == [1]


# ── a replayed message ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_replayed_message_comes_before_those_that_came_after_it(desk: Desk, clock: ManualClock) -> None:
    for number in (10, 20, 30, 31):
        desk.put(row(number))
    await clock.settle()
    for number in (25, 5, 40):
        desk.put(row(number))
    await clock.settle()
    await desk.run_all()
    assert desk.started == [10, 5, 20, 25, 30, 31, 40]


async def test_a_message_between_two_attempts_stays_before_one_that_is_replayed(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(10))
    desk.put(row(11))
    await clock.settle()
    desk.finish(10, again_at=clock.now() + 30)
    await clock.settle()
    desk.put(row(5))
    desk.put(row(6, "other"))
    await clock.settle()
    # The agent's one place is taken when the attempt is due: it waits, and is still the first.
    assert list(desk.running) == [6]
    await clock.advance(30)
    desk.put(row(4))
    assert not desk.lanes.reserve("c")
    desk.finish(6)
    await clock.settle()
    await desk.run_all()
    assert desk.started == [10, 6, 10, 4, 5, 11]


async def test_a_replayed_message_that_was_left_in_the_journal_comes_before_those_in_memory(
    desk: Desk, clock: ManualClock
) -> None:
    desk.put(row(5))
    await clock.settle()
    await desk.run_all()
    last = MEMORY_LIMIT + 100
    for number in range(10, last):
        desk.put(row(number))
    desk.put(row(5))
    await clock.settle()
    await desk.run_all()
    replayed = desk.started.index(5, 1)
    assert replayed < MEMORY_LIMIT
    del desk.started[replayed]
    assert desk.started == [5, *range(10, last)]


# ── a bound in bytes for all agents ──────────────────────────────────────────────────────────────────────────────────

KILO = 1000


def desks(clock: ManualClock, number: int, memory_bytes: int, concurrency: int = 1) -> tuple[Dispatcher, list[Desk]]:
    dispatcher = Dispatcher(1000, memory_bytes=memory_bytes)
    return dispatcher, [Desk(dispatcher, clock, concurrency=concurrency) for _ in range(number)]


async def test_many_agents_with_many_large_messages_stay_within_the_bound_and_all_run_in_order(
    clock: ManualClock,
) -> None:
    agents, messages, size = 50, 40, 100 * KILO
    bound = 20 * 1000 * KILO
    dispatcher, fleet = desks(clock, agents, bound)
    most = 0
    for number in range(1, messages + 1):
        for one in fleet:
            one.put(row(number, size=size))
            most = max(most, dispatcher.memory.held_bytes)
    await clock.settle()
    assert sum(one.reads for one in fleet) <= agents, "those that wait for room do not keep reading"
    rounds = 0
    while any(one.running for one in fleet):
        for one in fleet:
            for done in one.running.values():
                if not done.done():
                    done.set_result(None)
        await clock.settle(4)
        most = max(most, dispatcher.memory.held_bytes)
        rounds += 1
    assert most <= bound + agents * size, "one message an agent may be held whatever the bound"
    assert all(one.started == list(range(1, messages + 1)) for one in fleet)
    assert dispatcher.memory.held_bytes == 0
    assert rounds < 20 * messages
    reads = sum(one.reads for one in fleet)
    assert reads <= agents * messages + 2 * agents, f"{reads} reads of the journal"


async def test_one_message_may_be_held_whatever_the_others_hold(clock: ManualClock) -> None:
    dispatcher, (modest, *greedy) = desks(clock, 6, 10 * KILO)
    for number in range(1, 30):
        for one in greedy:
            one.put(row(number, size=KILO))
    await clock.settle()
    assert dispatcher.memory.held_bytes == 10 * KILO
    modest.put(row(1, size=KILO))
    await clock.settle()
    assert list(modest.running) == [1], "the others' messages do not keep it from starting"
    modest.put(row(2, size=KILO))
    await clock.settle()
    modest.finish(1)
    await clock.settle()
    assert list(modest.running) == [2], "read from the journal though there is no room"
    for one in (modest, *greedy):
        await one.run_all()
    assert all(one.started == list(range(1, 30)) for one in greedy)
    for one in (modest, *greedy):
        await one.lanes.close()
    assert dispatcher.memory.held_bytes == 0


async def test_one_agent_cannot_take_all_the_room(clock: ManualClock) -> None:
    """R11: one is slow and has ten thousand large messages; the others' stay in memory all the same."""
    bound = 100_000 * KILO
    dispatcher, (slow, other) = desks(clock, 2, bound)
    for number in range(1, 1000):
        slow.put(row(number, size=200 * KILO))
    await clock.settle()
    assert bound / 5 < dispatcher.memory.held_bytes <= bound / 4
    for number in range(1, 100):
        other.put(row(number, size=200 * KILO))
    await clock.settle()
    await other.run_all()
    assert other.started == list(range(1, 100))
    assert other.reads == 0
    await slow.run_all()
    assert slow.started == list(range(1, 1000))


async def test_a_message_larger_than_the_bound_runs(clock: ManualClock) -> None:
    _, (one,) = desks(clock, 1, KILO)
    for number in range(1, 4):
        one.put(row(number, size=5 * KILO))
    await clock.settle()
    await one.run_all()
    assert one.started == [1, 2, 3]


async def test_room_that_lanes_leave_when_they_close_is_offered_to_those_who_wait(clock: ManualClock) -> None:
    dispatcher, (waiter, *holders) = desks(clock, 5, 10_000 * KILO, concurrency=4)
    for holder in holders:
        holder.lanes.hold()
        for number in range(1, 26):
            holder.put(row(number, size=100 * KILO))
    for number in range(1, 5):
        waiter.put(row(number, f"c{number}", size=200 * KILO))
    await clock.settle()
    assert list(waiter.running) == [1]
    for holder in holders:
        await holder.lanes.close()
    await clock.settle()
    assert sorted(waiter.running) == [1, 2, 3, 4]
    await waiter.lanes.close()
    assert dispatcher.memory.held_bytes == 0


async def test_lanes_that_close_while_they_read_give_their_room_back(clock: ManualClock) -> None:
    dispatcher, (reader, other) = desks(clock, 2, 10 * KILO)

    async def never() -> None:
        await asyncio.Event().wait()

    reader.at_read = never
    reader.lanes.restore()
    await clock.settle()
    await reader.lanes.close()
    assert dispatcher.memory.free_bytes == 10 * KILO
    await other.lanes.close()


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_drain_waits_for_what_runs_and_starts_nothing(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(1))
    desk.put(row(2))
    await clock.settle()
    draining = asyncio.create_task(desk.lanes.drain(60))
    await clock.settle()
    assert not draining.done()
    desk.finish(1)
    assert await draining
    assert desk.started == [1]


async def test_drain_says_when_time_was_not_enough(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(1))
    await clock.settle()
    assert not await desk.lanes.drain(0.01)


async def test_a_drain_does_not_wait_for_a_refill(desk: Desk, clock: ManualClock) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    desk.at_read = never
    desk.lanes.restore()
    await clock.settle()
    assert desk.reads == 1
    assert await desk.lanes.drain(0.01)


async def test_close_cancels_everything_and_restore_begins_anew(clock: ManualClock) -> None:
    dispatcher = Dispatcher(10)
    desk = Desk(dispatcher, clock, concurrency=2)
    desk.put(row(1, "retried"))
    desk.put(row(2, "running"))
    desk.put(row(3, "running"))
    await clock.settle()
    desk.finish(1, again_at=clock.now() + 5)
    await clock.settle()
    await desk.lanes.close()
    assert desk.cancelled == [2]
    assert (dispatcher.running, desk.lanes.running, desk.lanes.oldest_at) == (0, 0, None)
    await clock.advance(10)
    assert not desk.running, "a timer survived"
    desk.started.clear()
    desk.lanes.restore()
    desk.lanes.go()
    await clock.settle()
    await desk.run_all()
    assert sorted(desk.started) == [1, 2, 3]
    assert not desk.journal


async def test_a_message_that_was_just_started_is_released_when_the_lanes_close(clock: ManualClock) -> None:
    """A task cancelled before its first step would keep its place for ever, and its message its claim."""
    dispatcher = Dispatcher(10)
    desk = Desk(dispatcher, clock)
    desk.put(row(1))
    await desk.lanes.close()
    assert desk.cancelled == [1]
    assert (dispatcher.running, desk.lanes.running) == (0, 0)


async def test_close_leaves_no_refill_behind(clock: ManualClock) -> None:
    desk = Desk(Dispatcher(10), clock)
    for number in range(1, MEMORY_LIMIT + 10):
        desk.put(row(number))
    await clock.settle()
    await desk.lanes.close()
    await clock.settle()
    assert desk.reads == 0
    assert desk.lanes.oldest_at is None


async def test_a_work_that_raises_costs_neither_its_lane_nor_its_place(clock: ManualClock) -> None:
    dispatcher = Dispatcher(1)
    ran: list[int] = []

    async def work(message: JournaledMessage) -> float | None:
        ran.append(message.id)
        raise OSError("a defect")

    async def nothing(after_id: int, limit: int) -> list[JournaledMessage]:
        return []

    with structlog.testing.capture_logs() as log:
        lanes = Lanes(dispatcher, clock, concurrency=lambda: 1, work=work, refill=nothing)
        lanes.go()
        lanes.put(row(1))
        lanes.put(row(2))
        await clock.settle()
    assert ran == [1, 2]
    assert dispatcher.running == 0
    assert [entry["event"] for entry in log] == ["work_failed"] * 2
    await lanes.close()


# ── interleavings ────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 5, 20, 10**6]))
def test_in_any_interleaving_each_message_runs_once_in_its_lanes_order(
    seed: int, limit: int, concurrency: int, memory_bytes: int
) -> None:
    asyncio.run(_interleave(random.Random(seed), limit, concurrency, memory_bytes))


async def _interleave(chance: random.Random, limit: int, concurrency: int, memory_bytes: int) -> None:
    clock = ManualClock()
    dispatcher = Dispatcher(limit, memory_bytes=memory_bytes)
    desks = [Desk(dispatcher, clock, concurrency=concurrency) for _ in range(2)]
    lane_of: dict[tuple[int, int], str] = {}
    numbers = [0, 0]
    for _ in range(60):
        which = chance.randrange(2)
        desk = desks[which]
        match chance.randrange(6):
            case 0 | 1:
                numbers[which] += 1
                number, lane = numbers[which], f"c{chance.randrange(3)}"
                lane_of[which, number] = lane
                if desk.lanes.reserve(lane):
                    desk.journal[number] = row(number, lane)
                    desk.lanes.run_reserved(desk.journal[number])
                else:
                    desk.put(row(number, lane))
            case 2:
                lane = f"c{chance.randrange(3)}"
                if desk.lanes.reserve(lane):
                    desk.lanes.cancel_reserved(lane)
            case 3 if desk.running:
                number = chance.choice(list(desk.running))
                if not desk.running[number].done():
                    desk.finish(number, chance.choice([None, None, clock.now() + chance.random()]))
            case 4:
                (desk.lanes.hold if chance.random() < 0.3 else desk.lanes.go)()
            case _:
                await clock.advance(chance.random())
        assert dispatcher.running <= limit
        assert all(len(one.running) <= concurrency for one in desks)
        await clock.settle(chance.randrange(4))
    for desk in desks:
        desk.lanes.go()
    for _ in range(100):
        await clock.advance(1)
        for desk in desks:
            await desk.run_all()
    assert dispatcher.running == 0
    for which, desk in enumerate(desks):
        assert not desk.journal
        by_lane = defaultdict(list)
        for number in desk.started:
            by_lane[lane_of[which, number]].append(number)
        for order in by_lane.values():
            # A retried message appears again, but never after a later one of its lane.
            assert order == sorted(order)
        await desk.lanes.close()
    assert dispatcher.memory.free_bytes == memory_bytes
