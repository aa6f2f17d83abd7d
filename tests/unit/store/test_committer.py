"""How the journal commits: what it takes together, what it does when the database refuses, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.core.tasks import TaskSet, awaited
from supervisor.store.committer import SLOW_SECONDS, GroupCommitter, JournalLimits
from supervisor.store.dialect.face import Done, Outcome, StorageError
from supervisor.store.dialect.operations import AddMessage, Operation, RecordSleep
from supervisor.store.hooks import JournalHooks
from tests.support.journaling import AGENT, inbound
from tests.support.virtual import VirtualClock, VirtualLoop, run


class Disk:
    """Commits batches, and goes wrong when a test says so.

    Attributes:
        batches: how many operations each commit had, those that failed too.
        refuses: raised by the next commits, in turn.
        answers: set once they may end; None: at once.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.refuses: list[Exception] = []
        self.outcomes: dict[int, Outcome] = {}
        self.answers: asyncio.Event | None = None
        self.number = 0
        self.tasks = TaskSet()

    def begin_commit(self, operations: Sequence[Operation], done: Done) -> None:
        self.batches.append(len(operations))
        self.tasks.spawn(self._commit(operations, done), "disk")

    async def _commit(self, operations: Sequence[Operation], done: Done) -> None:
        if self.answers is not None:
            await self.answers.wait()
        if self.refuses:
            done(None, self.refuses.pop(0))
            return
        won: list[Outcome] = []
        for operation in operations:
            self.number += 1
            if isinstance(operation, AddMessage):
                operation.number = self.number
            won.append(self.outcomes.get(self.number, True))
        done(won, None)


class Asked(NamedTuple):
    """A message that is to be committed, and what its caller hears of it."""

    row: JournaledMessage
    future: asyncio.Future[Any]


class Desk:
    """A committer in virtual time, over such a disk."""

    def __init__(self, loop: VirtualLoop, clock: VirtualClock | None = None, /, **limits: int) -> None:
        self.loop, self.disk, self.hooks = loop, Disk(), JournalHooks()
        self.errors: list[str] = []
        self.commits: list[int] = []
        self.hooks.on_error = self.errors.append
        self.hooks.on_commit = lambda _seconds, operations: self.commits.append(operations)
        given = JournalLimits(**limits)
        self.committer = GroupCommitter(self.disk.begin_commit, clock or VirtualClock(loop), self.hooks, given)

    def add(self, size: int = 10) -> Asked:
        row = JournaledMessage(0, AGENT, "k", inbound(), MessageState.AVAILABLE, 0, received_at=1.0)
        future, then = awaited()
        self.committer.submit(AddMessage(row=row, body=b"x" * size, then=then))
        return Asked(row, future)


def test_what_waits_meanwhile_is_committed_together_and_each_caller_is_told() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        first = desk.add()
        await loop.turns(1)
        rest = [desk.add() for _ in range(5)]
        assert (desk.committer.waiting, desk.committer.waiting_bytes) == (6, 60)
        await loop.complete(desk.committer.flush())
        assert desk.disk.batches == [1, 6], "five at once, with the barrier"
        assert [one.future.result().id for one in (first, *rest)] == [1, 2, 3, 4, 5, 6]
        assert (desk.committer.waiting, desk.committer.waiting_bytes) == (0, 0)
        await loop.complete(desk.committer.close(1))

    run(main)


@pytest.mark.parametrize(("limits", "batches"), [({"batch": 2}, [2, 2, 1]), ({"batch_bytes": 25}, [2, 2, 1])])
def test_a_batch_is_bounded_in_number_and_in_bytes(limits: dict[str, int], batches: list[int]) -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop, **limits)
        operations = [desk.add() for _ in range(5)]
        await loop.settle()
        assert desk.disk.batches == batches
        assert all(one.future.done() for one in operations)
        desk.add(1_000)
        await loop.settle()
        assert desk.disk.batches[-1] == 1, "one goes, however large it is"
        await loop.complete(desk.committer.close(1))

    run(main)


