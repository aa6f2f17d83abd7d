"""Standard output and error of a process that must not wait for whoever reads them.

What a handler prints, what Python says of a thread that died or of a warning: all of it goes the way of the log's
lines, through a queue and a thread (:mod:`supervisor.telemetry.line_writer`).
"""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

from supervisor.telemetry.line_writer import LineWriter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Queued(io.RawIOBase):
    """The binary side of a stream whose texts are queued."""

    def __init__(self, stream: TextIO, writer: LineWriter | None) -> None:
        self.writer = writer or LineWriter(stream)
        self.name = getattr(stream, "name", "")
        self._number = stream.fileno()
        self._terminal = stream.isatty()

    def write(self, data: ReadableBuffer, /) -> int:
        """Queue ``data``; never waits."""
        text = bytes(data)
        self.writer.put(text)
        return len(text)

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def fileno(self) -> int:
        """The descriptor, for programs that are started with it; they wait for themselves."""
        return self._number

    def isatty(self) -> bool:
        """Whether a person reads."""
        return self._terminal


def divert() -> None:
    """Have ``sys.stdout`` and ``sys.stderr`` queue what is written, from now to the end of the process; idempotent."""
    same = _same_file()
    writer: LineWriter | None = None
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is not None and writer_of(stream) is None and _has_descriptor(stream):
            stream.flush()
            queued = _Queued(stream, writer if same else None)
            writer = queued.writer
            made = io.TextIOWrapper(
                queued, encoding=stream.encoding or "utf-8", errors="backslashreplace", line_buffering=True
            )
            setattr(sys, name, made)


def diverted() -> list[LineWriter]:
    """The writers of the standard streams that :func:`divert` made."""
    found = [writer_of(stream) for stream in (sys.stdout, sys.stderr) if stream is not None]
    return [writer for writer in found if writer is not None]


def _has_descriptor(stream: TextIO) -> bool:
    """Whether it leads out of the process: what somebody collects in memory keeps nobody waiting."""
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError):
        return False


def _same_file() -> bool:
    """Whether both streams are the same pipe, terminal or file, so that one writer keeps their lines apart."""
    try:
        return os.path.sameopenfile(1, 2)
    except OSError:
        return False


def writer_of(stream: TextIO) -> LineWriter | None:
    """The writer of a stream that :func:`divert` made; None for any other."""
    buffer = getattr(stream, "buffer", None)
    return buffer.writer if isinstance(buffer, _Queued) else None


def patient(number: int) -> int:
    """A descriptor on the same file as ``number`` whose writes never wait: what cannot be written at once is dropped.

    It is for what writes without a thread that could wait for it, such as the stacks of a process that stands. A
    regular file never keeps anybody waiting, and a socket cannot be opened again: they are returned as they are.
    """
    try:
        kind = os.fstat(number).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        # No /proc, or a terminal that is another user's.
        return number
    return number
