"""What is new to an agent's owner: what was replayed, and what another process has handed in."""

from __future__ import annotations

from supervisor.store import Registry
from tests.support import postgres
from tests.support.journaling import AGENT, add


async def test_what_was_handed_in_is_new_until_it_is_begun(registry: Registry, url: str) -> None:
    journal = registry.journal
    plain, handed = await add(journal, "k1"), await add(journal, "k2")
    assert await journal.replayed() == []
    postgres.on_server("UPDATE inbox_open SET handed_in = true WHERE id = $1", handed.id, url=url)
    assert [row.id for row in await journal.replayed()] == [handed.id]
    assert [row.id for row in await journal.unsettled(AGENT, after_id=0, limit=9)] == [plain.id, handed.id]
    assert await journal.claim(handed)
    assert await journal.replayed() == []
