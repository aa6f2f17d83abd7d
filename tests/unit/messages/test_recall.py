"""What was said before: the journal first, then the platform, and a slow platform holds nobody up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from supervisor.core.records import JournaledMessage
from supervisor.messages.recall import PAUSE_SECONDS, Recall
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.messaging import HistoryServer, history_for, row_id


class Room:
    """A recall over a real journal and a platform's history over HTTP."""

    def __init__(self, recall: Recall, platform: HistoryServer, journal: Journal) -> None:
        self.recall = recall
        self.platform = platform
        self.journal = journal
        self.has_commands = True

    async def say(self, content: str, number: int, *, at: float) -> JournaledMessage:
        """A message that the platform has and the journal as well."""
        self.platform.add(content, at=at, number=number)
        return await add(self.journal, row_id(number), content=content, at=at, claim=True)

    async def last(self, limit: int = 20) -> list[str]:
        return [item.content for item in await self.recall.last("c1", limit)]


@pytest.fixture
async def room(scope: Scope, journal: Journal) -> AsyncIterator[Room]:
    async with history_for(scope) as (history, platform):
        made = Room(Recall(history, lambda: made.has_commands), platform, journal)
        yield made


async def test_what_the_journal_has_is_not_asked_for(room: Room) -> None:
    for number in range(1, 4):
        await room.say(str(number), number, at=1000.0 + number)
    assert await room.last(2) == ["2", "3"]
    assert room.platform.asked == 0


async def test_what_was_said_before_comes_from_the_platform(room: Room) -> None:
    room.platform.add("before", at=900.0, number=1)
    room.platform.add("the answer", at=901.0, number=2, by=AGENT)
    room.platform.add("hmm", at=902.0, number=3, by=AGENT, type="thinking")
    row = await room.say("now", 4, at=1000.0)
    await settle(room.journal, row, answer("yes"))
    items = await room.recall.last("c1", 20)
    assert [(item.role, item.content) for item in items] == [
        ("user", "before"),
        ("assistant", "the answer"),
        ("user", "now"),
        ("assistant", "yes"),
    ]
    assert [item.at for item in items[:2]] == [900.0, 901.0]
    assert await room.last(3) == ["the answer", "now", "yes"]


async def test_where_the_platform_has_nothing_older_it_is_not_asked_again(room: Room) -> None:
    await room.say("now", 1, at=1000.0)
    assert await room.last() == ["now"]
    asked = room.platform.asked
    assert await room.last() == ["now"]
    assert room.platform.asked == asked


async def test_rows_are_told_apart_by_their_times_where_the_journal_has_none_of_them(room: Room) -> None:
    room.platform.add("before", at=900.0)
    room.platform.add("later", at=1100.0)
    await add(room.journal, "nameless", content="now", at=1000.0)
    assert await room.last() == ["before", "now"]


async def test_commands_and_their_answers_are_left_out(room: Room) -> None:
    room.platform.add("hi", at=900.0, number=1)
    room.platform.add("/status", at=901.0, number=2)
    room.platform.add("all is well", at=902.0, number=3, by=AGENT, type="system")
    await room.say("now", 4, at=1000.0)
    assert await room.last() == ["hi", "now"]
    room.has_commands = False
    assert await room.last() == ["hi", "/status", "all is well", "now"]


async def test_a_platform_in_trouble_is_left_alone_for_a_while(room: Room, clock: ManualClock) -> None:
    room.platform.add("before", at=900.0, number=1)
    await room.say("now", 2, at=1000.0)
    room.platform.failures = [500]
    assert await room.last() == ["now"]
    asked = room.platform.asked
    assert await room.last() == ["now"]
    assert room.platform.asked == asked
    await clock.advance(PAUSE_SECONDS)
    assert await room.last() == ["before", "now"]


async def test_a_slow_platform_is_given_up_in_time(scope: Scope, journal: Journal) -> None:
    await add(journal, row_id(2), content="now", at=1000.0)
    async with history_for(scope) as (history, platform):
        platform.add("before", at=900.0, number=1)
        platform.slow = True
        recall = Recall(history, lambda: True, ask_seconds=0.05)
        assert [item.content for item in await recall.last("c1", 5)] == ["now"]
