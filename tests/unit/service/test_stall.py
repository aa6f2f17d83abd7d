"""What a stall or a crash leaves for the next start, and that it is taken back where the loop goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the timer is Linux's")

STANDS = """
import asyncio, ctypes, os, sys, time
from supervisor.service.stall import StallExit

async def main():
    went_on = asyncio.Event()
    with open(sys.argv[1], "wb", buffering=0) as file:
        stall = StallExit(0.5)
        watching = asyncio.ensure_future(stall.run())
        await asyncio.sleep(0)
        stall.leave_word(file.fileno(), went_on.set)
        exec(sys.argv[2])
        await went_on.wait()
        stall.leave_no_word()
        stall.leave_no_word()
        watching.cancel()
        print("went on")

asyncio.run(main())
"""


def stand(words: Path, how: str) -> subprocess.CompletedProcess[str]:
    """Have a loop stand in a process of its own, for 1.5 s at most."""
    command = [sys.executable, "-c", STANDS, str(words), how]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("how", "code", "word"),
    [
        ("time.sleep(60)", 1, "Stack (most recent call first):"),
        ("ctypes.string_at(0)", -11, "Fatal Python error: Segmentation fault"),
    ],
)
def test_a_death_leaves_its_stack(tmp_path: Path, how: str, code: int, word: str) -> None:
    words = tmp_path / "words"
    died = stand(words, how)
    assert died.returncode == code, died.stderr
    assert words.read_text().startswith(word)
    assert " in main" in words.read_text()
    assert ("Timeout" in died.stderr) == (code == 1), "the stacks of a stall are on standard error too"


def test_a_loop_that_goes_on_in_the_last_moment_says_so_and_lives(tmp_path: Path) -> None:
    lived = stand(tmp_path / "words", "while not file.tell():\n    file.seek(0, 2)")
    assert (lived.returncode, lived.stdout) == (0, "went on\n"), lived.stderr
