"""What every message asks of the journal, by a callback: told once, after the commit, and what is refused at once."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.states import IllegalTransitionError, MessageState, ReplyState
from supervisor.store import Journal, Registry
from supervisor.store.committer import JournalLimits
from tests.support.journaling import AGENT, add, answer, inbound
from tests.support.stores import Opener, Store


class Told:
    """What callbacks were told, in order."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.errors: list[RegistryError] = []

    def __call__(self, result: Any, error: RegistryError | None) -> None:
        if error is None:
            self.results.append(result)
        else:
            assert result is None
            self.errors.append(error)


def add_then(journal: Journal, key: str, then: Told) -> None:
    journal.add_then(AGENT, inbound(), key=key, received_at=100.0, claim=True, then=then)


async def test_a_message_a_settling_a_reply_and_its_fate_are_told_as_they_are_returned(journal: Journal) -> None:
    told = Told()
    for _ in range(2):
        add_then(journal, "k", told)
    assert told.results == [], "not before the commit"
    await journal.flush()
    row, duplicate = told.results
    assert (row.state, duplicate) == (MessageState.RUNNING, None)
    told.results.clear()
    for _ in range(2):
        journal.settle_then(row, MessageState.DONE, replies=[answer()], then=told)
    journal.add_reply_then(AGENT, None, answer("unasked"), then=told)
    await journal.flush()
    [reply], lost, unasked = told.results
    assert (row.state, lost, reply.inbox_id, unasked.message.content) == (MessageState.DONE, None, row.id, "unasked")
    told.results.clear()
    for _ in range(2):
        journal.settle_reply_then(reply, ReplyState.ACKED, then=told)
    await journal.flush()
    assert told.results == [True, False]
    assert [one.message.content for one in await journal.unsent(AGENT)] == ["unasked"]
    assert told.errors == []


async def test_what_an_awaited_call_raises_at_once_one_by_a_callback_raises_too(opened: Opener, store: Store) -> None:
    journal, told = (await opened(limits=JournalLimits(waiting=1))).journal, Told()
    row = await add(journal, "before", claim=True)
    [reply] = await journal.settle(row, MessageState.DONE, replies=[answer()]) or []
    with pytest.raises(ValueError, match="does not settle a message"):
        journal.settle_then(row, MessageState.RUNNING, then=told)
    with pytest.raises(IllegalTransitionError):
        journal.settle_then(row, MessageState.DEAD, then=told)
    with pytest.raises(ValueError, match="does not settle a reply"):
        journal.settle_reply_then(reply, ReplyState.SENT, then=told)
    with store.stalled():
        add_then(journal, "held", told)
        with pytest.raises(RegistryError, match="journal is full"):
            add_then(journal, "one too many", told)
    await journal.flush()
    assert ([one.key for one in told.results], told.errors) == (["held"], [])


async def test_a_close_tells_those_who_wait_and_refuses_who_comes_later(registry: Registry, store: Store) -> None:
    journal, told = registry.journal, Told()
    with store.stalled():
        add_then(journal, "held", told)
        await registry.close(0.1)
    assert ["closed before this was written" in str(error) for error in told.errors] == [True]
    with pytest.raises(RegistryError, match="closed"):
        add_then(journal, "late", told)
    assert (len(told.errors), told.results) == (1, [])
