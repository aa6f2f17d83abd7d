"""What was said in a conversation, for handlers: from the journal and, before that, from the platform."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

from supervisor.core.command_words import without_commands
from supervisor.core.errors import PlatformError
from supervisor.handler import HistoryItem
from supervisor.messages.agent_history import AgentHistory
from supervisor.protocol.history import HistoryRow

#: The newest page may hold a few rows only (PROTOCOL §1: pages are counted from the oldest); then one more is read.
PAGES: Final = 2
#: Conversations of an agent of which it is remembered that the platform knows no more than the journal.
REMEMBERED: Final = 256
#: How long the platform may take; the person waits.
ASK_SECONDS: Final = 10.0
#: After a failure it is not asked again for so long, or each message of a slow platform would be late.
PAUSE_SECONDS: Final = 60.0
#: Rows that nobody said: what an earlier life of the agent showed of its work.
_SHOWN: Final = frozenset({"thinking", "tool_call", "tool_result"})


class Recall:
    """One agent's memory of its conversations.

    Args:
        has_commands: whether a person's ``/stop`` and its like are commands; then nobody said them to the agent.
    """

    def __init__(self, history: AgentHistory, has_commands: Callable[[], bool]) -> None:
        scope = history.scope
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._clock = scope.clock
        self._log = scope.log
        self._history = history
        self._has_commands = has_commands
        self._ask_from = scope.clock.monotonic()
        # The time of the journal's oldest message of a conversation, when nothing was found before it: that holds
        # until the journal forgets that message.
        self._whole: OrderedDict[str, float] = OrderedDict()

    async def last(self, conversation_id: str, limit: int) -> list[HistoryItem]:
        """The last ``limit`` messages, oldest first; what the platform cannot tell is left out.

        Raises:
            RegistryError: the journal cannot be read.
        """
        told = await self._journal.history(
            self._agent_id, conversation_id, limit, without_commands=self._has_commands()
        )
        known = [HistoryItem(*row) for row in told]
        missing = limit - len(known)
        if missing <= 0 or not self._may_be_more(conversation_id, known):
            return known
        try:
            async with asyncio.timeout(ASK_SECONDS):
                earlier = await self._earlier(conversation_id, known, missing)
        except (PlatformError, TimeoutError) as error:
            self._ask_from = self._clock.monotonic() + PAUSE_SECONDS
            reason = str(error) or f"no answer within {ASK_SECONDS:g} s"
            self._log.debug("history_not_read", conversation=conversation_id, reason=reason)
            return known
        if known and not earlier:
            self._whole[conversation_id] = known[0].at
            self._whole.move_to_end(conversation_id)
            if len(self._whole) > REMEMBERED:
                self._whole.popitem(last=False)
        return [*earlier[-missing:], *known]

    def _may_be_more(self, conversation_id: str, known: Sequence[HistoryItem]) -> bool:
        if self._clock.monotonic() < self._ask_from or not self._history.can_be_read:
            return False
        return not known or self._whole.get(conversation_id) != known[0].at

    async def _earlier(self, conversation_id: str, known: Sequence[HistoryItem], missing: int) -> list[HistoryItem]:
        """What the platform's newest rows hold from before the journal's oldest message, oldest first."""
        rows: list[HistoryRow] = []
        read = 0
        async with aclosing(self._history.backwards(conversation_id)) as pages:
            async for page in pages:
                rows = [*page, *rows]
                read += 1
                earlier = await self._before(rows, known)
                if len(earlier) >= missing or read == PAGES:
                    return earlier
        return await self._before(rows, known)

    async def _before(self, rows: Sequence[HistoryRow], known: Sequence[HistoryItem]) -> list[HistoryItem]:
        """The rows before the first one that the journal has; where it has none of them, those that are older."""
        oldest = known[0].at if known else None
        keys = await self._history.journaled(rows)
        end = next((number for number, row in enumerate(rows) if row.id in keys), None)
        if end is not None:
            rows = rows[:end]
        else:
            # Not so well: the platform's clock and ours may differ.
            rows = [row for row in rows if row.at is None or oldest is None or row.at < oldest]
        if self._has_commands():
            rows = without_commands(rows, self._agent_id)
        return [
            HistoryItem(row.message.role, row.message.content, (oldest or 0.0) if row.at is None else row.at)
            for row in rows
            if row.message.type not in _SHOWN
        ]
