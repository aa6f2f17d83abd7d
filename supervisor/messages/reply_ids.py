"""The ids of replies: made of the message that they answer, so that a second attempt makes the same ones."""

from __future__ import annotations

import msgspec

from supervisor import protocol
from supervisor.core.records import JournaledMessage


def reply_id(row: JournaledMessage, part: int) -> str:
    """The ``_id`` of the n-th part of the reply to a message; a replay of the message has other ids."""
    return protocol.reply_id(row.agent_id, row.key, part, row.replay)


def with_reply_id(message: protocol.OutboundMessage, row: JournaledMessage, part: int) -> protocol.OutboundMessage:
    """A message with the ``_id`` that the n-th part of the reply has."""
    return msgspec.structs.replace(message, id=reply_id(row, part), parent_id=None)
