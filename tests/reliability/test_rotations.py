"""Second sockets that cannot be proved, under traffic: nothing is lost (docs/faults.md#r31)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.sandbox.world.switchboard import Faults
from tests.support.reliability import Case
from tests.support.stack import Stack, stack

TOKEN_SECONDS = 2.5
ROTATIONS = 4
FAULTS: dict[str, tuple[str, Callable[[Faults], None]]] = {
    "v1, online never acked": ("v1", lambda faults: faults.drop_acks(events=["conversation:online"])),
    "v2, online never acked": ("v2", lambda faults: faults.drop_acks(events=["conversation:online"])),
    "v2, join never acked": ("v2", lambda faults: faults.drop_acks(events=["conversation:join"])),
    "v2, neither acked": ("v2", lambda faults: faults.drop_acks(events=["conversation:join", "conversation:online"])),
    "v1, presence for the first only": ("v1", lambda faults: faults.presence_elsewhere()),
    "v2, presence for the first only": ("v2", lambda faults: faults.presence_elsewhere()),
    "v2, CONNECT acked late": ("v2", lambda faults: faults.delay(connect_ack_seconds=TOKEN_SECONDS / 3)),
    "v1, first put out": ("v1", lambda faults: faults.second_socket(mode="replace")),
    "v2, first put out": ("v2", lambda faults: faults.second_socket(mode="replace")),
}


async def talk(fleet: Stack, identity: str, *, until: Callable[[], object]) -> tuple[str, int]:
    """A person says numbers, ten a second or so, until ``until``; where, and how many."""
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    sent = 0
    while not until():
        await user.say(conversation, str(sent))
        sent += 1
        await asyncio.sleep(0.05)
    return conversation, sent


def answers(fleet: Stack, conversation: str) -> list[str]:
    """What the agent has answered, without the handler's prefix."""
    said = [message.content for message in fleet.sandbox.messages(conversation)]
    return [text.removeprefix("Echo: ") for text in said if text.startswith("Echo: ")]


@pytest.mark.parametrize("fault", FAULTS)
async def test_r31_second_sockets_that_cannot_be_proved(
    tmp_path: Path, case: Callable[[str], Case], fault: str
) -> None:
    figures = case(f"R31 {fault}")
    profile, strike = FAULTS[fault]
    settings: dict[str, Any] = {"profile": profile, "expires_in_seconds": TOKEN_SECONDS}
    async with stack(tmp_path, sandbox_settings=settings) as fleet:
        identity = await fleet.add()
        await fleet.online()
        fleet.sandbox.faults.kick_at_expiry()
        strike(fleet.sandbox.faults)
        before = len(fleet.sandbox.connects)
        conversation, sent = await talk(
            fleet, identity, until=lambda: len(fleet.sandbox.connects) >= before + ROTATIONS
        )
        await fleet.until(lambda: len(set(answers(fleet, conversation))) >= sent, timeout=30)
        figures.faults = len(fleet.sandbox.connects) - before
        figures.answers([str(number) for number in range(sent)], answers(fleet, conversation))
        assert figures.lost == 0
        if profile == "v1":
            # Its ids are kept, so that what is sent twice is stored once.
            assert figures.doubled == 0
