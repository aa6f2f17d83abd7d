"""A message that is given up: one dead letter, and one word to a person who said it."""

from __future__ import annotations

from typing import Any

from supervisor.core.states import MessageState
from supervisor.messages.burial import bury
from supervisor.messages.notices import APOLOGY
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.journaling import add, answer
from tests.support.messaging import works
from tests.support.observing import captured_logs, named


async def nothing(message: Any, ctx: Any) -> None:
    return None


async def test_the_person_is_told_once_after_what_was_said_before(scope: Scope, journal: Journal) -> None:
    row = await add(journal, "m1", claim=True)
    await journal.add_reply(row.agent_id, row.id, answer("so far"))
    async with works(scope, nothing) as made:
        with captured_logs() as lines:
            await bury(scope, made.outbox, row, "Traceback …\nValueError: no", told={"exception": "all of it"})
        kept = await made.row(row.id)
        assert (kept.state, kept.error) == (MessageState.DEAD, "Traceback …\nValueError: no")
        assert await made.said(row.id) == ["so far", APOLOGY]
        assert made.outbox.waiting == 1
        [line] = named(lines, "dead_letter")
        assert (line["reason"], line["exception"]) == ("ValueError: no", "all of it")


async def test_parts_that_are_on_their_way_keep_their_numbers(scope: Scope, journal: Journal) -> None:
    row = await add(journal, "m1", claim=True)
    async with works(scope, nothing) as made:
        await bury(scope, made.outbox, row, "no", apology="Sorry.", next_part=3)
        [reply] = await journal.replies(row.id)
        assert (reply.part, reply.message.content) == (3, "Sorry.")
