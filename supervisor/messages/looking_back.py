"""How far back a history is read for what was missed: pages come from the newest to the oldest. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from supervisor.protocol.history import HistoryRow

#: Text that one conversation may bring at once, in characters: what is older is left out.
MOST_CHARS: Final = 32 * 1024 * 1024
#: How long one conversation may be read.
MOST_SECONDS: Final = 120.0
#: Rows that are read for each message of others: an answer has its thinking and its tool calls beside it.
ROWS_FOR_ONE: Final = 10
#: Pages that are read however few messages are asked for.
LEAST_PAGES: Final = 10


def most_pages(messages: int, page_rows: int) -> int:
    """How many pages are asked for so that ``messages`` of others are among their rows."""
    return LEAST_PAGES + messages * ROWS_FOR_ONE // page_rows


class LookingBack:
    """The rows of one conversation that are worth a look.

    Args:
        agent_id: whose rows do not count.
        oldest: rows from before this (seconds since the epoch) are of no interest.
        messages: of others, as many as are looked for.

    Attributes:
        cut: why older rows are left out, in words; None where none are.
    """

    def __init__(self, agent_id: str, oldest: float, messages: int) -> None:
        self.cut: str | None = None
        self._agent_id = agent_id
        self._oldest = oldest
        self._messages = messages
        self._others = self._chars = 0
        self._newest_first: list[HistoryRow] = []

    @property
    def rows(self) -> Sequence[HistoryRow]:
        """What was found, oldest first."""
        return self._newest_first[::-1]

    def take(self, page: Sequence[HistoryRow], seconds: float) -> bool:
        """Whether older pages are wanted after this one.

        Args:
            page: its rows, oldest first.
            seconds: how long the conversation has been read.
        """
        for row in reversed(page):
            if row.at is not None and row.at < self._oldest:
                return False
            self._others += row.message.sender_agent_id != self._agent_id
            self._chars += len(row.message.content)
            if self._others > self._messages:
                self.cut = f"more than {self._messages} messages"
            elif self._chars > MOST_CHARS:
                self.cut = "too much text"
            if self.cut:
                return False
            self._newest_first.append(row)
        if seconds > MOST_SECONDS:
            self.cut = "reading it takes too long"
        return self.cut is None
