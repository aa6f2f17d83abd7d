"""What a handler has in its hands: shown with where it stands, and stopped on request."""

from __future__ import annotations

import asyncio

from supervisor.messages.under_way import AllUnderWay
from supervisor.store import Journal
from tests.support.journaling import add


async def test_those_under_way_are_shown_the_oldest_first_and_gone_at_their_end(journal: Journal) -> None:
    all_of_them = AllUnderWay()
    second = all_of_them.begin(await add(journal, "m2", conversation="c2"), 20.0)
    first = all_of_them.begin(await add(journal, "m1", conversation="c1"), 10.0)
    assert [one.conversation_id for one in all_of_them.shown()] == ["c1", "c2"]
    all_of_them.end(first, stopped=False)
    all_of_them.end(second, stopped=False)
    assert all_of_them.shown() == ()
    assert all_of_them.of("c1") is None


async def test_one_that_is_left_behind_is_shown_beside_the_next_of_its_conversation(journal: Journal) -> None:
    all_of_them = AllUnderWay()
    hangs = all_of_them.begin(await add(journal, "m1"), 10.0)
    all_of_them.leave_behind(hangs)
    all_of_them.end(hangs, stopped=True)
    following = all_of_them.begin(await add(journal, "m2"), 20.0)
    assert [one.left_behind for one in all_of_them.shown()] == [True, False]
    assert all_of_them.of("c1") is following
    assert all_of_them.left_behind == 1
    all_of_them.returned(hangs)
    assert [one.left_behind for one in all_of_them.shown()] == [False]


async def test_a_stop_waits_until_it_is_known_what_came_of_it(journal: Journal) -> None:
    all_of_them = AllUnderWay()
    one = all_of_them.begin(await add(journal, "m1"), 10.0)
    wishes = [asyncio.create_task(one.stop(reason)) for reason in ("first", "second")]
    await asyncio.sleep(0)
    assert one.asked == "first"
    wishes[0].cancel()
    await asyncio.sleep(0)
    all_of_them.end(one, stopped=True)
    assert await wishes[1], "whoever gives up does not cancel it for the others"