def test_a_disk_that_does_not_answer_is_told_while_it_does_not() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        desk.disk.answers = asyncio.Event()
        waiting = desk.add()
        await loop.advance(SLOW_SECONDS)
        assert desk.committer.problem is None
        await loop.advance(1)
        assert "the disk does not answer" in (desk.committer.problem or "")
        desk.disk.answers.set()
        await loop.settle()
        assert desk.committer.problem is None
        assert waiting.future.result().id == 1
        await loop.complete(desk.committer.close(1))

    run(main)


def test_a_disk_that_is_full_keeps_all_and_is_told_until_it_takes_them() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop, waiting=3)
        desk.disk.refuses = [StorageError("full")] * 3
        operation = desk.add()
        await loop.settle()
        assert (desk.committer.problem, operation.future.done()) == ("full", False)
        desk.add()
        assert (desk.committer.waiting, desk.committer.full) == (2, False)
        desk.add()
        assert (desk.committer.waiting, desk.committer.full) == (3, True)
        # 0.05 and 0.1 and 0.2 seconds between the attempts.
        await loop.advance(0.34)
        assert not operation.future.done()
        await loop.advance(0.02)
        assert operation.future.result().id == 1
        assert (desk.committer.problem, desk.committer.full) == (None, False)
        assert (desk.errors, desk.commits) == (["full"] * 3, [1, 2])
        await loop.complete(desk.committer.close(1))

    run(main)


def test_what_the_database_refuses_fails_alone() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        desk.disk.outcomes = {2: RegistryError("not this one"), 3: False}
        well, refused, lost = desk.add(), desk.add(), desk.add()
        await loop.settle()
        assert well.future.result().id == 1
        with pytest.raises(RegistryError, match="not this one"):
            refused.future.result()
        assert lost.future.result() is None
        assert (desk.errors, desk.committer.problem) == (["not this one"], None)
        await loop.complete(desk.committer.close(1))

    run(main)


def test_an_error_of_any_other_kind_fails_the_batch_and_not_the_writer() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        desk.disk.refuses = [ZeroDivisionError("odd")]
        failed = desk.add()
        await loop.settle()
        with pytest.raises(RegistryError, match="The registry failed: ZeroDivisionError: odd"):
            failed.future.result()
        after = desk.add()
        await loop.settle()
        assert after.future.result() is not None
        await loop.complete(desk.committer.close(1))

    run(main)


def test_a_caller_that_has_gone_keeps_nobody_from_being_told() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        gone, stays = desk.add(), desk.add()
        gone.future.cancel()
        await loop.settle()
        assert gone.row.id == 1, "others may hold its record"
        assert stays.future.result().id == 2
        await loop.complete(desk.committer.close(1))

    run(main)


def test_what_is_asked_for_at_each_batch_goes_with_it() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        row = JournaledMessage(0, AGENT, "k", inbound(), MessageState.AVAILABLE, 0, received_at=1.0)
        desk.committer.on_batch = lambda: AddMessage(row=row, body=b"")
        desk.add()
        await loop.settle()
        assert desk.disk.batches == [2]
        await loop.complete(desk.committer.close(1))

    run(main)


def test_a_close_commits_what_it_can_in_its_time_and_fails_the_rest() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        await loop.complete(desk.committer.close(1))
        with pytest.raises(RegistryError, match="closed"):
            desk.add()
        slow = Desk(loop)
        slow.disk.refuses = [StorageError("locked")] * 1_000
        in_hand, waits = slow.add(), None
        await loop.settle()
        waits = slow.add()
        began = loop.time()
        await loop.complete(slow.committer.close(3))
        assert loop.time() - began == pytest.approx(3)
        for operation in (in_hand, waits):
            with pytest.raises(RegistryError, match="closed before this was written: locked"):
                operation.future.result()
        await loop.complete(slow.committer.close(3))

    run(main)


