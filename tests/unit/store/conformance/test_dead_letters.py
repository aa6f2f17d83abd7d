"""Dead letters, and replies that did not arrive: found, replayed once, discarded once."""

from __future__ import annotations

import pytest

from supervisor.core.states import IllegalTransitionError, MessageState, ReplyState
from supervisor.store import Journal
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.stores import Opener


async def test_a_dead_letter_is_replayed_with_all_its_attempts(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    with pytest.raises(ValueError, match="only a dead letter"):
        await journal.dead_letters.replay(row)
    assert await journal.settle(row, MessageState.DEAD, error="boom", replies=[answer("sorry")]) is not None
    stale = await journal.load(row.id)
    assert stale is not None
    with pytest.raises(ValueError, match=r"replay\(\)"):
        await journal.release(row)
    assert await journal.dead_letters.replay(row)
    assert (row.state, row.attempts, row.replay, row.error) == (MessageState.AVAILABLE, 0, 1, "boom")
    assert await journal.load(row.id) == row
    assert not await journal.dead_letters.replay(stale)
    assert stale.replay == 0
    assert await journal.claim(row)
    assert await journal.settle(row, MessageState.DEAD) == []
    assert await journal.settle(row, MessageState.CANCELLED) == []


async def test_a_dead_letter_is_discarded_once(journal: Journal, opened: Opener) -> None:
    row = await add(journal, "k1", claim=True)
    with pytest.raises(ValueError, match="only a dead letter"):
        await journal.dead_letters.discard(row)
    await journal.settle(row, MessageState.DEAD, error="boom")
    first_settled_at = row.settled_at
    stale, twin = await journal.load(row.id), await journal.load(row.id)
    assert stale is not None
    assert twin is not None
    # Somebody else replays it, and it dies again.
    other = await opened()
    assert await other.journal.dead_letters.replay(twin)
    assert not await journal.dead_letters.discard(row)
    assert (row.state, row.settled_at) == (MessageState.DEAD, first_settled_at)
    assert await other.journal.claim(twin)
    await other.journal.settle(twin, MessageState.DEAD)
    assert not await journal.dead_letters.discard(stale), "it was replayed meanwhile: not the letter that was looked at"
    assert await journal.dead_letters.discard(twin)
    assert (twin.state, twin.error) == (MessageState.CANCELLED, None)
    assert twin.settled_at is not None
    assert await journal.load(twin.id) == twin
    with pytest.raises(IllegalTransitionError):
        await journal.dead_letters.discard(twin)


async def test_when_a_message_was_settled_is_known_until_it_is_replayed(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    times = [row.settled_at]
    await journal.settle(row, MessageState.DEAD)
    times.append(row.settled_at)
    assert await journal.load(row.id) == row
    assert await journal.dead_letters.replay(row)
    times.append(row.settled_at)
    assert await journal.load(row.id) == row
    assert [at is None for at in times] == [True, False, True]


async def test_a_dead_reply_is_replayed_once_and_told_from_the_others_until_it_is_moved(
    journal: Journal, opened: Opener
) -> None:
    other = await opened()
    row = await add(journal, "k1", claim=True)
    settled = await journal.settle(row, MessageState.DONE, replies=[answer(part=part) for part in range(3)])
    assert settled is not None
    first, second, acked = settled
    await journal.defer_reply(first, "busy", 5e9)
    for reply, fate in ((first, ReplyState.DEAD), (second, ReplyState.DEAD), (acked, ReplyState.ACKED)):
        await journal.settle_reply(reply, fate, "refused")
    with pytest.raises(ValueError, match="through replay_replies"):
        await journal.defer_reply(first, "x", 0.0)
    with pytest.raises(IllegalTransitionError):
        await journal.dead_letters.replay_replies([first, acked])
    assert await journal.unsent(AGENT) == []
    stale = await other.journal.dead_replies([row.id])
    assert stale == [first, second]
    assert await journal.dead_letters.replay_replies([second, first]) == [True, True]
    assert (first.state, first.attempts, first.not_before, first.error) == (ReplyState.PENDING, 0, 0.0, "refused")
    assert await other.journal.dead_letters.replay_replies(stale) == [False, False]
    assert await other.journal.replayed_replies() == await journal.unsent(AGENT) == [first, second]
    on_its_way = await journal.add_reply(AGENT, None, answer())
    await journal.mark_sent(on_its_way)
    with pytest.raises(ValueError, match="only a dead reply"):
        await journal.dead_letters.replay_replies([on_its_way])
    await journal.defer_reply(first, "busy", 0.0)
    assert await journal.replayed_replies() == [second]
    await journal.settle_reply(second, ReplyState.ACKED)
    assert await journal.replayed_replies() == []


async def test_dead_replies_are_dead_letters_until_their_message_is_replayed_or_put_away(journal: Journal) -> None:
    rows = {}
    for key in ("done", "discarded", "replayed", "acked"):
        rows[key] = row = await add(journal, key, claim=True)
        state = MessageState.DONE if key in {"done", "acked"} else MessageState.DEAD
        settled = await journal.settle(row, state, replies=[answer("whole"), answer("second", 1)])
        assert settled is not None
        for reply in settled:
            await journal.settle_reply(reply, ReplyState.ACKED if key == "acked" else ReplyState.DEAD, "why")
    await journal.dead_letters.discard(rows["discarded"])
    assert await journal.messages(dead_letters=True) == [rows["replayed"], rows["done"]]
    assert await journal.messages(dead_letters=True, agent_id=AGENT, conversation_id="c1", limit=1) == [
        rows["replayed"]
    ]
    assert await journal.messages(dead_letters=True, agent_id="another") == []
    await journal.dead_letters.replay(rows["replayed"])
    await journal.claim(rows["replayed"])
    await settle(journal, rows["replayed"], answer("the answer of the replay"))
    # Only what was never said in another way.
    assert await journal.messages(dead_letters=True) == [rows["done"]]
    replies = await journal.dead_replies([row.id for row in rows.values()])
    assert [(reply.inbox_id, reply.part) for reply in replies if reply.inbox_id != rows["discarded"].id] == [
        (rows["done"].id, 0),
        (rows["done"].id, 1),
    ]


async def test_what_people_replayed_is_found_while_it_waits(journal: Journal) -> None:
    replayed = []
    for number, agent in enumerate(["b", "a", "b"]):
        row = await add(journal, f"k{number}", agent=agent, claim=True)
        await journal.settle(row, MessageState.DEAD)
        assert await journal.dead_letters.replay(row)
        replayed.append(row)
    await add(journal, "never replayed")
    assert await journal.replayed() == replayed
    assert await journal.claim(replayed[0])
    assert await journal.settle(replayed[1], MessageState.CANCELLED) is not None
    assert await journal.replayed() == [replayed[2]]
    await journal.release(replayed[0])
    assert await journal.replayed() == [replayed[0], replayed[2]]
