"""Several supervisors on one registry: every agent runs exactly once, whoever dies, freezes or goes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.sandbox import Sandbox, SandboxUser
from tests.support import postgres
from tests.support.replicas import Replicas, replicas

AGENTS = 6


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Replicas]:
    async with Sandbox() as sandbox, replicas(tmp_path, sandbox, {}) as made:
        yield made


async def ask_all(fleet: Replicas, user: SandboxUser, identities: list[str], text: str) -> None:
    """Say something to every agent, and have one answer from each."""
    for identity in identities:
        conversation = await user.open(identity)
        said = await user.say(conversation, text)
        [reply] = await user.wait_for_reply(conversation, after=said, timeout=60)
        assert reply.content == f"Echo: {text}"


def answers(fleet: Replicas, identities: list[str]) -> list[list[str]]:
    """What each agent has said in its conversation."""
    said = [fleet.sandbox.messages(fleet.sandbox.conversation_of(identity)) for identity in identities]
    return [[one.content for one in some if one.content.startswith("Echo")] for some in said]


async def journaled_once(fleet: Replicas, messages: int) -> None:
    """Every message was answered once, and every answer is acknowledged."""
    await fleet.until(lambda: journaled(fleet)[2] >= messages, "the last acknowledgement")
    assert journaled(fleet) == (messages,) * 4


def journaled(fleet: Replicas) -> tuple[int, ...]:
    [counted] = postgres.on_server(
        "SELECT (SELECT count(*) FROM inbox WHERE state = 4), (SELECT count(*) FROM inbox), "
        "(SELECT count(*) FROM outbox WHERE state = 2), (SELECT count(*) FROM outbox)",
        url=fleet.url,
    )
    return tuple(counted)


class Talk:
    """People who say something to every agent again and again, until that ends."""

    def __init__(self, fleet: Replicas, user: SandboxUser, identities: list[str]) -> None:
        self._fleet = fleet
        self._user = user
        self._identities = identities
        self.said = 0
        self._task = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        conversations = [await self._user.open(identity) for identity in self._identities]
        while True:
            for conversation in conversations:
                await self._user.say(conversation, str(self.said))
            self.said += 1
            await asyncio.sleep(0.05)

    async def end(self) -> None:
        """Say nothing more; everything has one answer, in its order."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.said += 1
        wanted = [f"Echo: {number}" for number in range(self.said)]

        def answered() -> bool:
            return all(
                said[-1:] == wanted[-1:] or said == wanted[:-1] for said in answers(self._fleet, self._identities)
            )

        await self._fleet.until(answered, "the last answers")
        for said in answers(self._fleet, self._identities):
            assert said in (wanted, wanted[:-1])


async def both(fleet: Replicas) -> list[str]:
    """Two that have half of the agents each, all of which are online; the agents."""
    await fleet.start()
    await fleet.start()
    await fleet.until(lambda: len(fleet.owned()) == 2, "two replicas")
    identities = await fleet.add(AGENTS)
    await fleet.until(lambda: fleet.owned() == [AGENTS // 2] * 2, "half of the agents each")
    await fleet.sandbox.wait_online(*identities, timeout=60)
    return identities


async def test_every_agent_runs_once_and_one_that_is_killed_is_replaced_by_the_other(fleet: Replicas) -> None:
    identities = await both(fleet)
    user = await fleet.sandbox.user()
    await ask_all(fleet, user, identities, "one")
    first, second = fleet.started
    await first.kill()
    await fleet.until(lambda: fleet.owned() == [AGENTS], "all agents at the other")
    assert '"replica_buried"' in second.log
    await ask_all(fleet, user, identities, "two")
    assert answers(fleet, identities) == [["Echo: one", "Echo: two"]] * AGENTS
    await journaled_once(fleet, 2 * AGENTS)
    await second.stop()
    assert fleet.owned() == []


async def test_one_that_froze_for_longer_than_its_lease_sends_nothing_and_ends_by_itself(fleet: Replicas) -> None:
    identities = await both(fleet)
    user = await fleet.sandbox.user()
    await ask_all(fleet, user, identities, "one")
    first, second = fleet.started
    first.signal(signal.SIGSTOP)
    await fleet.until(lambda: fleet.owned() == [AGENTS], "all agents at the other")
    await ask_all(fleet, user, identities, "two")
    first.signal(signal.SIGCONT)
    assert await first.end() == 3
    assert first.log.count('"level": "critical"') == 1, first.log
    assert "taken over by another supervisor" in first.log
    await ask_all(fleet, user, identities, "three")
    assert answers(fleet, identities) == [["Echo: one", "Echo: two", "Echo: three"]] * AGENTS
    await journaled_once(fleet, 3 * AGENTS)
    await second.stop()


async def test_one_that_is_stopped_hands_its_agents_over_while_people_talk_to_them(fleet: Replicas) -> None:
    identities = await both(fleet)
    talk = Talk(fleet, await fleet.sandbox.user(), identities)
    first, second = fleet.started
    await fleet.until(lambda: talk.said > 5, "some talk")
    await first.stop()
    assert fleet.owned() == [AGENTS], "all agents are at the other before it ends"
    assert first.log.count("agent_handed_over") == AGENTS // 2
    assert "replica_buried" not in second.log, "it has left, and is not dead"
    third = await fleet.start()
    await fleet.until(lambda: fleet.owned() == [AGENTS // 2] * 2, "the newcomer has its part")
    until = talk.said + 5
    await fleet.until(lambda: talk.said > until, "some more talk")
    await talk.end()
    assert all("backfilled" not in one.log for one in fleet.started), "nobody had to look for anything"
    await second.stop()
    await third.stop()
