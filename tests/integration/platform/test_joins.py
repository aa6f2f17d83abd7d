"""Joining again: a join that fails costs no other conversation, and is tried again while the connection lives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from supervisor.core.clock import SystemClock
from supervisor.core.errors import ConnectionLostError
from supervisor.platform.connection import Connection
from supervisor.platform.joins import AT_ONCE, Joins, JoinTimes, Late
from tests.support.connecting import AGENT, OpenTransport, bound
from tests.support.gateway import Peer, eventually, gateway

WELL = {"success": True}
#: Waits that suit a test.
TIMES = JoinTimes(ack=0.6, first_ack=0.3, retry_initial=0.02, retry_cap=0.05)

Answer = Callable[[str], dict[str, Any] | None]


@dataclass
class Room:
    """One connection, what it was asked to join, and what came of it."""

    connection: Connection
    asked: list[str] = field(default_factory=list)
    answers: dict[str, list[dict[str, Any] | None]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    forgotten: list[str] = field(default_factory=list)
    tried: list[Sequence[str]] = field(default_factory=list)
    late: list[list[str]] = field(default_factory=list)
    peer: Peer | None = None

    async def join(self, *conversations: str, times: JoinTimes = TIMES) -> list[Any]:
        """Join them; the lines that were logged until ``run`` returned, and later ones as they come."""
        self.known.update(conversations)
        log = structlog.testing.LogCapture()
        joins = Joins(
            self.connection,
            clock=SystemClock(),
            times=times,
            is_known=self.known.__contains__,
            forget=self._forget,
            late=Late(self.tried.append, self._on_late),
            log=structlog.wrap_logger(None, processors=[log]),
        )
        await joins.run(conversations)
        return log.entries

    async def _forget(self, conversation: str) -> None:
        self.forgotten.append(conversation)
        self.known.discard(conversation)

    async def _on_late(self, joined: Sequence[str], missing: Sequence[str]) -> None:
        assert sorted([*joined, *missing]) == sorted(self.tried[-1])
        self.late.append(list(joined))


def room(transport: OpenTransport, **answers: list[dict[str, Any] | None]) -> AbstractAsyncContextManager[Room]:
    """A connection to a platform that acks each join, but for the next ones of a conversation as given; None: never."""
    return a_room(transport, answers, registered=True)


@asynccontextmanager
async def a_room(
    transport: OpenTransport, answers: dict[str, list[dict[str, Any] | None]], *, registered: bool
) -> AsyncIterator[Room]:
    """As :func:`room`; ``registered``: whether the platform has registered the socket before the first join."""

    async def script(peer: Peer) -> None:
        await peer.join()
        made.peer = peer
        if registered:
            presence = {"type": "agent", "agentId": AGENT, "status": "online"}
            await peer.send("42/ws," + json.dumps(["presence:update", presence]))
        while True:
            frame = await peer.receive()
            ack_id, _, body = frame.removeprefix("42/ws,").partition("[")
            if not body.startswith('"conversation:join"'):
                continue
            conversation = json.loads("[" + body)[1]["conversationId"]
            made.asked.append(conversation)
            planned = made.answers.get(conversation)
            answer = planned.pop(0) if planned else WELL
            if answer is not None:
                await peer.send(f"43/ws,{ack_id}" + json.dumps([answer]))

    made: Room
    async with gateway(script) as server, transport() as opener:
        connection = Connection(AGENT, on_event=lambda *_: None)
        made = Room(connection, answers=answers)
        await bound(connection, opener, server)
        if registered:
            await asyncio.wait_for(asyncio.shield(connection.registered), 5)
        try:
            yield made
        finally:
            await connection.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("join")]


def events(entries: list[Any]) -> list[str]:
    return [entry["event"] for entry in entries]


async def test_all_are_joined_at_once_and_are_members_from_then_on(transport: OpenTransport) -> None:
    conversations = [f"c{n}" for n in range(3 * AT_ONCE)]
    async with room(transport) as made:
        assert await made.join(*conversations) == []
        assert made.connection.joined.is_set()
        assert made.asked == conversations
        assert all(made.connection.member_since(one) is not None for one in conversations)
        assert made.late == []


async def test_no_conversation_is_no_wait(transport: OpenTransport) -> None:
    async with room(transport) as made:
        assert await made.join() == []
        assert made.connection.joined.is_set()


async def test_a_join_whose_ack_is_lost_costs_no_other_conversation(transport: OpenTransport) -> None:
    async with room(transport, lost=[None]) as made:
        log = await made.join("one", "lost", "two")
        assert made.connection.member_since("two") is not None
        assert made.connection.member_since("lost") is None
        assert not made.connection.joined.is_set()
        [warning] = log
        assert (warning["event"], warning["count"]) == ("conversations_not_joined", 1)
        assert "not acknowledged" in warning["reason"]
        await asyncio.wait_for(made.connection.joined.wait(), 5)
        assert events(log) == ["conversations_not_joined", "conversations_joined"]
        assert made.late == [["lost"]]
        assert made.connection.member_since("lost") is not None


async def test_a_platform_that_acks_no_join_holds_nobody_up(transport: OpenTransport) -> None:
    never: dict[str, Any] = {f"c{n}": [None] * 100 for n in range(AT_ONCE)}
    async with room(transport, **never) as made:
        started = asyncio.get_running_loop().time()
        # Longer than this test may take: what is right in the end is right because joins are on their way at once.
        await made.join(*never, times=JoinTimes(ack=0.5, first_ack=60.0, retry_initial=0.02, retry_cap=0.05))
        assert asyncio.get_running_loop().time() - started < 2.5, "not one ack for each"
        assert sorted(made.asked[:AT_ONCE]) == sorted(never)
        # Joining goes on beside the connection, and ends with it.
        await eventually(lambda: len(made.asked) > AT_ONCE)
        assert [task for task in asyncio.all_tasks() if task.get_name() == f"joins {AGENT}"]


async def test_passing_refusals_are_tried_again_and_final_ones_forgotten(transport: OpenTransport) -> None:
    ill: list[dict[str, Any] | None] = [{"success": False, "error": "Database is down"}] * 2
    gone: list[dict[str, Any] | None] = [{"success": False, "error": "Entity with ID gone not found"}]
    async with room(transport, ill=ill, gone=gone) as made:
        log = await made.join("ill", "gone")
        assert "Database is down" in log[0]["reason"] or "Entity" in log[0]["reason"]
        await asyncio.wait_for(made.connection.joined.wait(), 5)
        assert made.forgotten == ["gone"]
        assert made.asked == ["ill", "gone", "ill", "ill"]
        assert events(log) == ["conversations_not_joined", "conversations_joined"]


@pytest.mark.parametrize(
    "error", ["Cast to ObjectId failed", "Invalid ID format: gone. Must be a valid MongoDB ObjectId"], ids=["v1", "v2"]
)
async def test_only_final_refusals_are_no_reason_to_warn(transport: OpenTransport, error: str) -> None:
    gone: list[dict[str, Any] | None] = [{"success": False, "error": error}]
    async with room(transport, gone=gone) as made:
        assert await made.join("gone") == []
        await asyncio.wait_for(made.connection.joined.wait(), 5)
        assert made.forgotten == ["gone"]


async def test_a_refusal_before_the_platform_has_registered_the_socket_is_not_final(transport: OpenTransport) -> None:
    early: list[dict[str, Any] | None] = [{"success": False, "error": "Cannot read properties of undefined"}]
    async with a_room(transport, {"early": early}, registered=False) as made:
        assert events(await made.join("early")) == ["conversations_not_joined"]
        await asyncio.wait_for(made.connection.joined.wait(), 5)
        assert (made.asked, made.forgotten) == (["early", "early"], [])


async def test_what_the_agent_has_left_meanwhile_is_not_joined_again(transport: OpenTransport) -> None:
    async with room(transport, left=[{"success": False, "error": "Database is down"}]) as made:
        await made.join("left")
        made.known.clear()
        await asyncio.wait_for(made.connection.joined.wait(), 5)
        assert made.asked == ["left"]


async def test_a_connection_lost_meanwhile_is_a_failure(transport: OpenTransport) -> None:
    async with room(transport, lost=[None]) as made:

        async def cut() -> None:
            await eventually(lambda: "lost" in made.asked)
            assert made.peer is not None
            made.peer.abort()

        cutting = asyncio.create_task(cut())
        with pytest.raises(ConnectionLostError):
            await made.join("lost", "two", times=JoinTimes(ack=5.0, first_ack=5.0))
        await cutting
        assert not made.connection.joined.is_set()
