"""A thread's stack is in the file once its time is up, whatever holds the interpreter's lock."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from supervisor.service.stack_timer import StackTimer

SECONDS = 20.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the timers are Linux's")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "words").open("w+b", buffering=0) as opened:
        opened.write(b"before\n")
        yield opened


def stand_until_written(file: BinaryIO) -> str:
    """Stand until something more is in the file."""
    before, until = file.tell(), time.monotonic() + SECONDS
    while file.seek(0, 2) == before:
        assert time.monotonic() < until
        # Some ten milliseconds within C, and nobody else gets a turn.
        re.match("(a+)+$", "a" * 16 + "b")
    file.seek(0)
    return file.read().decode()


def test_the_stack_of_the_thread_that_made_it_is_left(file: BinaryIO) -> None:
    timer = StackTimer(file.fileno())
    try:
        timer.arm(0.05)
        said = stand_until_written(file)
    finally:
        timer.close()
    assert said.startswith("before\n")
    assert "in stand_until_written" in said


def test_who_arms_it_again_in_time_or_stops_it_leaves_nothing(file: BinaryIO) -> None:
    timer = StackTimer(file.fileno())
    try:
        for later in (60.0, 0.0):
            timer.arm(0.2)
            timer.arm(later)
            time.sleep(0.3)
        assert file.seek(0, 2) == len(b"before\n")
    finally:
        timer.close()


def test_a_signal_that_somebody_else_uses_is_left_to_him(file: BinaryIO) -> None:
    number = signal.SIGRTMAX
    before = signal.signal(number, lambda _number, _frame: None)
    try:
        with pytest.raises(OSError, match="no signal to be had"):
            StackTimer(file.fileno())
    finally:
        signal.signal(number, before)
    StackTimer(file.fileno()).close()
