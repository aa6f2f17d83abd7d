"""Which page of a history is asked for next, from the newest back, and when there is no use in asking. No I/O."""

from __future__ import annotations

from typing import Final

from supervisor.protocol.history import HistoryPage, HistoryRow

#: A page that is too large is asked for again in so many parts.
PARTS: Final = 10
#: After so many pages without a row the platform's ``total`` is not believed.
EMPTY_PAGES: Final = 3


class HistoryWalk:
    """The way back through one conversation, whose pages the platform counts from the oldest.

    It ends where the platform brings nothing new, and after so many pages: a ``total`` proves nothing.

    Args:
        first: page 1, which says how many there are, and is not asked for again.
        most_pages: how many are asked for beside it.

    Attributes:
        limit: rows to ask for on a page.
        cut: why older rows are left out, in words; None where none are.
        skipped: rows that are too large to be read.
    """

    def __init__(self, first: HistoryPage, most_pages: int) -> None:
        self.limit = first.limit
        self.cut: str | None = None
        self.skipped = 0
        self._first = first
        self._pages_left = self._most_pages = most_pages
        self._empty = 0
        # Rows that are older than all that was read.
        self._rows_left = first.total
        self._seen: set[str] = set()

    @property
    def page(self) -> int | None:
        """The number of the page to ask for; None where the first one has what is left, or the rest is left out."""
        if self.cut or self._rows_left <= self._first.limit or self._empty == EMPTY_PAGES:
            return None
        return -(-self._rows_left // self.limit)

    def came(self, page: HistoryPage) -> tuple[HistoryRow, ...]:
        """The page that was asked for is here; its rows, without those that came before."""
        self._rows_left = (-(-self._rows_left // self.limit) - 1) * self.limit
        self._empty = 0 if page.length else self._empty + 1
        new = self._new(page)
        if page.rows and not new:
            self.cut = "the platform gives the same rows again and again"
        self._count()
        return new

    def too_large(self) -> None:
        """The page that was asked for is too large: smaller ones are asked for, down to a row, which is skipped."""
        if self.limit > 1:
            self.limit = max(1, self.limit // PARTS)
        else:
            self._rows_left -= 1
            self.skipped += 1
        self._count()

    def rest(self) -> tuple[HistoryRow, ...]:
        """What is left of the first page, once there is no other to ask for."""
        return () if self.cut else self._new(self._first)

    def _count(self) -> None:
        self._pages_left -= 1
        if self._pages_left <= 0 and self.page is not None:
            self.cut = f"older rows are on more than {self._most_pages} pages"

    def _new(self, page: HistoryPage) -> tuple[HistoryRow, ...]:
        new = tuple(row for row in page.rows if row.id not in self._seen)
        self._seen.update(row.id for row in new)
        return new
