"""Journaled text encrypted at rest: not a word of it on the disk, mixed rows, keys that come and go."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.history import Remembered
from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.states import MessageState, ReplyState
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.protocol.fields import Thinking
from supervisor.settings.secrets import SecretBox, generate_key
from supervisor.store import Journal, Registry, check
from supervisor.store.dialect import codec
from tests.support.journaling import AGENT, add, answer

OLD, NEW = generate_key(), generate_key()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.db"


@asynccontextmanager
async def opened(path: Path, *keys: str, encrypt: bool = False) -> AsyncIterator[Journal]:
    cipher = SecretBox(keys) if keys else None
    registry = await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True, cipher=cipher, encrypt=encrypt)
    try:
        yield registry.journal
    finally:
        await registry.close()


def on_disk(path: Path) -> bytes:
    """Every byte of the database, its WAL and its shared memory included."""
    files = sorted(path.parent.glob(f"{path.name}*"))
    assert files
    return b"".join(file.read_bytes() for file in files)


def words_found(path: Path, *words: str) -> list[str]:
    raw = on_disk(path).lower()
    return [word for word in words if word.lower().encode() in raw]


async def live(journal: Journal) -> None:
    """Every way in which text reaches the journal."""
    row = await journal.add(
        AGENT,
        InboundMessage(conversation_id="c1", role="user", content="kumquat", attachments=("https://host/persimmon",)),
        key="k1",
        received_at=1.0,
        claim=True,
    )
    assert row is not None
    assert await journal.retry(row, "Traceback: ValueError('rambutan')", 0.0)
    assert await journal.claim(row)
    thinking = OutboundMessage(
        role="assistant", content="mangosteen", conversation_id="c1", thinking=Thinking(content="durian")
    )
    replies = await journal.settle(row, MessageState.DEAD, error="salak", replies=[NewReply(0, thinking)])
    assert replies
    await journal.defer_reply(replies[0], "the platform refused: longan", 0.0)
    assert await journal.settle_reply(replies[0], ReplyState.DEAD, "the platform refused: cherimoya")
    await journal.add_reply(AGENT, None, answer("soursop"))
    assert await journal.summaries.keep(row, Remembered("They like tamarillo.", row.id, 1.0))
    assert await journal.settle(await add(journal, "k2", content="jabuticaba"), MessageState.CANCELLED) == []


TEXT = (
    *("kumquat", "persimmon", "rambutan", "mangosteen", "durian", "salak"),
    *("longan", "cherimoya", "soursop", "tamarillo", "jabuticaba", "traceback", "ValueError"),
)


async def test_not_a_word_is_on_the_disk(path: Path) -> None:
    async with opened(path, NEW, encrypt=True) as journal:
        await live(journal)
        assert words_found(path, *TEXT) == []
        assert words_found(path, AGENT) == [AGENT], "the files are looked at in the right way"
        newest, first = await journal.messages()
        assert (first.message.content, first.error) == ("kumquat", "salak")
        assert newest.message.content == "jabuticaba"
        dead, unasked = await journal.own_replies(AGENT, "c1", limit=10)
        assert (dead.message.content, dead.error) == ("mangosteen", "the platform refused: cherimoya")
        assert unasked.message.content == "soursop"
        told = await journal.history(AGENT, "c1", 10)
        assert [line.content for line in told] == ["kumquat", "jabuticaba", "soursop"]
    assert words_found(path, *TEXT) == []


async def test_without_it_the_text_is_in_the_clear(path: Path) -> None:
    # The same words are found then: the test above looks for the right thing. Keys alone encrypt nothing.
    async with opened(path, NEW) as journal:
        await live(journal)
        assert words_found(path, *TEXT) == list(TEXT)


def test_without_it_a_message_is_stored_as_its_json_and_nothing_else() -> None:
    message = InboundMessage(conversation_id="c", role="user", content="fernet:")
    assert codec.TextCodec().body(message) == msgspec.json.encode(message)
    error = "boom"
    assert codec.TextCodec().error(error) is error


async def test_turning_it_on_and_off_leaves_every_row_readable(path: Path) -> None:
    rows: list[JournaledMessage] = []
    for turn, encrypt in enumerate([False, True, False, True]):
        async with opened(path, NEW, encrypt=encrypt) as journal:
            rows.append(await add(journal, f"k{turn}", content=f"pomelo {turn}", claim=True))
            await journal.retry(rows[-1], f"quince {turn}", 0.0)
            assert await journal.unsettled(AGENT) == rows
    assert words_found(path, *[f"pomelo {turn}" for turn in range(4)]) == ["pomelo 0", "pomelo 2"]
    assert words_found(path, *[f"quince {turn}" for turn in range(4)]) == ["quince 0", "quince 2"]


async def test_text_that_was_damaged_is_treated_alike(path: Path) -> None:
    async with opened(path) as journal:
        for number in range(4):
            await add(journal, f"k{number}")
        good = await add(journal, "good")
    with closing(sqlite3.connect(path)) as sql:
        for number, body in enumerate([b"\xff{", b"{}", b"", b"fernet:nonsense"]):
            sql.execute("UPDATE inbox SET body = ? WHERE id = ?", (body, number + 1))
        sql.commit()
    async with opened(path, NEW) as journal:
        assert await journal.unsettled(AGENT) == [good]
        dead = reversed(await journal.messages(states=[MessageState.DEAD]))
        assert [row.error for row in dead] == [codec.DAMAGED] * 3 + [codec.LOCKED]
        assert len(await journal.history(AGENT, "c1", 9)) == 1
    with pytest.raises(RegistryError, match="text of 3 messages and replies"):
        await check(f"sqlite+aiosqlite:///{path}")


def test_to_encrypt_takes_a_key() -> None:
    with pytest.raises(ValueError, match="cipher"):
        codec.TextCodec(encrypt=True)
