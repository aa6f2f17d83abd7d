"""Asks the platform's history whether a doubtful reply arrived, where its ``_id`` cannot tell."""

from __future__ import annotations

from contextlib import aclosing

from supervisor.core.errors import SupervisorError
from supervisor.core.records import Reply
from supervisor.core.states import ReplyState
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.missed import was_delivered
from supervisor.messages.notices import UNASKED
from supervisor.protocol.history import HistoryRow

#: How many earlier replies of a conversation are compared with its newest rows.
REPLIES = 100
#: How many of the newest rows are looked at, at least.
ROWS = 100


class DeliveryCheck:
    """Looks for one agent's replies in the history."""

    def __init__(self, history: AgentHistory) -> None:
        self._agent_id = history.scope.agent_id
        self._journal = history.scope.journal
        self._log = history.scope.log
        self._history = history

    async def __call__(self, reply: Reply) -> bool:
        """Whether the platform has a reply whose send broke off; False in doubt, since twice is better than never."""
        if not self._history.can_be_read:
            return False
        try:
            return await self._is_there(reply)
        except SupervisorError as error:
            self._log.warning("delivery_not_checked", conversation=reply.conversation_id, reason=str(error))
            return False

    async def _is_there(self, reply: Reply) -> bool:
        rows: list[HistoryRow] = []
        async with aclosing(self._history.backwards(reply.conversation_id)) as pages:
            async for page in pages:
                rows = [*page, *rows]
                # The newest page may hold a single row, and people may have gone on writing.
                if len(rows) >= ROWS:
                    break
        if any(row.id == reply.message.id for row in rows):
            return True
        own = await self._journal.own_replies(self._agent_id, reply.conversation_id, before_id=reply.id, limit=REPLIES)
        arrived = (ReplyState.ACKED, ReplyState.UNKNOWN)
        before = [one.message.content for one in own if one.state in arrived]
        said = [row for row in rows if row.message.content not in UNASKED]
        return was_delivered(said, reply.message.content, reply.created_at, before, self._agent_id)
