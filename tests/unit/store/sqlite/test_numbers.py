"""The numbers of rows and of agents: given in process, kept with their transaction, corrected by the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.store import Registry
from supervisor.store.sqlite.numbers import Numbers
from supervisor.store.sqlite.writer import Writer
from tests.support.journaling import add, answer, settle
from tests.support.registries import sqlite_of


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True)
    yield opened
    await opened.close()


@pytest.fixture
def writer(registry: Registry) -> Writer:
    return sqlite_of(registry).writer


async def test_they_begin_where_the_database_is_and_never_go_back(registry: Registry, writer: Writer) -> None:
    numbers = Numbers()
    await writer.transact(numbers.load)
    assert (numbers.inbox, numbers.outbox) == (0, 0)
    row = await add(registry.journal, "k", claim=True)
    [reply] = await settle(registry.journal, row, answer())
    await writer.transact(numbers.load)
    assert (numbers.inbox, numbers.outbox) == (row.id, reply.id)
    numbers.inbox = 1_000
    await writer.transact(numbers.load)
    assert (numbers.inbox, numbers.outbox) == (1_000, reply.id)


async def test_an_agent_has_one_number_for_ever(writer: Writer) -> None:
    numbers, later = Numbers(), Numbers()
    first = await writer.transact(lambda connection: numbers.agent_key(connection, "a"))
    numbers.keep()
    second = await writer.transact(lambda connection: numbers.agent_key(connection, "b"))
    numbers.keep()
    assert first != second
    assert await writer.transact(lambda connection: later.agent_key(connection, "a")) == first


async def test_a_number_whose_transaction_was_rolled_back_is_asked_for_anew(writer: Writer) -> None:
    numbers = Numbers()

    def fails(connection: object) -> None:
        numbers.agent_key(connection, "gone")  # type: ignore[arg-type]
        raise LookupError

    with pytest.raises(LookupError):
        await writer.transact(fails)
    numbers.forget()
    taken = await writer.transact(lambda connection: Numbers().agent_key(connection, "other"))
    key = await writer.transact(lambda connection: numbers.agent_key(connection, "gone"))
    assert key != taken
