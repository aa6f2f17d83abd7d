"""Lines on their way out of the process: a bounded queue, and a thread that writes. Nobody waits for whoever reads.

A pipe that nobody reads, a terminal stopped with Ctrl-S, a driver that blocks, a full disk: each holds up the thread
alone. What does not fit any more is dropped, the oldest first, and counted (docs/faults.md#r28).
"""

from __future__ import annotations

import atexit
import io
import os
import queue
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TextIO

#: What waits at most, in lines and in characters: some minutes of a busy fleet's log.
MAX_LINES: Final = 10_000
MAX_CHARS: Final = 8 * 1024 * 1024
#: What is written at once, at most.
_BATCH_CHARS: Final = 64 * 1024
#: How often a descriptor that does not block, and takes nothing now, is looked at again, in milliseconds.
_POLL_MS: Final = 1000
#: How long the end of the process waits for its last lines.
LAST_SECONDS: Final = 1.0
_STANDARD: Final = (0, 1, 2)

#: Says in the log's own form how many lines are missing at this place.
Notice = Callable[[int], str]


class _Mark:
    """Stands in the queue behind what is to be written by then."""

    def __init__(self) -> None:
        self.reached = threading.Event()


class LineWriter:
    """Writes to one stream, in a thread of its own that begins with the first line.

    Args:
        stream: where to; by its descriptor where it has one, which does not touch the stream's own buffer and lock.
        notice: makes the text that stands where lines were lost; called in the writer's thread.
        max_lines, max_chars: what waits at most.
    """

    def __init__(
        self,
        stream: TextIO,
        notice: Notice | None = None,
        *,
        max_lines: int = MAX_LINES,
        max_chars: int = MAX_CHARS,
    ) -> None:
        self.notice = notice
        self._stream = stream
        self._file = _descriptor_of(stream)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._max_lines, self._max_chars = max_lines, max_chars
        self._torn = False  # the last write ended within a line; the thread's own
        self._closed = False
        self.lost = 0  # lines that were never written, so far
        self.begin()
        _writers.add(self)

    def begin(self) -> None:
        """With nothing waiting and no thread: as at first, and in a fork, which has no thread but its own."""
        # Reentrant, as all that is done under it: a finaliser or a signal's handler may log while its thread is here.
        self._lock = threading.RLock()
        self._waiting: deque[str | bytes | _Mark] = deque()
        self._lines = self._chars = 0
        self._unsaid = 0  # of the lost lines, those that no notice speaks of
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False
        self._thread: threading.Thread | None = None

    def put(self, text: str | bytes) -> None:
        """Have a text of whole lines written; never waits, never raises. From any thread."""
        if self._closed:
            self._count_lost(1)
            return
        with self._lock:
            self._lines += 1
            self._chars += len(text)
            self._waiting.append(text)
            if self._lines > self._max_lines or self._chars > self._max_chars:
                self._drop_oldest()
        self._stir()

    def _drop_oldest(self) -> None:
        marks = []
        while self._lines > self._max_lines or self._chars > self._max_chars:
            oldest = self._waiting.popleft()
            if isinstance(oldest, _Mark):
                marks.append(oldest)
            else:
                self._lines -= 1
                self._chars -= len(oldest)
                self._count_lost(1)
        self._waiting.extendleft(reversed(marks))

    def _count_lost(self, lines: int) -> None:
        with self._lock:
            self.lost += lines
            self._unsaid += lines
        with _totals_lock:
            _totals["lost"] += lines

    def _stir(self) -> None:
        """See to it that the thread runs."""
        with self._lock:
            if self._asleep:
                self._asleep = False
                self._wake.put(None)
            if self._thread is not None:
                return
            # A daemon: the end of the process waits for it only as long as flush() is told to.
            thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread is to be had now; the next line tries again.
                return
            self._thread = thread

    def flush(self, seconds: float) -> bool:
        """Wait until what was put so far is written or lost, for so long at most; whether it is."""
        if self._closed or (self._thread is None and not self._waiting):
            return not self._waiting
        mark = _Mark()
        with self._lock:
            self._waiting.append(mark)
        self._stir()
        return mark.reached.wait(seconds)

    def close(self, seconds: float) -> None:
        """Flush for so long at most, and end the thread once it is through; what is put after that is lost."""
        self.flush(seconds)
        self._closed = True
        _writers.discard(self)
        self._stir()

    def _run(self) -> None:
        while True:
            unsaid, texts, mark = self._take()
            if texts:
                self._write_all(unsaid, texts)
            if mark is not None:
                mark.reached.set()
            if texts or mark is not None:
                continue
            if self._closed:
                return self._let_go()
            self._wake.get()

    def _take(self) -> tuple[int, list[str | bytes], _Mark | None]:
        """What is to be written next: how many lines are missing before it, and whom to tell after it."""
        texts: list[str | bytes] = []
        size = 0
        with self._lock:
            while self._waiting and size < _BATCH_CHARS:
                one = self._waiting.popleft()
                if isinstance(one, _Mark):
                    return self._begin_write(texts), texts, one
                texts.append(one)
                size += len(one)
                self._lines -= 1
                self._chars -= len(one)
            self._asleep = not texts
            return self._begin_write(texts), texts, None

    def _begin_write(self, texts: list[str | bytes]) -> int:
        """How many lines are missing before ``texts``; the writing of these sees to it that it is said."""
        if not texts:
            return 0
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid

    def _write_all(self, unsaid: int, texts: list[str | bytes]) -> None:
        if unsaid and self.notice is not None:
            self._say_lost(unsaid, self.notice)
        try:
            written = self._write(texts)
        except Exception:  # noqa: BLE001  whatever it is, the thread goes on, and the lines are counted
            written = 0
        if written < len(texts):
            self._count_lost(len(texts) - written)

    def _say_lost(self, lines: int, notice: Notice) -> None:
        try:
            text = notice(lines)
        except Exception as error:  # noqa: BLE001  the number is to be there whatever the form's trouble is
            text = f"{lines} log lines were lost ({type(error).__name__})\n"
        if text and not self._write([text]):
            # Nothing of it is out: it is said when something goes out again.
            with self._lock:
                self._unsaid += lines

    def _write(self, texts: list[str | bytes]) -> int:
        """Write as much as can be; how many of ``texts`` are out in full."""
        if self._file is None:
            return self._write_to_stream(texts)
        written = 0
        for group in _in_groups([text if isinstance(text, bytes) else self._encoded(text) for text in texts]):
            whole = self._write_group(self._file, group)
            written += whole
            if whole < len(group):
                break
        return written

    def _write_group(self, file: int, group: list[bytes]) -> int:
        data = memoryview((b"\n" if self._torn else b"") + b"".join(group))
        end, out = int(self._torn), 0
        while out < len(data):
            try:
                out += os.write(file, data[out:])
            except BlockingIOError:
                poll = select.poll()
                poll.register(file, select.POLLOUT)
                poll.poll(_POLL_MS)
            except OSError:
                break
        whole = 0
        while whole < len(group) and end + len(group[whole]) <= out:
            end += len(group[whole])
            whole += 1
        self._torn = out > end or (self._torn and not out)
        return whole

    def _write_to_stream(self, texts: list[str | bytes]) -> int:
        written = b"".join(one if isinstance(one, bytes) else self._encoded(one) for one in texts)
        text = written.decode(self._encoding, "backslashreplace")
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return 0
        return len(texts)

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._encoding, "backslashreplace")

    def _let_go(self) -> None:
        if self._file is not None and self._file not in _STANDARD:
            os.close(self._file)
            self._file = None


