"""Statements over many rows at once; why that matters stands in :mod:`supervisor.store.sqlite.batch`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

_MAX_ROWS: Final = 256
#: Up to so many rows a statement has as many as there are; more are made of powers of two, so that the texts are few.
_EXACT_ROWS: Final = 16


class ManyRows:
    """One statement over any number of rows: ``head (…), (…) tail``; the rows' values are bound by position.

    Args:
        columns: how many values a row has.
        one: what does the same to a single row, where that is cheaper; its values are ``?1``, ``?2`` and so on.
    """

    def __init__(self, head: str, columns: int, tail: str, *, one: str | None = None) -> None:
        self._head, self._tail = head, tail
        self._columns = columns
        self._row = f"({', '.join('?' * columns)})"
        self._texts: dict[int, str] = {} if one is None else {1: one}

    def execute(self, connection: sqlite3.Connection, values: Sequence[Any]) -> int:
        """Execute it for rows, whose values stand one row after the other; how many it inserted or changed."""
        changed = start = 0
        while left := (len(values) - start) // self._columns:
            rows = left if left <= _EXACT_ROWS else min(_MAX_ROWS, 1 << (left.bit_length() - 1))
            end = start + rows * self._columns
            text = self._texts.get(rows)
            if text is None:
                text = self._texts[rows] = f"{self._head} {', '.join([self._row] * rows)} {self._tail}"
            changed += connection.execute(text, values[start:end]).rowcount
            start = end
        return changed
