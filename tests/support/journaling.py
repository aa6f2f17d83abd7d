"""Messages and replies for tests of the journal."""

from __future__ import annotations

from supervisor.core.records import JournaledMessage, NewReply, Reply
from supervisor.core.states import MessageState
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.store import Journal

AGENT = "64b5f0c2a1d2e3f405060708"


def inbound(content: str = "hello", conversation: str = "c1", role: str = "user") -> InboundMessage:
    return InboundMessage(conversation_id=conversation, role=role, content=content)


def answer(content: str = "hi", part: int = 0, conversation: str = "c1") -> NewReply:
    return NewReply(part, OutboundMessage(role="assistant", content=content, conversation_id=conversation))


async def add(
    journal: Journal,
    key: str,
    *,
    agent: str = AGENT,
    at: float = 100.0,
    claim: bool = False,
    content: str = "hello",
    conversation: str = "c1",
) -> JournaledMessage:
    row = await journal.add(agent, inbound(content, conversation), key=key, received_at=at, claim=claim)
    assert row is not None
    return row


async def settle(journal: Journal, row: JournaledMessage, *replies: NewReply) -> list[Reply]:
    settled = await journal.settle(row, MessageState.DONE, replies=replies)
    assert settled is not None
    return settled
