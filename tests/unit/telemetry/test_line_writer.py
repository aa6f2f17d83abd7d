"""A queue and a thread between those who write lines and whoever reads them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from supervisor.telemetry.line_writer import LineWriter, lines_lost

SECONDS = 30.0


@contextmanager
def pipe(encoding: str = "utf-8") -> Iterator[tuple[int, TextIO]]:
    """A pipe's end to read from, and the stream that writes to it."""
    reads, writes = os.pipe()
    with os.fdopen(writes, "w", encoding=encoding) as stream:
        yield reads, stream
    os.close(reads)


def read_lines(descriptor: int, until: bytes) -> list[bytes]:
    """Read until a line is there."""
    found = b""
    while not found.endswith(until):
        found += os.read(descriptor, 1 << 16)
    return found.splitlines()


def test_whoever_writes_does_not_wait_and_what_is_lost_is_told_where_it_is_missing() -> None:
    before = lines_lost()
    with pipe() as (reads, stream):
        writer = LineWriter(stream, lambda lines: f"lost {lines}\n", max_lines=100)
        line = "x" * 1000
        for number in range(1000):
            writer.put(f"{number} {line}\n")
        assert not writer.flush(0.0)
        lost = writer.lost
        assert lost >= 1000 - 100 - 200, "a pipe and a batch hold some"
        assert lines_lost() - before == lost
        found = read_lines(reads, f"999 {line}\n".encode())
        assert writer.flush(SECONDS)
        numbers, told = [], 0
        for one in found:
            first, second = one.split()
            if first == b"lost":
                told += int(second)
                continue
            numbers.append(int(first))
            assert numbers[-1] == len(numbers) + told - 1, (
                "the oldest that waited are dropped, and told where they were"
            )
        assert told == lost == 1000 - len(numbers)
        writer.close(SECONDS)


def test_a_stream_that_fails_costs_the_lines_that_it_refused_and_no_others() -> None:
    with open("/dev/full", "w", encoding="utf-8") as stream:  # noqa: PTH123  a device
        writer = LineWriter(stream)
        for _ in range(3):
            writer.put("line\n")
            assert writer.flush(SECONDS)
        assert writer.lost == 3
        writer.close(SECONDS)
    writer.put("too late\n")
    assert writer.lost == 4


def test_a_descriptor_that_its_owner_closed_is_not_written_to_when_another_file_has_it() -> None:
    with pipe() as (reads, stream):
        writer = LineWriter(stream)
        other, writes = os.pipe()
        number = stream.fileno()
        stream.close()
        os.dup2(writes, number)
        writer.put("line\n")
        assert writer.flush(SECONDS)
        assert read_lines(reads, b"line\n") == [b"line"]
        os.set_blocking(other, False)
        with pytest.raises(BlockingIOError):
            os.read(other, 1)
        for one in (other, writes, number):
            os.close(one)
        writer.close(SECONDS)


def test_a_descriptor_that_does_not_block_is_waited_for_in_the_thread() -> None:
    with pipe() as (reads, stream):
        os.set_blocking(stream.fileno(), False)
        writer = LineWriter(stream)
        for number in range(300):
            writer.put(f"{number} {'x' * 1000}\n")
        found = read_lines(reads, f"299 {'x' * 1000}\n".encode())
        assert len(found) == 300
        writer.close(SECONDS)


@pytest.mark.parametrize(("encoding", "written"), [("latin-1", b"\xe9 \\u4f60"), ("ascii", b"\\xe9 \\u4f60")])
def test_what_the_encoding_has_not_is_written_by_its_number(encoding: str, written: bytes) -> None:
    with pipe(encoding) as (reads, stream):
        writer = LineWriter(stream)
        writer.put("é 你\n")
        assert read_lines(reads, b"\n") == [written]
        writer.close(SECONDS)


def put_often(writer: LineWriter, text: str) -> None:
    for _ in range(200):
        writer.put(text)


def test_lines_of_many_threads_stay_whole() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    texts = [f"{letter}" * 50 + "\n" for letter in "abcdefgh"]
    threads = [threading.Thread(target=put_often, args=(writer, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush(SECONDS)
    found = stream.getvalue().splitlines(keepends=True)
    assert sorted(found) == sorted(texts * 200)
    writer.close(SECONDS)


FORKS = """
import os, sys
from supervisor.telemetry.line_writer import LineWriter

writer = LineWriter(sys.stdout)
writer.put("parent\\n")
assert writer.flush(30)
child = os.fork()
if not child:
    writer.put("child\\n")
    os._exit(0 if writer.flush(30) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_fork_writes_its_own_lines() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [b"parent", b"child"]
