"""A message that is given up: a dead letter, and a word to the person, in one commit."""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.states import MessageState
from supervisor.handler import Reply
from supervisor.handlers import to_outbound
from supervisor.messages.notices import APOLOGY
from supervisor.messages.outbox import Outbox
from supervisor.messages.reply_ids import with_reply_id
from supervisor.messages.scope import Scope
from supervisor.store import Journal


async def bury(
    scope: Scope,
    outbox: Outbox,
    row: JournaledMessage,
    error: str,
    *,
    apology: str = APOLOGY,
    next_part: int = 0,
    told: Mapping[str, str] | None = None,
) -> None:
    """Make a dead letter and tell the person, once.

    Args:
        error: why, as it is kept with the message; its last line is logged.
        apology: what the person is told.
        next_part: the first number that no part of this attempt has: one may still be on its way into the journal.
        told: what the log's line has besides.

    Raises:
        RegistryError: the database refused it.
    """
    scope.log.error("dead_letter", number=row.id, reason=error.strip().rpartition("\n")[2], **(told or {}))
    replies = [await _apology(scope.journal, row, apology, next_part)] if row.message.said else []
    for reply in await scope.journal.settle(row, MessageState.DEAD, error=error, replies=replies) or ():
        outbox.push(reply, row)


async def _apology(journal: Journal, row: JournaledMessage, apology: str, next_part: int) -> NewReply:
    message = to_outbound(
        Reply(apology, type="error", error=apology), conversation_id=row.conversation_id, agent_id=row.agent_id
    )
    part = max([next_part, *(reply.part + 1 for reply in await journal.replies(row.id))])
    return NewReply(part, with_reply_id(message, row, part))
