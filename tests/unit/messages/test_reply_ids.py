"""A second attempt makes the ids of the first; a replay makes others."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.messages.reply_ids import reply_id, with_reply_id
from supervisor.store import Journal
from tests.support.journaling import add, answer


async def test_ids_tell_messages_parts_and_replays_apart(journal: Journal) -> None:
    row, other = await add(journal, "m1"), await add(journal, "m2")
    replayed = replace(row, replay=1)
    ids = [reply_id(row, 0), reply_id(row, 1), reply_id(other, 0), reply_id(replayed, 0)]
    assert len(set(ids)) == 4
    assert reply_id(replace(row, attempts=5), 0) == ids[0]
    message = with_reply_id(answer("hi").message, row, 1)
    assert (message.id, message.content) == (ids[1], "hi")
