"""The image and compose.yaml with a real engine, by hand: pytest -m soak tests/e2e/test_engine.py."""

from __future__ import annotations

import os
import subprocess
from shutil import which

import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "deploy" / "check-engine"


def check(*steps: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *steps], env=os.environ | variables, capture_output=True, text=True, timeout=1500, check=False
    )


def test_without_an_engine_it_says_what_it_did_not_check() -> None:
    done = check(ENGINE="no-such-engine")
    assert done.returncode == 69
    assert "neither the image's build, nor a container, nor compose.yaml was checked" in done.stdout


@pytest.mark.soak
@pytest.mark.timeout(1600)
def test_the_image_is_built_and_run_and_compose_comes_up() -> None:
    if which("docker") is None or subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no engine answers; start one: dockerd")
    done = check()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checked: the image builds" in done.stdout
