"""Acknowledgements of odd forms, and ids that are taken: each answer is shown once, and nobody waits behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import MessageState
from tests.support.stack import Stack, stack

OTHERS_ID = "f" * 24
TAKEN = (
    f"E11000 duplicate key error collection: core_aiwm.messages index: _id_ dup key: {{ _id: ObjectId('{OTHERS_ID}') }}"
)


async def shown_and_dead(fleet: Stack, identity: str, conversation: str) -> tuple[list[str], list[Any]]:
    """What people were shown of an agent, and its dead letters."""
    said = fleet.sandbox.messages(conversation)
    shown = [message.content for message in said if message.sender_kind == "agent" and message.shown]
    dead = await fleet.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])
    return shown, dead


@pytest.mark.parametrize("profile", ["v1", "v2"])
@pytest.mark.parametrize("form", ["empty", "null", "word", "node"])
async def test_acks_of_odd_forms(tmp_path: Path, profile: str, form: Any) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": profile}) as fleet:
        identity = await fleet.add()
        await fleet.online()
        fleet.sandbox.faults.odd_acks(form, events=["message:send", "conversation:join"])
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        first = await user.say(conversation, "0")
        for number in range(1, 6):
            await user.say(conversation, str(number))
        # Sooner than anything that failed would be sent again.
        await user.wait_for_reply(conversation, after=first, count=6, timeout=4.5)
        await fleet.until(lambda: not fleet.service.fleet.runner(identity).agent.pipeline.outbox.waiting, timeout=4.5)
        shown, dead = await shown_and_dead(fleet, identity, conversation)
    assert shown == [f"Echo: {number}" for number in range(6)]
    assert dead == []


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_an_id_that_is_taken_and_is_not_the_replys_is_tried_again(tmp_path: Path, profile: str) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": profile}) as fleet:
        identity, bystander = await fleet.add(), await fleet.add(2)
        await fleet.online(2)
        fleet.sandbox.faults.refuse_sends(TAKEN, agents=[identity], times=1)
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        first = await user.say(conversation, "0")
        await user.say(conversation, "1")
        await fleet.until(lambda: fleet.sandbox.faults.struck["refuse_sends"])
        # What the host takes of somebody else wakes the reply before its own retry is due.
        await fleet.ask(bystander, "hello")
        await user.wait_for_reply(conversation, after=first, count=2, timeout=10)
        shown, dead = await shown_and_dead(fleet, identity, conversation)
    assert shown == ["Echo: 0", "Echo: 1"]
    assert dead == []
