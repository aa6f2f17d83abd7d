"""How an answer travels: lines, each with a mark that ties it to its question and to its place in the answer. No I/O.

Of an answer nothing can be changed, left out in between, or taken for that to another question; and whether it came to
its end is told by a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from supervisor.peers.signing import Key, Question, digest

#: A line of an answer may have so many bytes.
LINE_BYTES: Final = 4 << 20
_MARK_CHARS: Final = 64


class Kind(StrEnum):
    """What a line of an answer is: a piece of it, its end, or why it has none."""

    PIECE = "p"
    FAILED = "f"
    END = "e"


class ForgedError(Exception):
    """A line of an answer is not from whom was asked, or not of this answer."""


class Writer:
    """Makes the lines of one answer; JSON in a piece holds no line break."""

    def __init__(self, key: Key, question: Question) -> None:
        self._marks = _Marks(key, question)

    def line(self, kind: Kind, payload: bytes = b"") -> bytes:
        """The next line."""
        return f"{kind}{self._marks.next(kind, payload)}".encode() + payload + b"\n"


class Reader:
    """Reads the lines of one answer, however they are cut on their way."""

    def __init__(self, key: Key, question: Question) -> None:
        self._marks = _Marks(key, question)
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """The lines that are whole by now.

        Raises:
            ForgedError: one is not what was asked for, or too long.
        """
        self._rest += data
        while (end := self._rest.find(b"\n")) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            yield self._read(line)
        if len(self._rest) > LINE_BYTES:
            raise ForgedError("a line of the answer is too long")

    def _read(self, line: bytes) -> tuple[Kind, bytes]:
        try:
            kind, mark = Kind(line[:1].decode("ascii")), line[1 : _MARK_CHARS + 1].decode("ascii")
        except ValueError:
            raise ForgedError("what answers is no replica") from None
        payload = line[_MARK_CHARS + 1 :]
        if not self._marks.is_next(mark, kind, payload):
            raise ForgedError("the answer does not prove who gave it")
        return kind, payload


class _Marks:
    """The marks of one answer, line by line."""

    def __init__(self, key: Key, question: Question) -> None:
        self._key = key
        self._of = ("answer", question.target, question.nonce)
        self._number = 0

    def next(self, kind: Kind, payload: bytes) -> str:
        self._number += 1
        return self._key.mark(*self._of, self._number, kind, digest(payload))

    def is_next(self, mark: str, kind: Kind, payload: bytes) -> bool:
        self._number += 1
        return self._key.proves(mark, *self._of, self._number, kind, digest(payload))
