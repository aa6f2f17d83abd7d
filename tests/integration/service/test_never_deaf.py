"""Agents stay reachable for new conversations on a platform that forgets them (docs/faults.md#r37)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tests.support.stack import Stack, stack

V2 = {"profile": "v2"}


def is_found(fleet: Stack, identity: str) -> bool:
    """Whether the platform finds the agent by the one socket that it has."""
    sids = {session.sid for session in fleet.sandbox.sockets_of(identity)}
    return len(sids) == 1 and fleet.sandbox.presence.sockets_of(identity) == sids


def unfindable(fleet: Stack) -> float:
    """The metric, as it is scraped."""
    text = fleet.service.metrics.render("")[0].decode()
    [line] = [line for line in text.splitlines() if line.startswith("supervisor_agents_unfindable ")]
    return float(line.split()[1])


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


async def test_an_agent_that_was_forgotten_finds_it_out_and_its_neighbours_too(tmp_path: Path) -> None:
    """Long before their sockets are old: a Redis that lost its data forgets all at once."""
    given: dict[str, Any] = {"socket_max_age": 50, "handshake_seconds": 1.0}
    async with stack(tmp_path, sandbox_settings=V2, **given) as fleet:
        # The last one has no conversation to ask with.
        ids = [await fleet.add(number) for number in range(1, 6)]
        await fleet.online(len(ids))
        for identity in ids[:-1]:
            assert await fleet.ask(identity, "before")
        for _ in range(2):
            before = len(fleet.sandbox.connects)
            fleet.sandbox.presence.forget()
            await fleet.until(lambda: unfindable(fleet) > 0)
            await fleet.until(lambda: all(is_found(fleet, identity) for identity in ids), timeout=30)
            assert len(fleet.sandbox.connects) == before + len(ids), "each renewed once"
            assert unfindable(fleet) == 0
        another = await fleet.sandbox.user()
        conversation = await another.open(ids[-1])
        said = await another.say(conversation, "after")
        assert [reply.content for reply in await another.wait_for_reply(conversation, after=said)] == ["Echo: after"]


async def test_the_newest_gateway_goes_on_finding_an_agent_that_got_a_new_socket(tmp_path: Path) -> None:
    """There each heartbeat makes its socket the only one; an older socket that says one and closes leaves none."""
    async with stack(tmp_path, sandbox_settings={"profile": "v3", "stage": "iii"}) as fleet:
        identity = await fleet.add()
        await fleet.online(timeout=30)
        for _ in range(3):
            before = fleet.sandbox.sockets_of(identity)
            await fleet.service.control.reload(identity)
            await fleet.until(partial(is_replaced, fleet, identity, before))
            # Sooner than the next heartbeat that is due by its time.
            await fleet.until(lambda: is_found(fleet, identity), timeout=5)


def is_replaced(fleet: Stack, identity: str, before: list[Any]) -> bool:
    """Whether the agent has one socket, and it is another one."""
    now = fleet.sandbox.sockets_of(identity)
    return len(now) == 1 and now != before


async def test_after_make_before_break_one_more_join_says_that_the_agent_is_there(tmp_path: Path) -> None:
    """The old socket's end is broadcast as the agent's; people in its conversation hear of the join that follows."""
    async with stack(tmp_path, sandbox_settings=V2, socket_max_age=3600) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await fleet.ask(identity, "hello")
        user = fleet.users[0]
        old, before, told = fleet.sandbox.sockets_of(identity)[0], len(fleet.sandbox.events), len(user.received)
        await fleet.service.control.reload(identity)

        def joined_after_the_end() -> bool:
            events = fleet.sandbox.events
            ended = [n for n, event in enumerate(events) if event.kind == "offline" and event.fields["sid"] == old.sid]
            return bool(ended) and any(event.kind == "join" for event in events[ended[0] :])

        await fleet.until(joined_after_the_end)
        joins = [event for event in fleet.sandbox.events[before:] if event.kind == "join"]
        assert len(joins) == 2, "one for the new socket, one after the old one's end"
        assert [event for event, _ in user.received[told:] if event == "user:joined"] == ["user:joined"] * 2