_writers: Final[weakref.WeakSet[LineWriter]] = weakref.WeakSet()
_totals: Final = {"lost": 0}
_totals_lock: Final = threading.RLock()


def lines_lost() -> int:
    """How many lines this process has lost, whatever they were written to."""
    return _totals["lost"]


def flush_all(seconds: float = LAST_SECONDS) -> bool:
    """Have what waits in any writer written, for so long at most in all; whether it is."""
    until = time.monotonic() + seconds
    # Each has its turn, whatever became of those before.
    written = [writer.flush(max(0.0, until - time.monotonic())) for writer in list(_writers)]
    return all(written)


def _begin_all() -> None:
    for writer in list(_writers):
        writer.begin()


# A fork has perhaps a lock that a thread held, and lines that its parent writes.
os.register_at_fork(after_in_child=_begin_all)
atexit.register(flush_all)


def _in_groups(texts: list[bytes]) -> Iterator[list[bytes]]:
    """Texts together, as many as a pipe takes in one piece: what others write to it stands between lines."""
    group: list[bytes] = []
    size = 0
    for text in texts:
        if group and size + len(text) > select.PIPE_BUF:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group


def _descriptor_of(stream: TextIO) -> int | None:
    """What a stream writes to, ours alone unless it is one of the process's standard streams; None: it has none.

    A descriptor that its owner closes is given to the next file that is opened: lines must never go there.
    """
    try:
        stream.flush()
        number = stream.fileno()
        return number if number in _STANDARD else os.dup(number)
    except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
        return None
