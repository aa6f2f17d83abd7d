"""What a supervisor without agents takes, and how long commands that look take; README.md here.

``.venv/bin/python tests/benchmarks/start.py`` from anywhere. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.benchmarks import meter
from tests.benchmarks.line_process import clean_environment
from tests.benchmarks.opponents import ROOT, START_SECONDS

NOW: Final = "now"
BEFORE: Final = "before"
MIB: Final = 1024 * 1024
#: A process has done what its start brought with it.
SETTLE_SECONDS: Final = 3.0
COMMANDS: Final = (("--help",), ("status",), ("agents", "list"), ("messages", "list"), ("usage",))
_STARTED: Final = re.compile(r"\bstarted\b")

#: What was measured of each checkout, by what it is called.
Figures = dict[str, dict[str, list[float]]]


def _environment(checkout: Path, folder: Path) -> dict[str, str]:
    return clean_environment(
        PYTHONPATH=str(checkout),
        SUPERVISOR_REGISTRY_URL=f"sqlite+aiosqlite:///{folder / 'supervisor.db'}",
        SUPERVISOR_ADMIN_PORT="0",
    )


def _command(checkout: Path, folder: Path, *args: str) -> tuple[float, float]:
    """Run a command to its end; the milliseconds of CPU and of the clock that it took."""
    spent, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "supervisor", *args],
        env=_environment(checkout, folder),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    took, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return (now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime) * 1000, took * 1000


@contextmanager
def _running(checkout: Path, folder: Path) -> Iterator[int]:
    """A supervisor on a registry that is there already; its process."""
    log = folder / "run.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "run"],
            env=_environment(checkout, folder),
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _STARTED.search(log.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the supervisor has not started: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _measure(rounds: int, work: Path, checkouts: Mapping[str, Path]) -> Figures:
    """Each checkout in its turn, all in one run: the machine's mood is the same for all."""
    found: Figures = {}
    for name, checkout in checkouts.items():
        (work / name).mkdir()
        _command(checkout, work / name, "db", "upgrade")
    for turn in range(rounds):
        # Whoever comes second finds a warmer machine, so they take turns at that too.
        for name in sorted(checkouts, reverse=bool(turn % 2)):
            checkout, folder = checkouts[name], work / name
            with _running(checkout, folder) as pid:
                time.sleep(SETTLE_SECONDS)
                found.setdefault("memory without agents (MiB)", {}).setdefault(name, []).append(
                    meter.rss_bytes(pid) / MIB
                )
                for args in COMMANDS:
                    cpu_ms, wall_ms = _command(checkout, folder, *args)
                    for what, figure in (("CPU (ms)", cpu_ms), ("clock (ms)", wall_ms)):
                        found.setdefault(f"{' '.join(args)}: {what}", {}).setdefault(name, []).append(figure)
    return found


def lines(found: Figures) -> Iterator[str]:
    """The table: medians, and how they stand to what they were before."""
    for what, figures in found.items():
        medians = {name: statistics.median(figures[name]) for name in (NOW, BEFORE) if name in figures}
        ratio = f"   ratio {medians[NOW] / medians[BEFORE]:.2f}" if BEFORE in medians else ""
        yield f"{what:30}" + "".join(f"   {name} {median:7.1f}" for name, median in medians.items()) + ratio


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/start.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="starts of each (default 5)")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout of ours, to measure beside")
    given = parser.parse_args()
    checkouts = {NOW: ROOT, **({BEFORE: given.before.resolve()} if given.before else {})}
    with tempfile.TemporaryDirectory(prefix="supervisor-benchmark-") as work:
        print(f"medians of {max(1, given.rounds)} rounds, {os.cpu_count()} cores")
        print("\n".join(lines(_measure(max(1, given.rounds), Path(work), checkouts))))


if __name__ == "__main__":
    main()
