"""Asks the platform's history whether a doubtful reply arrived, where its ``_id`` cannot tell (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from supervisor.core.errors import SupervisorError
from supervisor.core.records import Reply
from supervisor.core.states import ReplyState
from supervisor.messages.missed import NOTICES, was_delivered
from supervisor.platform.history import Access, PlatformHistory
from supervisor.protocol import HistoryRow
from supervisor.store import Journal

#: Earlier replies of a conversation that are compared with its newest rows.
REPLIES = 100
#: Newest rows that are looked at, at least.
ROWS = 100


class DeliveryCheck:
    """Looks for one agent's replies in the history.

    Args:
        access: where to ask and with what; asked each time, both change.
    """

    def __init__(
        self,
        agent_id: str,
        history: PlatformHistory,
        journal: Journal,
        *,
        access: Callable[[], Access],
        log: Any,
    ) -> None:
        self._agent_id = agent_id
        self._history = history
        self._journal = journal
        self._access = access
        self._log = log

    async def __call__(self, reply: Reply) -> bool:
        """Whether the platform has a reply whose send broke off. In doubt it has not: twice is better than never."""
        access = self._access()
        if not access.token or not self._history.may_have(access.api_url):
            return False
        try:
            return await self._is_there(reply, access)
        except SupervisorError as error:
            self._log.warning("delivery_not_checked", conversation=reply.conversation_id, reason=str(error))
            return False

    async def _is_there(self, reply: Reply, access: Access) -> bool:
        rows: list[HistoryRow] = []
        async with aclosing(self._history.backwards(access, reply.conversation_id)) as pages:
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
        said = [row for row in rows if row.message.content not in NOTICES]
        return was_delivered(said, reply.message.content, reply.created_at, before, self._agent_id)
