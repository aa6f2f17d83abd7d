"""Whatever is asked of a message, in whatever order, its state follows the table, in memory and on disk."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.core.records import CRASHED, JournaledMessage, NewReply
from supervisor.core.states import FINAL_MESSAGE_STATES, MESSAGE_TRANSITIONS, IllegalTransitionError, MessageState
from supervisor.protocol import InboundMessage, OutboundMessage
from tests.support.stores import make_store, open_on

T = TypeVar("T")

ROWS = st.integers(0, 9)
FINAL = st.sampled_from(sorted(FINAL_MESSAGE_STATES))


def reply(part: int) -> NewReply:
    return NewReply(part, OutboundMessage(role="assistant", content="x", conversation_id="c"))


class MessageLife(RuleBasedStateMachine):
    """Rows as their owner holds them, copies that went stale, and a model of what is on disk."""

    kind = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.rows: list[JournaledMessage] = []
        self.stale: list[JournaledMessage] = []
        self.replies = 0

    @initialize()
    def open(self) -> None:
        self.undo = ExitStack()
        self.store = self.undo.enter_context(make_store(self.kind, Path(self.folder.name)))
        self.reopen()

    def reopen(self) -> None:
        self.registry = self.runner.run(open_on(self.store))
        self.journal = self.registry.journal

    def teardown(self) -> None:
        self.runner.run(self.registry.close())
        self.undo.close()
        self.runner.close()
        self.folder.cleanup()

    def pick(self, number: int) -> JournaledMessage:
        return self.rows[number % len(self.rows)]

    def attempt(self, row: JournaledMessage, target: MessageState, action: Any, expected: Any) -> bool:
        """Do something to a row that its owner holds; whether the table allows it."""
        before = copy(row)
        legal = target in MESSAGE_TRANSITIONS[row.state]
        try:
            outcome = self.runner.run(action)
        except IllegalTransitionError:
            assert not legal
            assert row == before
            return False
        assert legal
        assert outcome == expected or expected is None
        assert row.state is target
        self.stale.append(before)
        return True

    @rule(claim=st.booleans(), known=st.booleans(), number=ROWS)
    def add(self, claim: bool, known: bool, number: int) -> None:
        key = self.pick(number).key if known and self.rows else f"k{len(self.rows)}"
        message = InboundMessage(conversation_id="c", role="user", content="x")
        row = self.runner.run(self.journal.add("a", message, key=key, received_at=1.0, claim=claim))
        if known and self.rows:
            assert row is None
        else:
            assert row is not None
            self.rows.append(row)

    @precondition(lambda self: self.rows)
    @rule(number=ROWS)
    def claim(self, number: int) -> None:
        row = self.pick(number)
        attempts = row.attempts
        if self.attempt(row, MessageState.RUNNING, self.journal.claim(row), True):
            assert row.attempts == attempts + 1

    @precondition(lambda self: self.rows)
    @rule(number=ROWS)
    def release(self, number: int) -> None:
        row = self.pick(number)
        attempts = row.attempts
        if row.state is MessageState.DEAD:
            return
        if self.attempt(row, MessageState.AVAILABLE, self.journal.release(row), True):
            assert row.attempts == attempts - 1

    @precondition(lambda self: self.rows)
    @rule(number=ROWS)
    def retry(self, number: int) -> None:
        row = self.pick(number)
        self.attempt(row, MessageState.RETRYABLE, self.journal.retry(row, "x", 5.0), True)

    @precondition(lambda self: self.rows)
    @rule(number=ROWS)
    def replay(self, number: int) -> None:
        row = self.pick(number)
        if row.state is MessageState.DEAD:
            assert self.attempt(row, MessageState.AVAILABLE, self.journal.dead_letters.replay(row), True)

    @precondition(lambda self: self.rows)
    @rule(number=ROWS, state=FINAL, parts=st.integers(0, 2))
    def settle(self, number: int, state: MessageState, parts: int) -> None:
        row = self.pick(number)
        replies = [reply(part) for part in range(parts)]
        if self.attempt(row, state, self.journal.settle(row, state, replies=replies), None):
            self.replies += parts

    @precondition(lambda self: self.stale)
    @rule(number=ROWS, state=FINAL, what=st.sampled_from(["claim", "settle", "retry"]))
    def use_a_stale_copy(self, number: int, state: MessageState, what: str) -> None:
        row = copy(self.stale[number % len(self.stale)])
        before = copy(row)
        actions: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "claim": lambda: self.journal.claim(row),
            "retry": lambda: self.journal.retry(row, "late", 0.0),
            "settle": lambda: self.journal.settle(row, state, replies=[reply(0)]),
        }
        current = self.runner.run(self.journal.load(row.id))
        assert current is not None
        if (current.state, current.attempts, current.replay) == (row.state, row.attempts, row.replay):
            return
        with contextlib.suppress(IllegalTransitionError):
            assert self.runner.run(actions[what]()) in (False, None)
        assert row == before

    @rule(number=ROWS, state=FINAL)
    @precondition(lambda self: self.rows)
    def many_at_once(self, number: int, state: MessageState) -> None:
        row = self.pick(number)
        if state not in MESSAGE_TRANSITIONS[row.state]:
            return
        twins = [row, copy(row), copy(row)]

        async def race() -> list[Any]:
            return await asyncio.gather(*[self.journal.settle(twin, state, replies=[reply(0)]) for twin in twins])

        outcomes = self.runner.run(race())
        assert [outcome is None for outcome in outcomes] == [False, True, True]
        self.replies += 1

    @rule()
    def crash_and_rescue(self) -> None:
        self.runner.run(self.registry.close())
        self.reopen()
        running = [row for row in self.rows if row.state is MessageState.RUNNING]
        assert self.runner.run(self.journal.maintenance.rescue()) == len(running)
        for row in running:
            row.state, row.error = MessageState.AVAILABLE, CRASHED

    @invariant()
    def disk_and_memory_agree(self) -> None:
        if not hasattr(self, "registry"):
            return
        on_disk = self.runner.run(self.journal.messages(limit=1000))
        assert on_disk[::-1] == self.rows
        assert len(self.runner.run(self.journal.unsent("a"))) == self.replies


class OnSqlite(MessageLife):
    kind = "sqlite"


class InMemory(MessageLife):
    kind = "memory"


SETTINGS = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class OnPostgres(MessageLife):
    kind = "postgres"


TestOnSqlite = OnSqlite.TestCase
TestOnSqlite.settings = SETTINGS
TestOnPostgres = OnPostgres.TestCase
TestOnPostgres.settings = settings(SETTINGS, max_examples=5)
TestInMemory = InMemory.TestCase
TestInMemory.settings = SETTINGS
