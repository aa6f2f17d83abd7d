"""What conversations are summed up to lives as long as the messages that it stands for, and no longer."""

from __future__ import annotations

import asyncio

from supervisor.core.history import Remembered
from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.settings.secrets import SecretBox, generate_key
from supervisor.store import Journal, Registry
from supervisor.store.dialect import TextCodec
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT, add, settle
from tests.support.stores import Opener, Store


async def said(journal: Journal, number: int = 1, conversation: str = "c1") -> list[JournaledMessage]:
    """Messages of one conversation that were answered."""
    rows = [await add(journal, f"k{n}", claim=True, conversation=conversation) for n in range(number)]
    for row in rows:
        await settle(journal, row)
    return rows


async def test_a_summary_is_kept_over_a_restart_for_its_conversation_alone(registry: Registry, opened: Opener) -> None:
    first, last = await said(registry.journal, 2)
    assert await registry.journal.summaries.of(AGENT, "c1") is None
    summary = Remembered("They like kumquats.", first.id, 100.0)
    assert await registry.journal.summaries.keep(last, summary)
    await registry.close()
    summaries = (await opened()).journal.summaries
    assert await summaries.of(AGENT, "c1") == summary
    assert await summaries.of(AGENT, "c2") is None
    assert await summaries.of("another", "c1") is None


async def test_one_that_stands_for_more_takes_its_place_and_none_that_stands_for_less(journal: Journal) -> None:
    rows = await said(journal, 3)
    for summary in (Remembered("of two", rows[1].id, 100.0), Remembered("anew", rows[1].id, 101.0)):
        assert await journal.summaries.keep(rows[2], summary)
    assert not await journal.summaries.keep(rows[2], Remembered("of one", rows[0].id, 100.0))
    assert await journal.summaries.of(AGENT, "c1") == Remembered("anew", rows[1].id, 101.0)


async def test_what_is_erased_takes_it_along(journal: Journal) -> None:
    [row] = await said(journal)
    other = await add(journal, "other", conversation="c2", claim=True)
    foreign = await add(journal, "k0", agent="another", claim=True)
    for one in (row, other, foreign):
        assert await journal.summaries.keep(one, Remembered(f"of {one.conversation_id}", one.id, 100.0))
    assert await journal.maintenance.purge(AGENT, "c1") == 1, "messages and replies are what is counted"
    assert await journal.summaries.of(AGENT, "c1") is None
    assert await journal.summaries.of(AGENT, "c2") is not None
    await journal.maintenance.purge(AGENT)
    assert await journal.summaries.of(AGENT, "c2") is None
    assert await journal.summaries.of("another", "c1") is not None


async def test_one_that_was_being_made_when_its_messages_were_erased_is_not_kept(journal: Journal) -> None:
    [row] = await said(journal)
    other = await add(journal, "other", conversation="c2")
    await journal.maintenance.purge(AGENT, "c1")
    # Others that were asked for at once are kept.
    keep = journal.summaries.keep
    kept = await asyncio.gather(keep(row, Remembered("gone", row.id, 1.0)), keep(other, Remembered("here", 0, 1.0)))
    assert list(kept) == [False, True]
    assert await journal.summaries.of(AGENT, "c1") is None
    assert await journal.summaries.of(AGENT, "c2") == Remembered("here", 0, 1.0)


async def test_it_is_pruned_before_the_oldest_message_that_it_stands_for(opened: Opener) -> None:
    clock = ManualClock(10.0)
    journal = (await opened(clock=clock)).journal
    rows = {}
    for number, at in enumerate((10.0, 30.0)):
        row = rows[at] = await add(journal, f"k{number}", at=at, claim=True, conversation=f"c{number}")
        await journal.settle(row, MessageState.DONE)
        await journal.summaries.keep(row, Remembered("short", row.id, at))
        await clock.advance(20.0)
    assert await journal.maintenance.prune(10.0) == 0
    assert await journal.summaries.of(AGENT, "c0") is not None
    assert await journal.maintenance.prune(20.0) == 1, "messages and replies are what is counted"
    assert await journal.summaries.of(AGENT, "c0") is None
    assert await journal.summaries.of(AGENT, "c1") is not None


async def test_pruning_goes_on_past_a_slice(journal: Journal) -> None:
    rows = await asyncio.gather(*[add(journal, f"k{n}", conversation=f"c{n}") for n in range(2100)])
    await asyncio.gather(*[journal.summaries.keep(row, Remembered("short", row.id, 10.0)) for row in rows])
    await journal.maintenance.prune(20.0)
    found = await asyncio.gather(*[journal.summaries.of(AGENT, f"c{n}") for n in (0, 1000, 2099)])
    assert found == [None, None, None]


async def test_one_that_cannot_be_read_is_as_none(store: Store, opened: Opener) -> None:
    box = SecretBox([generate_key()])
    first = await opened(texts=TextCodec(box, encrypt=True))
    [row] = await said(first.journal)
    # Text that a model made up may begin like a ciphertext, and hold halves of characters.
    await first.journal.summaries.keep(row, Remembered("fernet:\ud83d", row.id, 100.0))
    assert await first.journal.summaries.of(AGENT, "c1") == Remembered("fernet:?", row.id, 100.0)
    without_key = (await opened()).journal
    assert await without_key.summaries.of(AGENT, "c1") is None
    assert await without_key.summaries.keep(row, Remembered("fernet:in the clear", row.id, 100.0))
    assert await without_key.summaries.of(AGENT, "c1") == Remembered("fernet:in the clear", row.id, 100.0)


async def test_what_cannot_be_written_just_now_is_written_later(store: Store, journal: Journal) -> None:
    [row] = await said(journal)
    with store.stalled():
        keeping = asyncio.ensure_future(journal.summaries.keep(row, Remembered("x" * 1000, row.id, 100.0)))
        while not journal.waiting:
            await asyncio.sleep(0)
        assert journal.waiting_bytes >= 1000, "what it holds counts in the journal's bound"
    assert await keeping
