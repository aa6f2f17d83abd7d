"""Sockets are renewed by age where the platform forgets, and at once where it has forgotten."""

from __future__ import annotations

from pathlib import Path

from supervisor.fleet.renewal import YOUNGEST, Renewal
from supervisor.platform.connection import Connection
from supervisor.platform.hosts.facts import SocketFacts
from tests.support.paper_play import AGENT, Play, play
from tests.support.virtual import VirtualClock, VirtualLoop, run

MAX_AGE = 1000.0


def test_an_agent_gets_a_new_socket_with_the_token_at_hand_before_it_is_forgotten(tmp_path: Path) -> None:
    async def renews(script: Play) -> None:
        script.platform.keeps_ids = False
        await script.add()
        await script.loop.advance(1)
        [first] = script.platform.sockets
        await script.loop.advance(MAX_AGE * YOUNGEST - 10)
        assert script.platform.sockets == [first], "too early"
        await script.loop.advance(MAX_AGE * (1 - YOUNGEST) + 60)
        [second] = script.platform.sockets
        assert second is not first
        assert script.platform.most_sockets[AGENT] == 2, "make before break"
        assert len(script.platform.expires) == 1, "no token was asked for"
        assert not script.runner().findability.lost

    play(tmp_path, renews, socket_max_age=MAX_AGE)


def test_a_platform_that_puts_the_agent_into_its_conversation_does_not_forget_it(tmp_path: Path) -> None:
    async def stays(script: Play) -> None:
        await script.add()
        await script.loop.advance(1)
        [first] = script.platform.sockets
        # No longer: after 48 minutes the configuration is fetched, which needs no new socket either.
        await script.loop.advance(MAX_AGE * 10)
        assert script.platform.sockets == [first]

    play(tmp_path, stays, socket_max_age=MAX_AGE)


def test_a_renewal_that_is_refused_is_tried_again_with_a_new_token(tmp_path: Path) -> None:
    async def refused(script: Play) -> None:
        script.platform.keeps_ids = False
        await script.add()
        await script.loop.advance(1)
        [first] = script.platform.sockets
        script.platform.connects.append("kick")
        await script.loop.advance(MAX_AGE + 120)
        [second] = script.platform.sockets
        assert second is not first
        assert len(script.platform.expires) == 2, "the second attempt has a token of its own"

    play(tmp_path, refused, socket_max_age=MAX_AGE)


def test_a_fleet_that_was_started_at_once_is_not_renewed_at_once(tmp_path: Path) -> None:
    async def spread(script: Play) -> None:
        script.platform.keeps_ids = False
        ids = [f"{number:024x}" for number in range(1, 21)]
        for agent_id in ids:
            await script.add(agent_id)
        await script.loop.advance(10)
        first = list(script.platform.sockets)
        assert len(first) == len(ids)
        await script.loop.advance(MAX_AGE * 0.9)
        left = [socket for socket in first if socket.connected]
        assert 0 < len(left) < len(ids)
        await script.loop.advance(MAX_AGE * 0.1 + 60)
        assert not any(socket.connected for socket in first)

    play(tmp_path, spread, socket_max_age=MAX_AGE)


def test_who_waits_is_woken_when_the_agent_was_forgotten() -> None:
    async def woken(loop: VirtualLoop) -> None:
        renewal = Renewal(MAX_AGE, VirtualClock(loop))
        renewal.opened(Connection(AGENT, on_event=lambda *_: None))
        waits = renewal.waiter()
        await loop.advance(1)
        assert (waits.done(), renewal.seconds_to_due(10.0)) == (False, 10.0)
        assert not renewal.unfindable
        renewal.forgotten(0.5)
        await loop.settle()
        assert waits.done()
        assert (renewal.due, renewal.unfindable) == (True, True)
        renewal.opened(Connection(AGENT, on_event=lambda *_: None))
        renewal.forgotten(0.5)
        assert not renewal.due, "this one came later"
        renewal.forgotten(2)
        assert renewal.seconds_to_due(10_000) == 0, "what is due is not waited for"
        renewal.closed()
        assert (renewal.due, renewal.unfindable) == (False, False)

    run(woken)


def test_a_socket_whose_presence_is_late_does_not_fade_where_those_before_did_not() -> None:
    async def late(loop: VirtualLoop) -> None:
        facts = SocketFacts()
        first, second, other = (
            Connection(AGENT, on_event=lambda *_: None, facts=known) for known in (facts, facts, SocketFacts())
        )
        assert first.fades, "nothing is known yet"
        presence = {"type": "agent", "agentId": AGENT, "status": "online"}
        first.receive("presence:update", {**presence, "conversationId": "c" * 24})
        assert (first.fades, second.fades, other.fades) == (False, False, True)
        # A platform of the next generation has taken its place.
        second.receive("presence:update", presence)
        assert second.fades
        await loop.settle()

    run(late)
