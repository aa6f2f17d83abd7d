"""What was said in a conversation, for handlers: from the journal and, before that, from the platform."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

from supervisor.core.command_words import without_commands
from supervisor.core.errors import PlatformError
from supervisor.core.records import JournaledMessage
from supervisor.handler import HistoryItem, Remembered
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.notices import NOTICES
from supervisor.protocol.history import HistoryRow
from supervisor.protocol.inbound import is_task

#: Pages are counted from the oldest row (docs/protocol.md#1-tokens), so the newest page may hold a few rows only.
PAGES: Final = 2
#: How many conversations are remembered of which the platform knows no more than the journal.
REMEMBERED: Final = 256
#: How long the platform may take; the person waits.
ASK_SECONDS: Final = 10.0
#: How long the platform is not asked after a failure: otherwise each message would wait for a slow platform.
PAUSE_SECONDS: Final = 60.0
#: What a handler may have remembered of one conversation.
MAX_REMEMBERED_CHARS: Final = 100_000
#: Types of rows in which the agent showed its work and said nothing.
_SHOWN: Final = frozenset({"thinking", "tool_call", "tool_use", "tool_result"})


class Recall:
    """Reads what was said in an agent's conversations.

    Args:
        has_commands: whether a person's ``/stop`` and its like are commands: those are left out.
        ask_seconds: how long the platform may take.
    """

    def __init__(
        self, history: AgentHistory, has_commands: Callable[[], bool], *, ask_seconds: float = ASK_SECONDS
    ) -> None:
        scope = history.scope
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._clock = scope.clock
        self._log = scope.log
        self._history = history
        self._has_commands = has_commands
        self._ask_seconds = ask_seconds
        self._ask_from = scope.clock.monotonic()
        # Conversations of which the platform has nothing older than the journal, by the time of the journal's oldest
        # message: once the journal forgets that message the platform is asked again.
        self._complete: OrderedDict[str, float] = OrderedDict()

    async def last(self, conversation_id: str, limit: int, up_to_id: int | None = None) -> list[HistoryItem]:
        """The last ``limit`` messages, oldest first; what the platform cannot tell is left out.

        Args:
            up_to_id: the number of the message that is worked on: what came after it is left out.

        Raises:
            RegistryError: the journal cannot be read.
        """
        rows = await self._journal.history(
            self._agent_id, conversation_id, limit, without_commands=self._has_commands(), up_to_id=up_to_id
        )
        known = [HistoryItem(*row) for row in rows]
        missing = limit - len(known)
        if missing <= 0 or not self._may_be_more(conversation_id, known):
            return known
        try:
            async with asyncio.timeout(self._ask_seconds):
                earlier = await self._earlier(conversation_id, known, missing)
        except (PlatformError, TimeoutError) as error:
            self._ask_from = self._clock.monotonic() + PAUSE_SECONDS
            reason = str(error) or f"no answer within {self._ask_seconds:g} s"
            self._log.debug("history_not_read", conversation=conversation_id, reason=reason)
            return known
        if known and not earlier:
            self._complete[conversation_id] = known[0].at
            self._complete.move_to_end(conversation_id)
            if len(self._complete) > REMEMBERED:
                self._complete.popitem(last=False)
        return [*earlier[-missing:], *known]

    async def remembered(self, conversation_id: str) -> Remembered | None:
        """What the handler keeps of a conversation in place of its beginning.

        Raises:
            RegistryError: the journal cannot be read.
        """
        return await self._journal.summaries.of(self._agent_id, conversation_id)

    async def remember(self, row: JournaledMessage, new: Remembered) -> bool:
        """Keep it; whether that was done.

        Args:
            row: the message that is worked on.

        Raises:
            ValueError: it is too long.
            RegistryError: it cannot be written.
        """
        if len(new.text) > MAX_REMEMBERED_CHARS:
            chars = f"{len(new.text):,} characters; {MAX_REMEMBERED_CHARS:,} are allowed"
            raise ValueError(f"what is to be remembered has {chars}")
        return await self._journal.summaries.keep(row, new)

    def _may_be_more(self, conversation_id: str, known: Sequence[HistoryItem]) -> bool:
        if is_task(conversation_id) or self._clock.monotonic() < self._ask_from or not self._history.can_be_read:
            return False
        return not known or self._complete.get(conversation_id) != known[0].at

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
        """The rows before the first one that the journal has; where it has none of them, the rows that are older."""
        oldest = min((item.at for item in known), default=None)
        keys = await self._history.journaled(rows)
        end = next((number for number, row in enumerate(rows) if row.id in keys), None)
        if end is not None:
            rows = rows[:end]
        else:
            # Less exact than the ids: the platform's clock and ours may differ.
            rows = [row for row in rows if row.at is None or oldest is None or row.at < oldest]
        if self._has_commands():
            rows = without_commands(rows, self._agent_id)
        return [
            HistoryItem(
                row.message.role,
                row.message.content,
                (oldest or 0.0) if row.at is None else row.at,
                row.message.sender.name,
            )
            for row in rows
            if row.message.type not in _SHOWN and row.message.content not in NOTICES
        ]
