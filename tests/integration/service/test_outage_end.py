"""R36: after an outage of the platform everything moves at once, not when each retry is due. Over real sockets."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.states import AgentState, ReplyState
from supervisor.management.messages import MessageQuery
from tests.support.stack import Stack, stack

#: Far longer than any test: who is answered before was woken.
HOUR = 3600.0


async def waiting(fleet: Stack, agent: str, conversation: str) -> bool:
    """Whether the reply of a conversation has failed and waits for its next attempt."""
    replies = await fleet.service.registry.journal.own_replies(agent, conversation, limit=1)
    return bool(replies) and replies[0].state is ReplyState.PENDING and replies[0].attempts > 0


async def put_off(fleet: Stack) -> None:
    """Stop the supervisor and let every retry be due in an hour; then start another."""
    await fleet.service.stop(0)
    with closing(sqlite3.connect(fleet.folder / "supervisor.db")) as database:
        database.execute("UPDATE outbox SET attempts = 4, not_before = ? WHERE state = 0", (time.time() + HOUR,))
        database.commit()
    await fleet.restart()


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_the_first_send_that_succeeds_wakes_all_replies(tmp_path: Path, profile: str) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": profile}) as fleet:
        agents = [await fleet.add(number) for number in range(1, 5)]
        await fleet.online(4)
        fleet.sandbox.faults.refuse_sends(error="Database is down")
        user = await fleet.sandbox.user()
        conversations = {agent: await user.open(agent) for agent in agents[:3]}
        said = {agent: await user.say(conversations[agent], "hello") for agent in conversations}
        for agent in said:
            while not await waiting(fleet, agent, conversations[agent]):
                await fleet.until(lambda: True)
        seen = fleet.service.control.overview()
        assert seen.undelivered == 3
        assert "3 replies wait to be sent again" in seen.notices[0]
        assert "Database is down" in fleet.service.control.status(agents[0]).undelivered_reason
        listed = await fleet.service.control.messages(MessageQuery(undelivered=True), 10)
        assert {one.agent_id for one in listed} == set(said)
        await put_off(fleet)
        await fleet.online(4)
        fleet.sandbox.faults.clear()
        other = await user.open(agents[3])
        await user.wait_for_reply(other, after=await user.say(other, "is anybody there?"))
        for agent, message in said.items():
            [reply] = await user.wait_for_reply(conversations[agent], after=message, timeout=10)
            assert reply.content == "Echo: hello"
        await fleet.until(lambda: fleet.service.control.overview().undelivered == 0)


async def test_the_first_send_that_succeeds_wakes_the_hosts_agents(tmp_path: Path) -> None:
    async with stack(tmp_path, backoff_initial_seconds=HOUR, backoff_cap_seconds=HOUR) as fleet:
        well, ill = await fleet.add(1), await fleet.add(2)
        fleet.sandbox.faults.connect("kick", agents=[ill])
        await fleet.online(1)
        await fleet.state(ill, AgentState.BACKOFF)
        fleet.sandbox.faults.clear()
        await fleet.ask(well, "hello")
        await fleet.online(2)
