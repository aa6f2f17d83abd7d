"""What ties an outcome to a send, frame by frame (docs/protocol.md#4-sending)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from supervisor.core.errors import AckTimeoutError, AlreadyStoredError, SendRefusedError, Verdict
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


async def ack_with(peer: Peer, ack_id: str, *arguments: Any) -> None:
    await peer.send(f"43/ws,{ack_id}" + json.dumps(arguments))


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


async def test_no_task_is_made_for_a_send(transport: OpenTransport) -> None:
    async def answer(peer: Peer, ack_id: str) -> None:
        await event(peer, "message:sent", success=True, messageId=OURS)
        await ack(peer, ack_id, success=True, messageId=OURS)

    made: list[str] = []

    def counting(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(repr(work))
        return asyncio.Task(work, loop=loop, **options)

    async with connected(transport, answer) as connection:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(counting)
        for _ in range(20):
            await connection.send(OURS, CONVERSATION, BODY, 5)
        loop.set_task_factory(None)
    assert made == []


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


SAYS_NOTHING = {"empty": (), "null": (None,), "word": ("received",), "object": ({},), "node": (None, {"ok": 1})}


@pytest.mark.parametrize("late", [False, True], ids=["event first", "ack first"])
@pytest.mark.parametrize("form", SAYS_NOTHING)
async def test_an_ack_that_says_nothing_leaves_it_to_the_event(transport: OpenTransport, form: str, late: bool) -> None:
    async def answer(peer: Peer, ack_id: str) -> None:
        if late:
            await ack_with(peer, ack_id, *SAYS_NOTHING[form])
        await event(peer, "message:sent", success=True, messageId=OURS)
        if not late:
            await ack_with(peer, ack_id, *SAYS_NOTHING[form])

    async with connected(transport, answer) as connection:
        for _ in range(sends.ACKLESS_SENDS + 1):
            assert await connection.send(OURS, CONVERSATION, BODY, 5) == OURS


@pytest.mark.parametrize("form", SAYS_NOTHING)
async def test_an_ack_that_says_nothing_and_no_event_is_in_doubt(transport: OpenTransport, form: str) -> None:
    async def answer(peer: Peer, ack_id: str) -> None:
        await ack_with(peer, ack_id, *SAYS_NOTHING[form])

    async with connected(transport, answer) as connection:
        with pytest.raises(AckTimeoutError, match="without a word"):
            await connection.send(OURS, CONVERSATION, BODY, 5)


async def test_an_ack_may_put_null_before_its_answer(transport: OpenTransport) -> None:
    answers: list[dict[str, Any]] = [
        {"success": True, "message": {"_id": THEIRS}},
        {"success": False, "error": "You do not have permission to create."},
    ]

    async def answer(peer: Peer, ack_id: str) -> None:
        await ack_with(peer, ack_id, None, answers.pop(0))

    async with connected(transport, answer) as connection:
        assert await connection.send(OURS, CONVERSATION, BODY, 5) == THEIRS
        with pytest.raises(SendRefusedError, match="permission"):
            await connection.send(OURS, CONVERSATION, BODY, 5)


@pytest.mark.parametrize(
    ("error", "kind", "verdict"),
    [
        (f"E11000 duplicate key error: {{ _id: ObjectId('{OURS}') }}", AlreadyStoredError, Verdict.REJECT),
        (f"MongoServerError: E11000 duplicate key error: {{ _id: '{OURS}' }}", AlreadyStoredError, Verdict.REJECT),
        (f"E11000 duplicate key error: {{ _id: ObjectId('{THEIRS}') }}", SendRefusedError, Verdict.RETRY),
        ("E11000 duplicate key error index: conversation_1_seq_1", SendRefusedError, Verdict.RETRY),
    ],
)
async def test_only_a_duplicate_of_our_own_id_is_stored(
    transport: OpenTransport, error: str, kind: type[SendRefusedError], verdict: Verdict
) -> None:
    async def answer(peer: Peer, ack_id: str) -> None:
        await ack(peer, ack_id, success=False, error=error)

    async with connected(transport, answer) as connection:
        with pytest.raises(SendRefusedError) as refused:
            await connection.send(OURS, CONVERSATION, BODY, 5)
    assert (type(refused.value), refused.value.verdict) == (kind, verdict)


async def test_a_join_that_is_acknowledged_without_a_word_is_no_refusal(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        frame = await peer.receive()
        await ack_with(peer, frame.removeprefix("42/ws,").partition("[")[0])

    async with gateway(script) as server, transport() as made:
        connection = Connection(AGENT, on_event=lambda *_: None)
        await bound(connection, made, server)
        assert await connection.join(CONVERSATION, 5)
        await connection.close()
