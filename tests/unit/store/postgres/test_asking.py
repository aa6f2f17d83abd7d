"""What is new to an agent's owner: what was replayed, and what another process has handed in."""

from __future__ import annotations

from supervisor.core.states import MessageState, ReplyState
from supervisor.store import LockInfo, Registry
from tests.support import postgres
from tests.support.journaling import AGENT, add, answer, settle


async def test_what_was_handed_in_is_new_until_it_is_begun(registry: Registry, url: str) -> None:
    journal = registry.journal
    plain, handed = await add(journal, "k1"), await add(journal, "k2")
    assert await journal.replayed() == []
    postgres.on_server("UPDATE inbox_open SET handed_in = true WHERE id = $1", handed.id, url=url)
    assert [row.id for row in await journal.replayed()] == [handed.id]
    assert [row.id for row in await journal.unsettled(AGENT, after_id=0, limit=9)] == [plain.id, handed.id]
    assert await journal.claim(handed)
    assert await journal.replayed() == []


async def test_who_runs_agents_asks_of_its_own_alone(url: str) -> None:
    registry = await Registry.open(url, lock=LockInfo("http://[::1]:1"))
    try:
        journal = registry.journal
        for agent, key in ((AGENT, "k1"), ("another", "k2")):
            dead = await add(journal, key, agent=agent, claim=True)
            await journal.settle(dead, MessageState.DEAD, error="it broke")
            await add(journal, f"{key} waits", agent=agent)
            unsent = await settle(journal, await add(journal, f"{key} done", agent=agent, claim=True), answer())
            await journal.settle_reply(unsent[0], ReplyState.DEAD, "refused")
            assert await journal.dead_letters.replay_replies(unsent) == [True]
            assert await journal.dead_letters.replay(dead)
        mine = registry.replicas.my_id
        postgres.on_server("INSERT INTO leases (agent_id, owner) VALUES ($1, $2)", AGENT, mine, url=url)
        assert await journal.counts() == {AGENT: {MessageState.AVAILABLE: 2}}
        assert [row.agent_id for row in await journal.replayed()] == [AGENT]
        assert [reply.agent_id for reply in await journal.replayed_replies()] == [AGENT]
        beside = await Registry.open(url)
        assert (await beside.journal.counts()).keys() == {AGENT, "another"}, "whoever runs none means all"
        assert len(await beside.journal.replayed()) == 2
        await beside.close()
    finally:
        await registry.close()
