"""Agents stay reachable for new conversations on a platform that forgets them (docs/protocol.md#7-findings, 1)."""

from __future__ import annotations

from pathlib import Path

from tests.support.stack import Stack, stack

V2 = {"profile": "v2"}


def is_found(fleet: Stack, identity: str) -> bool:
    """Whether the platform finds the agent by the one socket that it has."""
    sids = {session.sid for session in fleet.sandbox.sockets_of(identity)}
    return len(sids) == 1 and fleet.sandbox.presence.sockets_of(identity) == sids


async def test_new_conversations_are_answered_before_and_after_the_platform_has_forgotten(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings=V2, socket_max_age=0.5) as fleet:
        identity = await fleet.add()
        await fleet.online()
        assert [reply.content for reply in await fleet.ask(identity, "before")] == ["Echo: before"]
        fleet.sandbox.presence.forget(identity)
        before = len(fleet.sandbox.connects)
        await fleet.until(lambda: len(fleet.sandbox.connects) > before and is_found(fleet, identity))
        another = await fleet.sandbox.user()
        conversation = await another.open(identity)
        said = await another.say(conversation, "after")
        assert [reply.content for reply in await another.wait_for_reply(conversation, after=said)] == ["Echo: after"]
        assert len(fleet.sandbox.token_requests) == 1, "a new socket needs no new token"
