"""Prometheus' own checks, where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


@pytest.fixture
def promtool() -> str:
    """The path of ``promtool``; missing, the test is skipped with the way to install it, but fails in CI."""
    found = shutil.which("promtool")
    if found is None:
        reason = "no promtool; install it with: sudo apt-get install --no-install-recommends prometheus"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def complaints(promtool: str, text: str) -> str:
    """What ``promtool check metrics`` says of an answer in Prometheus' text format; empty when it is clean."""
    ran = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    found = ran.stdout + ran.stderr
    return found if found or ran.returncode == 0 else f"exit status {ran.returncode}"