def test_a_defect_in_what_is_told_of_a_commit_costs_a_batch_and_not_the_writer() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)

        def defect(*_: object) -> None:
            raise ZeroDivisionError("ours")

        desk.committer.on_batch = defect
        lost = desk.add()
        await loop.settle()
        assert isinstance(lost.future.exception(), RegistryError)
        assert "ZeroDivisionError: ours" in str(lost.future.exception())
        desk.committer.on_batch = lambda: None
        desk.hooks.on_commit = defect
        committed = desk.add()
        await loop.settle()
        assert committed.future.result() is not None
        desk.hooks.on_commit = lambda *_: None
        after = desk.add()
        await loop.settle()
        assert after.future.result() is not None
        assert (desk.committer.waiting, desk.committer.waiting_bytes) == (0, 0)
        assert ["ZeroDivisionError: ours" in one["message"] for one in loop.complaints] == [True]
        await desk.committer.close(1)

    run(main)


def test_a_callback_that_raises_is_told_of_and_keeps_nobody_from_being_told() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)

        def defect(result: object, error: object) -> None:
            told.append((result, error))
            raise SystemExit(3)

        told: list[object] = []
        desk.committer.submit(RecordSleep(agent_id=AGENT, sleep=None, then=defect))
        beside = desk.add()
        await loop.settle()
        assert told == [(None, None)]
        assert beside.future.result() is beside.row
        assert ["SystemExit: 3" in one["message"] for one in loop.complaints] == [True]
        await loop.complete(desk.committer.close(1))

    run(main)


def test_a_hook_that_raises_ends_no_attempts_and_keeps_nobody_from_being_told() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)

        def defect(_: str) -> None:
            raise ZeroDivisionError("ours")

        desk.hooks.on_error = defect
        desk.disk.refuses = [StorageError("full")]
        desk.disk.outcomes = {1: RegistryError("not this one")}
        refused, beside = desk.add(), desk.add()
        await loop.advance(1)
        with pytest.raises(RegistryError, match="not this one"):
            refused.future.result()
        assert beside.future.result() is beside.row
        assert len(loop.complaints) == 2
        await loop.complete(desk.committer.close(1))

    run(main)


def test_what_a_callback_asks_for_goes_into_the_next_batch_together() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        asked: list[Asked] = []
        for _ in range(2):
            desk.committer.submit(RecordSleep(agent_id=AGENT, sleep=None, then=lambda *_: asked.append(desk.add())))
        await loop.settle()
        assert desk.disk.batches == [2, 2]
        assert all(one.future.done() for one in asked)
        await loop.complete(desk.committer.close(1))

    run(main)


def test_many_callers_are_told_in_slices_and_others_have_their_turn_in_between() -> None:
    class Busy(VirtualClock):
        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            return super().monotonic() + self.looks / 1000

    async def main(loop: VirtualLoop) -> None:
        desk, told, turns = Desk(loop, Busy(loop)), list[int](), list[int]()

        def other() -> None:
            turns.append(len(told))
            if len(told) < 50:
                loop.call_soon(other)

        for number in range(50):
            then = partial(lambda number, *_: told.append(number), number)
            desk.committer.submit(RecordSleep(agent_id=AGENT, sleep=None, then=then))
        while not told:
            await loop.turns(1)
        other()
        waits = desk.add()
        await loop.settle()
        assert told == list(range(50)), "each once, in their order"
        assert len(set(turns)) > 3
        assert desk.disk.batches == [50, 1], "the next batch waits until all are told"
        assert waits.future.done()
        await loop.complete(desk.committer.close(1))

    run(main)


def test_a_transaction_that_ends_after_the_close_tells_nobody_twice() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        desk.disk.answers = asyncio.Event()
        late, told = desk.add(), []
        desk.committer.submit(RecordSleep(agent_id=AGENT, sleep=None, then=lambda *outcome: told.append(outcome)))
        await loop.complete(desk.committer.close(2))
        assert "closed before this was written: no time was left" in str(late.future.exception())
        desk.disk.answers.set()
        await loop.settle()
        assert len(told) == 1
        assert (desk.committer.waiting, desk.commits) == (0, [])

    run(main)
