"""What is heard before an agent is this process's own is kept in its order, and taken in behind what its owner left."""

from __future__ import annotations

from typing import Any, cast

import pytest

from supervisor.core.errors import RegistryError
from supervisor.messages.scope import Scope
from supervisor.messages.standby import KEPT, Standby
from supervisor.platform.connection import Connection
from supervisor.store import Journal
from tests.support.journaling import AGENT, add

SOURCE = cast("Connection", object())


class Taking:
    """What is done at a take-over, in its order."""

    def __init__(self, scope: Scope) -> None:
        self.done: list[Any] = []
        self.error: RegistryError | None = None
        self.standby = Standby(
            scope,
            self.restore,
            self.go_on,
            lambda _source, event, payload: self.done.append((event, payload)),
            lambda: ["user"],
        )
        self.standby.begin()

    async def restore(self) -> None:
        if self.error is not None:
            raise self.error
        # What comes in this moment belongs to what was heard.
        self.standby.keep(SOURCE, "presence:update", "meanwhile")
        self.done.append("restored")

    def go_on(self, connection: Connection, *, missed: bool) -> None:
        self.done.append(("goes on", missed))

    def hear(self, *payloads: object) -> None:
        for payload in payloads:
            self.standby.keep(SOURCE, "message:new", payload)


@pytest.fixture
def taking(scope: Scope) -> Taking:
    return Taking(scope)


def said(content: str) -> dict[str, str]:
    """A message without an id."""
    return {"conversationId": "c1", "role": "user", "content": content}


async def test_what_was_heard_comes_behind_what_was_left_in_its_order(taking: Taking) -> None:
    taking.hear(0, 1, 2)
    await taking.standby.take_over(SOURCE, missed=False)
    heard = [*(("message:new", one) for one in range(3)), ("presence:update", "meanwhile")]
    assert taking.done == ["restored", ("goes on", False), *heard]
    assert not taking.standby.waits


async def test_more_than_is_kept_is_looked_for(taking: Taking) -> None:
    taking.hear(*range(KEPT + 5))
    await taking.standby.take_over(SOURCE, missed=False)
    assert taking.done[1] == ("goes on", True)
    assert taking.done[-2:] == [("message:new", KEPT + 4), ("presence:update", "meanwhile")]
    assert len(taking.done) == KEPT + 2


async def test_without_a_connection_what_was_heard_waits_until_what_was_missed_holds_it_back(
    taking: Taking, journal: Journal
) -> None:
    named = {**said("the owner died, then the connection"), "_id": "k1"}
    taking.hear(1, named, said("the history has its name"))
    await taking.standby.take_over(None, missed=True)
    assert taking.done == ["restored"]
    assert not taking.standby.waits
    taking.standby.bring()
    taking.standby.bring()
    assert taking.done == ["restored", ("message:new", named)]
    await taking.standby.close()
    assert not await journal.unsettled(AGENT)


async def test_what_was_heard_is_written_where_no_connection_comes_any_more(taking: Taking, journal: Journal) -> None:
    taking.hear({**said("the owner died, then the connection"), "_id": "k1"})
    await taking.standby.take_over(None, missed=True)
    await taking.standby.close()
    assert [row.key for row in await journal.unsettled(AGENT)] == ["k1"]
    taking.standby.bring()
    assert taking.done == ["restored"]


async def test_a_journal_that_cannot_be_read_loses_nothing_of_it(taking: Taking) -> None:
    taking.hear(1)
    taking.error = RegistryError("away")
    with pytest.raises(RegistryError):
        await taking.standby.take_over(SOURCE, missed=False)
    assert taking.standby.waits
    assert ("message:new", 1) not in taking.done
    taking.error = None
    await taking.standby.take_over(SOURCE, missed=False)
    assert ("message:new", 1) in taking.done


async def test_what_both_heard_without_an_id_counts_once(taking: Taking, journal: Journal) -> None:
    await add(journal, "k1", agent=AGENT, content="before")
    await taking.standby.joined()
    taking.hear(*map(said, ("before", "again", "again", "mine")))
    # By the owner, which hears what is heard here.
    await add(journal, "k2", agent=AGENT, content="again")
    await taking.standby.take_over(SOURCE, missed=False)
    heard = [payload["content"] for event, payload in taking.done[2:] if event == "message:new"]
    assert heard == ["before", "again", "mine"], "once for the one that the owner has written since, no more"


async def test_what_was_heard_for_another_process_to_the_end_is_written_for_whoever_has_the_agent(
    taking: Taking, journal: Journal
) -> None:
    await add(journal, "k1", agent=AGENT)
    taking.standby.keep(SOURCE, "presence:update", {"status": "online"})
    echo = {**said("an answer"), "role": "assistant", "_id": "k3"}
    taking.hear({**said("known"), "_id": "k1"}, {**said("news"), "_id": "k2"}, echo, said("it has no name"))
    await taking.standby.close()
    assert [row.key for row in await journal.unsettled(AGENT)] == ["k1", "k2"]
    assert taking.standby.waits, "it is another process's still"
    await taking.standby.take_over(SOURCE, missed=True)
    assert taking.done == ["restored", ("goes on", True), ("presence:update", "meanwhile")]


async def test_a_late_stop_ends_no_newer_answer(taking: Taking) -> None:
    stop = {"type": "stop", "conversationId": "c1"}
    taking.standby.keep(SOURCE, "agent:command", stop)
    taking.hear({**said("after it"), "_id": "k1"})
    taking.standby.keep(SOURCE, "agent:command", {**stop, "conversationId": "c2"})
    await taking.standby.take_over(SOURCE, missed=False)
    assert [payload["conversationId"] for event, payload in taking.done[2:] if event == "agent:command"] == ["c2"]
