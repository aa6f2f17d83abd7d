"""What ties an outcome to a send, frame by frame (docs/protocol.md#4-sending)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from supervisor.core.errors import AckTimeoutError, SendRefusedError
from supervisor.platform import sends
from supervisor.platform.connection import Connection
from tests.support.connecting import AGENT, OpenTransport, bound
from tests.support.gateway import Peer, gateway

CONVERSATION = "c" * 24
OURS, THEIRS, FOREIGN = "a" * 24, "b" * 24, "f" * 24
BODY = json.dumps({"_id": OURS, "conversationId": CONVERSATION, "content": "hi", "participantId": AGENT}).encode()
NOTICE = "Sorry, I have too many messages waiting."

Answer = Callable[[Peer, str], Awaitable[None]]


async def event(peer: Peer, name: str, **payload: Any) -> None:
    await peer.send("42/ws," + json.dumps([name, payload]))


async def ack(peer: Peer, ack_id: str, **answer: Any) -> None:
    await peer.send(f"43/ws,{ack_id}" + json.dumps([answer]))


async def echo(peer: Peer, content: str, known_as: str) -> None:
    await event(
        peer, "message:new", _id=known_as, conversationId=CONVERSATION, content=content, participantId=AGENT, role="x"
    )


@asynccontextmanager
async def connected(transport: OpenTransport, answer: Answer) -> AsyncIterator[Connection]:
    """A connection to a platform that answers each ``message:send`` as told."""

    async def script(peer: Peer) -> None:
        await peer.join()
        await event(peer, "presence:update", type="agent", agentId=AGENT, status="online")
        while True:
            frame = await peer.receive()
            if "message:send" in frame:
                await answer(peer, frame.removeprefix("42/ws,").partition("[")[0])

    async with gateway(script) as server, transport() as made:
        connection = Connection(AGENT, on_event=lambda *_: None, ackless_grace_seconds=0.1)
        await bound(connection, made, server)
        try:
            yield connection
        finally:
            await connection.close()


async def test_an_outcome_with_a_foreign_id_is_not_the_sends_while_its_ack_is_late(transport: OpenTransport) -> None:
    async def answer(peer: Peer, ack_id: str) -> None:
        # A notice of ours that nobody waits for, in the same conversation, is stored at this moment.
        await echo(peer, NOTICE, FOREIGN)
        await event(peer, "message:sent", success=True, messageId=FOREIGN)
        await asyncio.sleep(0.3)
        await ack(peer, ack_id, success=False, error="You do not have permission to create.")

    async with connected(transport, answer) as connection:
        with pytest.raises(SendRefusedError, match="permission"):
            await connection.send(OURS, CONVERSATION, BODY, 5)


@pytest.mark.parametrize("known_as", [OURS, THEIRS], ids=["v1 keeps our id", "v2 gives its own"])
async def test_without_an_ack_the_id_of_our_echo_ties_the_outcome(transport: OpenTransport, known_as: str) -> None:
    async def answer(peer: Peer, ack_id: str) -> None:
        await echo(peer, "hi", known_as)
        await event(peer, "message:sent", success=True, messageId=FOREIGN)
        await event(peer, "message:sent", success=True, messageId=known_as)

    async with connected(transport, answer) as connection:
        for _ in range(sends.ACKLESS_SENDS):
            assert await connection.send(OURS, CONVERSATION, BODY, 5) == known_as


async def test_an_outcome_without_an_id_settles_the_only_send(transport: OpenTransport) -> None:
    async def answer(peer: Peer, ack_id: str) -> None:
        await event(peer, "message:error", success=False, error="You do not have permission to create.")

    async with connected(transport, answer) as connection:
        with pytest.raises(SendRefusedError, match="permission"):
            await connection.send(OURS, CONVERSATION, BODY, 5)


async def test_a_server_that_neither_acks_nor_echoes_is_known_as_such_in_the_end(transport: OpenTransport) -> None:
    async def answer(peer: Peer, ack_id: str) -> None:
        await event(peer, "message:sent", success=True, messageId=THEIRS)

    async with connected(transport, answer) as connection:
        for _ in range(sends.ACKLESS_SENDS):
            with pytest.raises(AckTimeoutError):
                await connection.send(OURS, CONVERSATION, BODY, 0.3)
        assert await connection.send(OURS, CONVERSATION, BODY, 5) == THEIRS
