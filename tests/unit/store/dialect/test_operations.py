"""What is committed, and what becomes of the caller's record: only what won changes it."""

from __future__ import annotations

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.states import IllegalTransitionError, MessageState, ReplyState
from supervisor.protocol import OutboundMessage
from supervisor.store.dialect import codec
from supervisor.store.dialect.codec import TextCodec
from supervisor.store.dialect.operations import (
    AddMessage,
    AddUsage,
    Barrier,
    NoteConversation,
    add_reply,
    move_message,
    move_reply,
)
from tests.support.journaling import AGENT, answer, inbound

TEXTS = TextCodec()


def message(state: MessageState = MessageState.RUNNING, attempts: int = 2) -> JournaledMessage:
    return JournaledMessage(7, AGENT, "k", inbound(), state, attempts, received_at=100.0)


async def test_a_message_gets_its_number_once_it_is_committed_and_is_none_where_its_key_is_known() -> None:
    row = message()
    operation = AddMessage(row=row, body=b"12345", number=41)
    assert (operation.bytes_held, row.id) == (5, 7)
    assert operation.result(won=False) is None
    assert row.id == 7
    assert operation.result(won=True) is row
    assert row.id == 41


async def test_a_move_that_lost_leaves_the_record_as_it_is() -> None:
    row = message()
    operation = move_message(TEXTS, row, MessageState.RETRYABLE, error="no", attempts=3, not_before=200.0)
    assert operation.expected == (MessageState.RUNNING, 2, 0)
    assert operation.result(won=False) is False
    assert (row.state, row.attempts, row.error) == (MessageState.RUNNING, 2, None)
    assert operation.result(won=True) is True
    assert (row.state, row.attempts, row.not_before, row.error) == (MessageState.RETRYABLE, 3, 200.0, "no")


async def test_what_is_compared_is_how_it_was_when_it_was_asked_for() -> None:
    row = message()
    operation = move_message(TEXTS, row, MessageState.AVAILABLE, error=None)
    row.attempts, row.not_before = 9, 9.0
    assert (operation.expected[1], operation.attempts, operation.not_before) == (2, 2, 0.0)


async def test_settling_gives_the_replies_their_numbers_with_it() -> None:
    row = message()
    operation = move_message(TEXTS, row, MessageState.DONE, error=None)
    operation.settling = True
    operation.replies = [add_reply(TEXTS, AGENT, row.id, answer(part=part), 5.0) for part in range(2)]
    for number, added in enumerate(operation.replies, start=80):
        added.number = number
    assert operation.bytes_held == sum(len(added.body) for added in operation.replies) > 0
    assert operation.result(won=False) is None
    settled = operation.result(won=True)
    assert isinstance(settled, list)
    assert [(reply.id, reply.part, reply.state, reply.inbox_id) for reply in settled] == [
        (80, 0, ReplyState.PENDING, 7),
        (81, 1, ReplyState.PENDING, 7),
    ]


@pytest.mark.parametrize("state", [MessageState.DONE, MessageState.CANCELLED])
async def test_what_is_settled_cannot_be_moved(state: MessageState) -> None:
    with pytest.raises(IllegalTransitionError):
        move_message(TEXTS, message(state), MessageState.RUNNING, error=None)


async def test_an_error_is_cut_to_what_is_kept_for_the_record_and_the_row_alike() -> None:
    row = message()
    long = "x" * 100_000
    operation = move_message(TEXTS, row, MessageState.DEAD, error=long)
    assert operation.error == operation.stored_error == codec.cut(long)
    assert operation.bytes_held == len(operation.stored_error or "") < len(long)


async def test_a_reply_that_lost_keeps_its_state() -> None:
    reply = add_reply(TEXTS, AGENT, None, answer(), 5.0).reply
    operation = move_reply(TEXTS, reply, ReplyState.SENT, "slow")
    operation.attempts = 1
    assert operation.result(won=False) is False
    assert (reply.state, reply.attempts, reply.error) == (ReplyState.PENDING, 0, None)
    assert operation.result(won=True) is True
    assert (reply.state, reply.attempts, reply.error) == (ReplyState.SENT, 1, "slow")


async def test_what_cannot_be_written_is_refused_before_it_is_submitted() -> None:
    said = OutboundMessage(role="assistant", content="x", conversation_id="c", usage={"tokens": object()})  # type: ignore[arg-type]
    with pytest.raises(RegistryError):
        add_reply(TEXTS, AGENT, None, NewReply(0, said), 5.0)


async def test_nothing_is_won_or_lost_with_what_is_only_noted() -> None:
    for operation in (
        Barrier(),
        AddUsage(records=[]),
        NoteConversation(agent_id=AGENT, conversation_id="c", last_seen=1.0),
    ):
        assert operation.bytes_held == 0
        assert operation.result(won=False) is None
