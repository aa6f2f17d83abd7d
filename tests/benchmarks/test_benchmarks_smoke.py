"""The benchmarks themselves work, on a handful of agents. Run with ``pytest -m benchmark``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
TINY = ("--agents", "5", "--round-trips", "50", "--warm-up", "5", "--hot-adds", "2", "--rounds", "1")


@pytest.mark.benchmark
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node with npm: apt-get install npm")
def test_every_scenario_measures_both_bare_clients(tmp_path: Path) -> None:
    kept = tmp_path / "samples.json"
    command = [sys.executable, str(RUN), *TINY, "--opponents", "node,python", "--json", str(kept)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(kept.read_text())
    assert {name: sorted(by_client) for name, by_client in report["samples"].items()} == {
        name: ["node", "python"] for name in ("echo", "storm", "memory", "hot-add")
    }
    assert report["notes"] == []
    for by_client in report["samples"].values():
        assert all(
            sample["echo_typings"] == [2.0]
            for turns in by_client.values()
            for sample in turns
            if "echo_typings" in sample
        )
    for turns in report["samples"]["hot-add"].values():
        assert [len(sample["hot_add_ms"]) for sample in turns] == [2]


@pytest.mark.benchmark
@pytest.mark.timeout(300)
def test_assistants_are_measured_beside_the_bare_client(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN.with_name("assistants.py")), "--agents", "3", "--rounds", "1", "--delay", "0.1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("3 at once on a model that takes 0.1 s")
    assert len(ran.stdout.splitlines()) == 7
