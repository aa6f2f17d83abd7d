"""No conversation is left unanswered: those begun while an agent was away are found, joined and read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox import SandboxUser
from supervisor.sandbox.world.faults import Rest
from tests.support.stack import Stack, stack

#: The third generation while its agents still join.
V3 = {"profile": "v3", "stage": "i"}
#: Where it puts them into their conversations by itself and knows no joins.
GATEWAYS = {
    "v3, ii": ({"profile": "v3", "stage": "ii"}, {"ws_namespace": "/ws/agent"}),
    "v3, iii": ({"profile": "v3", "stage": "iii"}, {}),
}
LATER = pytest.mark.parametrize("platform", [{"profile": "v2"}, V3], ids=["v2", "v3"])
#: More than any bound on what is joined before an agent counts as online.
MANY = 700


async def away(fleet: Stack, identity: str) -> None:
    """Take the agent off the platform."""
    await fleet.service.control.pause(identity)
    await fleet.state(identity, AgentState.PAUSED)


async def back(fleet: Stack, identity: str) -> None:
    await fleet.service.control.resume(identity)
    await fleet.online()


def answers(fleet: Stack, conversation: str) -> list[str]:
    return [message.content for message in fleet.sandbox.messages(conversation) if message.sender_kind == "agent"]


async def answered(fleet: Stack, conversation: str, *texts: str) -> None:
    """Wait until a conversation has so many answers; they are those to some texts, in order."""
    await fleet.until(lambda: len(answers(fleet, conversation)) >= len(texts))
    assert answers(fleet, conversation) == [f"Echo: {text}" for text in texts]


@pytest.mark.parametrize(
    ("platform", "settings"),
    [({"profile": "v1"}, {}), ({"profile": "v2"}, {}), (V3, {}), *GATEWAYS.values()],
    ids=["v1", "v2", "v3", *GATEWAYS],
)
async def test_who_wrote_first_while_the_agent_was_away_is_answered_and_once(
    tmp_path: Path, platform: dict[str, Any], settings: dict[str, Any]
) -> None:
    async with stack(tmp_path, sandbox_settings=platform, **settings) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await away(fleet, identity)
        talks = []
        for number in range(3):
            user = await fleet.sandbox.user()
            conversation = await user.open(identity)
            await user.say(conversation, f"{number} first")
            await user.say(conversation, f"{number} second")
            await user.leave()
            talks.append(conversation)
        await back(fleet, identity)
        for number, conversation in enumerate(talks):
            if platform["profile"] == "v1":
                continue
            await answered(fleet, conversation, f"{number} first", f"{number} second")
        if platform["profile"] == "v1":
            await answered(fleet, talks[0], *[f"{n} {said}" for n in range(3) for said in ("first", "second")])
        await fleet.restart()
        await fleet.online()
        user = await fleet.sandbox.user()
        last = await user.open(identity)
        await user.say(last, "last")
        await fleet.until(lambda: answers(fleet, last)[-1:] == ["Echo: last"])
        assert sum(len(answers(fleet, one)) for one in {*talks, last}) == 7


@LATER
async def test_after_a_crash_too(tmp_path: Path, platform: dict[str, Any]) -> None:
    """The beginning of the gap is in the registry."""
    async with stack(tmp_path, sandbox_settings=platform) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await fleet.ask(identity, "hello")
        await fleet.service.stop(grace_seconds=0)
        assert fleet.service.registry.journal.lives.since > 0
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await user.say(conversation, "are you there?")
        await user.leave()
        await fleet.restart()
        await answered(fleet, conversation, "are you there?")


@LATER
async def test_what_was_said_before_the_agent_was_added_is_joined_and_not_answered(
    tmp_path: Path, platform: dict[str, Any]
) -> None:
    async with stack(tmp_path, sandbox_settings=platform) as fleet:
        identity = f"{1:024x}"
        fleet.sandbox.add_agent(identity, "s3cret-of-the-test")
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await user.say(conversation, "long ago")
        # A row's time has whole seconds: the agent is added in a later one.
        said = int(time.time())
        await fleet.until(lambda: int(time.time()) > said)
        await fleet.add()
        await fleet.online()
        await user.say(conversation, "now")
        await answered(fleet, conversation, "now")


async def test_more_conversations_than_any_bound_are_joined_again_after_a_reload(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}, api_rate=1000) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await away(fleet, identity)
        users: list[tuple[SandboxUser, str]] = []
        for _ in range(MANY):
            user = await fleet.sandbox.user()
            users.append((user, await user.open(identity)))
        await back(fleet, identity)

        def unjoined() -> int:
            reading = fleet.service.fleet.reading(identity)
            assert reading is not None
            return reading.unjoined

        connection = fleet.service.fleet.runner(identity).agent.connection
        assert connection is not None
        await fleet.until(lambda: len(connection.members) >= MANY, timeout=60)
        await fleet.until(lambda: unjoined() == 0, timeout=60)
        await fleet.service.control.reload(identity)
        await fleet.until(lambda: fleet.service.fleet.runner(identity).agent.connection not in (None, connection))
        second = fleet.service.fleet.runner(identity).agent.connection
        assert second is not None
        for user, conversation in (users[0], users[-1], users[MANY // 2]):
            await user.say(conversation, "still there?")
            await answered(fleet, conversation, "still there?")
        await fleet.until(lambda: len(second.members) >= MANY, timeout=60)


async def test_a_conversation_that_is_found_late_keeps_its_order(tmp_path: Path) -> None:
    """v2: the first message of a bridged conversation is sent before the agent is in the room."""
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await away(fleet, identity)
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await user.say(conversation, "first")
        # There is no list yet, and the person, whose coming puts the agent into the room, goes on.
        fleet.sandbox.faults.set(Rest(target="conversations"))
        await back(fleet, identity)
        await user.open(identity)
        await user.say(conversation, "second")
        await answered(fleet, conversation, "first", "second")


async def test_a_conversation_that_the_platform_never_told_of_is_found_by_the_next_list(tmp_path: Path) -> None:
    """The platform has forgotten an agent that shows online (docs/protocol.md#7-findings, 1)."""
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}, conversations_seconds=0.2) as fleet:
        identity = await fleet.add()
        await fleet.online()
        fleet.sandbox.presence.forget(identity)
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await user.say(conversation, "can you hear me?")
        await answered(fleet, conversation, "can you hear me?")
