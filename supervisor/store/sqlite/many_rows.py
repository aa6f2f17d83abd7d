"""Statements over many rows at once; why that matters stands in :mod:`supervisor.store.sqlite.batch`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

_MAX_ROWS: Final = 256


class ManyRows:
    """One statement over any number of rows: ``head (…), (…) tail``; each row's values are bound by position.

    Args:
        one: what does the same to a single row, where that is cheaper; its values are ``?1``, ``?2`` and so on.
    """

    def __init__(self, head: str, columns: int, tail: str, *, one: str | None = None) -> None:
        self._head, self._tail = head, tail
        self._row = f"({', '.join('?' * columns)})"
        self._texts: dict[int, str] = {} if one is None else {1: one}

    def execute(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Execute it for ``rows``; the number of rows that it inserted or changed."""
        changed = 0
        for chunk in _powers_of_two(rows):
            text = self._texts.get(len(chunk))
            if text is None:
                text = self._texts[len(chunk)] = f"{self._head} {', '.join([self._row] * len(chunk))} {self._tail}"
            parameters = tuple([value for row in chunk for value in row])
            changed += connection.execute(text, parameters).rowcount
        return changed


def _powers_of_two(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    start, left = 0, len(rows)
    while left:
        size = min(_MAX_ROWS, 1 << (left.bit_length() - 1))
        yield rows[start : start + size]
        start += size
        left -= size
