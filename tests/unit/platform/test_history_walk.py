"""The way back through a history: every row once, and an end whatever the platform says of its number."""

from __future__ import annotations

import pytest

from supervisor.platform.history_walk import HistoryWalk
from supervisor.protocol import parse_history
from supervisor.protocol.history import HistoryPage


class Platform:
    """A history of so many rows, which claims ``total`` of them.

    Attributes:
        repeating: whatever page is asked for, it gives the first.
        largest: rows that fit into an answer; one row of ``huge`` never does.
    """

    def __init__(self, rows: int, total: int | None = None) -> None:
        self.rows = list(range(rows))
        self.total = rows if total is None else total
        self.repeating = False
        self.largest = 1_000
        self.huge: set[int] = set()
        self.asked = 0

    def page(self, number: int, limit: int) -> HistoryPage | None:
        """None where it is too large."""
        self.asked += 1
        begin = 0 if self.repeating else (number - 1) * limit
        shown = self.rows[begin : begin + limit]
        if len(shown) > self.largest or self.huge & set(shown):
            return None
        data = [{"_id": f"{row:024x}", "role": "user", "content": str(row)} for row in shown]
        return parse_history({"data": data, "total": self.total, "limit": limit}, "c1", limit)


def walk_through(platform: Platform, limit: int = 100, most_pages: int = 50) -> tuple[list[int], HistoryWalk]:
    """What comes of it, oldest first."""
    first = platform.page(1, limit)
    assert first is not None
    walk = HistoryWalk(first, most_pages)
    return go_on(platform, walk), walk


def go_on(platform: Platform, walk: HistoryWalk) -> list[int]:
    """What comes of a walk whose first page is there, oldest first."""
    pages = []
    while (number := walk.page) is not None:
        page = platform.page(number, walk.limit)
        if page is None:
            walk.too_large()
        else:
            pages.append(walk.came(page))
    pages.append(walk.rest())
    return [int(row.message.content) for page in reversed(pages) for row in page]


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 250, 1_000])
def test_every_row_comes_once_in_its_order(rows: int) -> None:
    platform = Platform(rows)
    found, walk = walk_through(platform)
    assert (found, walk.cut, walk.skipped) == (list(range(rows)), None, 0)
    assert platform.asked <= 1 + rows // 100


@pytest.mark.parametrize("largest", [50, 10, 9, 1])
def test_what_does_not_fit_is_asked_for_in_parts(largest: int) -> None:
    platform = Platform(250)
    platform.largest = 1_000
    first = platform.page(1, 100)
    assert first is not None
    platform.largest = largest
    assert go_on(platform, HistoryWalk(first, 1_000)) == list(range(250))


def test_a_row_that_never_fits_is_skipped_and_counted() -> None:
    platform = Platform(250)
    platform.huge = {203}
    found, walk = walk_through(platform, most_pages=1_000)
    assert (found, walk.skipped, walk.cut) == ([row for row in range(250) if row != 203], 1, None)


def test_a_total_without_end_ends() -> None:
    platform = Platform(100, total=10**9)
    found, walk = walk_through(platform)
    # Nothing is on the pages that are claimed: what there is has come with the first.
    assert (found, platform.asked, walk.cut) == (list(range(100)), 4, None)


def test_a_platform_that_gives_the_same_page_is_asked_twice() -> None:
    platform = Platform(100, total=10**9)
    platform.repeating = True
    found, walk = walk_through(platform)
    assert (found, platform.asked) == (list(range(100)), 3)
    assert walk.cut is not None
    assert "same rows" in walk.cut


def test_a_history_of_many_pages_is_read_for_so_many_and_the_rest_is_left_out() -> None:
    platform = Platform(10_000)
    found, walk = walk_through(platform, most_pages=20)
    assert (found, platform.asked) == (list(range(8_000, 10_000)), 21)
    assert walk.cut == "older rows are on more than 20 pages"


def test_the_last_page_that_may_be_asked_for_leaves_nothing_out() -> None:
    found, walk = walk_through(Platform(500), most_pages=4)
    assert (found, walk.cut) == (list(range(500)), None)
