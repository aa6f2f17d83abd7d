"""Processes that tests start can be ended with Ctrl-C, however the tests were started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

#: As a shell starts it in the background; then what the suite does; then a process as tests start them.
STARTED = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
{restore}
child = subprocess.Popen(
    [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"], stdout=subprocess.PIPE
)
child.stdout.readline()
child.send_signal(signal.SIGINT)
try:
    child.wait({seconds})
    print("ended")
except subprocess.TimeoutExpired:
    print("ignored it")
    child.kill()
signal.raise_signal(signal.SIGINT)
print("and we go on")
"""


@pytest.mark.parametrize(
    ("restore", "seconds", "told"),
    [
        ("from tests.support.interrupts import restore_interrupts; restore_interrupts()", 30, "ended"),
        ("", 0.5, "ignored it"),
    ],
)
def test_a_process_heeds_an_interrupt_that_its_parent_ignores(restore: str, seconds: float, told: str) -> None:
    script = STARTED.format(restore=restore, seconds=seconds)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [told, "and we go on"]
