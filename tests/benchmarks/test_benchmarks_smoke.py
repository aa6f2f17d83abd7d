"""The benchmarks themselves work, on a handful of agents. Most take Node, and are run with ``pytest -m benchmark``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
SCRAPE = Path(__file__).with_name("scrape.py")
ANSWER = Path(__file__).with_name("answer.py")
TINY = ("--agents", "5", "--round-trips", "50", "--warm-up", "5", "--hot-adds", "2", "--rounds", "1")
SCENARIOS = ("cold-start", "echo", "hot-add", "idle", "latency", "memory", "storm")


@pytest.mark.benchmark
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node with npm: apt-get install npm")
def test_every_scenario_measures_both_bare_clients_and_a_foreign_program(tmp_path: Path) -> None:
    kept = tmp_path / "samples.json"
    foreign = RUN.parent / "clients" / "bare_python.py"
    options = ("--idle-seconds", "1", "--opponents", "node,python", "--trial", str(foreign), "--json", str(kept))
    command = [sys.executable, str(RUN), *TINY, *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(kept.read_text())
    found = {name: sorted(by_client) for name, by_client in report["samples"].items()}
    assert found == {name: ["node", "python", "trial"] for name in SCENARIOS}
    assert ran.stdout.splitlines()[0].split()[-2:] == ["/", "trial"]
    assert report["notes"] == []
    for by_client in report["samples"].values():
        assert all(
            sample["echo_typings"] == [2.0]
            for turns in by_client.values()
            for sample in turns
            if "echo_typings" in sample
        )
    rates = [turn["latency_rate"] for turns in report["samples"]["latency"].values() for turn in turns]
    carried = [turn["echo_rate"][0] for turns in report["samples"]["echo"].values() for turn in turns]
    assert rates == [[pytest.approx(min(carried) / 2, abs=1)]] * 3
    for turns in report["samples"]["hot-add"].values():
        assert [len(sample["hot_add_ms"]) for sample in turns] == [2]


@pytest.mark.benchmark
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node with npm: apt-get install npm")
def test_the_supervisor_is_measured_at_a_rate_cold_and_idle(tmp_path: Path) -> None:
    kept = tmp_path / "samples.json"
    options = ("--only", "latency,cold-start,idle", "--latency-rate", "100", "--idle-seconds", "1", "--json", str(kept))
    command = [sys.executable, str(RUN), *TINY, "--opponents", "supervisor", *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    [latency], [cold], [idle] = (turns["supervisor"] for turns in json.loads(kept.read_text())["samples"].values())
    assert 0 < latency["latency_p50_ms"][0] <= latency["latency_p99_ms"][0]
    assert latency["latency_rate"] == [100]
    assert cold["cold_cpu_s"][0] > 0
    assert idle["idle_cpu_ms"][0] > 0


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node with npm: apt-get install npm")
@pytest.mark.benchmark
def test_a_latency_run_without_a_rate_says_what_it_needs(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), *TINY, "--only", "latency"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    assert "latency needs echo in the same run, or --latency-rate" in ran.stderr


@pytest.mark.benchmark
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node with npm: apt-get install npm")
def test_fleets_of_two_sizes_are_measured_and_one_past_the_limit_is_named(tmp_path: Path) -> None:
    kept = tmp_path / "growth.json"
    options = ("--sizes", "2,4,100000000", "--round-trips", "40", "--idle-seconds", "1", "--json", str(kept))
    command = [sys.executable, str(RUN.with_name("growth.py")), *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    *measured, (size, _, reason) = json.loads(kept.read_text())
    assert [(size, name) for size, name, _ in measured] == [
        (n, name) for n in (2, 4) for name in ("supervisor", "node")
    ]
    assert all(len(figures) == 4 and figures[1] > 10 for _, _, figures in measured)
    assert size == 100_000_000
    assert "open files" in reason


def scraped(folder: Path, *options: str) -> dict[str, dict[str, list[float]]]:
    kept = folder / "values.json"
    command = [sys.executable, str(SCRAPE), "--rounds", "1", *options, "--json", str(kept)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0].split() == ["supervisor", "prometheus_client", "ratio"]
    values: dict[str, dict[str, list[float]]] = json.loads(kept.read_text())["values"]
    return values


def test_the_scrape_benchmark_measures_both_with_as_many_series(tmp_path: Path) -> None:
    values = scraped(tmp_path, "--agents", "300", "--scrapes", "1")
    names = ("plain_cpu_ms", "gzip_cpu_ms", "many_cpu_ms", "hold_cpu_ms", "gzip_hold_cpu_ms", "gzip_body_kib")
    for figures in values.values():
        assert all(value > 0 for name in names for value in figures[name])
        # Eight series an agent, of some eighty characters each.
        assert figures["body_kib"][0] > 300 * 8 * 60 / 1024
        assert figures["gzip_body_kib"][0] < figures["body_kib"][0] / 5


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_ten_thousand_agents_are_scraped_within_the_bounds(tmp_path: Path) -> None:
    ours = scraped(tmp_path, "--agents", "10000", "--scrapes", "5")["supervisor"]
    assert max(*ours["plain_cpu_ms"], *ours["gzip_cpu_ms"], *ours["many_cpu_ms"]) < 300
    assert max(*ours["hold_cpu_ms"], *ours["gzip_hold_cpu_ms"]) < 50


@pytest.mark.benchmark
@pytest.mark.timeout(300)
def test_assistants_are_measured_beside_the_bare_client(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN.with_name("assistants.py")), "--agents", "3", "--rounds", "1", "--delay", "0.1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("3 at once on a model that takes 0.1 s")
    assert len(ran.stdout.splitlines()) == 7


@pytest.mark.benchmark
@pytest.mark.timeout(300)
def test_the_answer_benchmark_measures_the_code_of_both_checkouts_and_the_bare_client(tmp_path: Path) -> None:
    command = [sys.executable, str(ANSWER), "--turns", "2", "--warm-up", "1", "--before", str(ANSWER.parents[2])]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    first, *figures = ran.stdout.splitlines()
    assert first.endswith("medians of 2 turns")
    assert [line.split("(ms)")[0].strip() for line in figures[::2]] == [
        "first part that is seen",
        "whole answer",
        "CPU per answer",
    ]
    assert all(line.strip().startswith("beyond the bare client: ") for line in figures[1::2])


@pytest.mark.benchmark
@pytest.mark.timeout(300)
def test_a_start_is_measured_beside_that_of_another_checkout(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN.with_name("start.py")), "--rounds", "1", "--before", str(RUN.parents[2])]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    first, *figures = ran.stdout.splitlines()
    assert first.startswith("medians of 1 rounds")
    assert [line.partition(":")[0] for line in figures[1::2]] == [
        "--help",
        "status",
        "agents list",
        "messages list",
        "usage",
    ]
    assert all(re.search(r"now +\d+\.\d   before +\d+\.\d   ratio \d\.\d\d$", line) for line in figures)


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_a_message_is_measured_on_each_database(tmp_path: Path) -> None:
    sizes = ("--rounds", "1", "--round-trips", "500", "--agents", "40")
    command = [sys.executable, str(RUN.with_name("registries.py")), *sizes]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    first, trip, server, log, disk, presence, memory = ran.stdout.splitlines()
    assert first.startswith("medians of 1 rounds, 500 round trips")
    for line in (trip, disk, memory):
        assert re.search(r"SQLite +[\d,]+   PostgreSQL +[\d,]+   ratio \d+\.\d\d$", line)
    for line in (server, log):
        assert re.search(r"   PostgreSQL +[\d,]+$", line)
    assert re.search(r"   SQLite +-?[\d.]+$", presence)
