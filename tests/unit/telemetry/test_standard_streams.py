"""Standard output and error that nobody waits for, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Fills a pipe that is not read, in every way that ends at standard output or error; then ends.
FILLS = """
import logging, sys, threading, warnings
from supervisor.telemetry import logs, standard_streams

standard_streams.divert()
logs.configure("INFO", "json")
def dies():
    raise RuntimeError("x" * 100_000)
for _ in range(5):
    print("x" * 100_000)
    print("x" * 100_000, file=sys.stderr, flush=True)
    sys.stderr.buffer.write(b"x" * 100_000)
    warnings.warn("x" * 100_000, stacklevel=1)
    thread = threading.Thread(target=dies)
    thread.start()
    thread.join()
    logging.getLogger("x").warning("y" * 400)
logging.getLogger("x").critical("the end")
{end}
"""
STANDS = """
import asyncio, logging, os, sys, time
from supervisor.service.stall import StallExit

async def main():
    asyncio.ensure_future(StallExit(0.2).run())
    await asyncio.sleep(0)
    time.sleep(600)

os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    os.set_blocking(2, True)
asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["", "sys.exit(0)"])
@pytest.mark.parametrize("together", [True, False])
def test_a_process_ends_although_nobody_reads_what_it_writes(end: str, together: bool) -> None:
    reads, writes = os.pipe()
    other_reads, other = os.pipe()
    command = [sys.executable, "-c", FILLS.format(end=end)]
    with subprocess.Popen(command, stdout=writes if together else other, stderr=writes) as child:
        assert child.wait(30) == 0
    for one in (reads, writes, other_reads, other):
        os.close(one)


def test_the_last_lines_are_there_where_somebody_reads() -> None:
    done = subprocess.run([sys.executable, "-c", FILLS.format(end="")], capture_output=True, timeout=30, check=True)
    lines = done.stderr.splitlines()
    assert len(done.stdout) == 5 * 100_001
    assert sum(b"RuntimeError" in line for line in lines) == 5
    assert b'"event": "the end"' in lines[-1]


def test_a_process_that_stands_ends_although_nobody_reads_its_stacks(tmp_path: Path) -> None:
    script = tmp_path / "stands.py"
    script.write_text(STANDS)
    reads, writes = os.pipe()
    with subprocess.Popen([sys.executable, str(script)], stderr=writes) as child:
        assert child.wait(30) == 1
    os.close(reads)
    os.close(writes)
