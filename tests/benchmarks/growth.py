"""What a fleet costs as it grows, beside the bare clients, as a table and as the plot of the project's README.

``.venv/bin/python tests/benchmarks/growth.py`` from anywhere. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.benchmarks import meter
from tests.benchmarks.__main__ import allow_files
from tests.benchmarks.chart import Panel, draw
from tests.benchmarks.gateway_process import Gateway, install_packages
from tests.benchmarks.line_process import ChildError
from tests.benchmarks.opponents import OPPONENTS, Opponent
from tests.benchmarks.scenarios import MIB, ONLINE_SECONDS, SETTLE_SECONDS, TRIPS_SECONDS, finish_reading, ids

SIZES: Final = (100, 1_000, 5_000, 10_000)
#: What is measured of each fleet, by its key.
PANELS: Final = {
    "connect_cpu_s": Panel("CPU until all are online", "s"),
    "rss_mib": Panel("Memory (RSS) with all online", "MiB"),
    "idle_cpu_ms": Panel("CPU of a minute without messages", "ms"),
    "echo_cpu_us": Panel("CPU per round trip", "µs"),
}
PING_SECONDS: Final = 600
OFFLINE_SECONDS: Final = 60.0


def measured(
    opponent: type[Opponent], gateway: Gateway, work: Path, size: int, plan: argparse.Namespace
) -> list[float]:
    """One opponent with ``size`` agents, each seeing only its own presence: figures in the order of the panels."""
    gateway.ask("reset")
    gateway.ask("configure", presence="own")
    agents = ids(0, size)
    with opponent(gateway, work) as client:

        def cpu_of(work: Callable[[], object]) -> float:
            time.sleep(SETTLE_SECONDS)
            before = meter.cpu_seconds(client.pid)
            work()
            finish_reading(gateway)
            return meter.cpu_seconds(client.pid) - before

        def connect() -> None:
            client.add(agents)
            gateway.wait_online(size, ONLINE_SECONDS)

        connected = cpu_of(connect)
        time.sleep(SETTLE_SECONDS)
        rss = meter.rss_bytes(client.pid)
        idle = cpu_of(lambda: time.sleep(plan.idle_seconds))
        # The first message of a conversation costs more than the next ones.
        gateway.round_trips(agents, max(size, plan.round_trips // 10), 1, TRIPS_SECONDS)
        echo = cpu_of(lambda: gateway.round_trips(agents, plan.round_trips, 1, TRIPS_SECONDS))
    gateway.ask("wait-offline", OFFLINE_SECONDS)
    return [connected, rss / MIB, idle / plan.idle_seconds * 60_000, echo / plan.round_trips * 1e6]


def measure(plan: argparse.Namespace) -> Iterator[tuple[int, str, list[float] | str]]:
    """Each size and opponent with its figures, or with why there are none."""
    opponents = [each for each in OPPONENTS if each.name in plan.opponents]
    for size in plan.sizes:
        try:
            allow_files(size)
        except RuntimeError as error:
            yield size, "", str(error)
            continue
        with (
            tempfile.TemporaryDirectory(prefix="supervisor-growth-") as work,
            Gateway(Path(work), PING_SECONDS) as gateway,
        ):
            for opponent in opponents:
                try:
                    yield size, opponent.name, measured(opponent, gateway, Path(work), size, plan)
                except (ChildError, subprocess.SubprocessError) as error:
                    yield size, opponent.name, f"{size:,} agents, {opponent.title}: {error}"


def _arguments() -> argparse.Namespace:
    names = [each.name for each in OPPONENTS]
    parser = argparse.ArgumentParser(prog="tests/benchmarks/growth.py", description=__doc__)
    parser.add_argument("--sizes", type=_list(int), default=SIZES, metavar="N,…", help="numbers of agents")
    parser.add_argument("--opponents", type=_list(str), default=names[:2], metavar="NAME,…", help=", ".join(names))
    parser.add_argument("--round-trips", type=int, default=20_000, metavar="N", help="echoes that are measured in all")
    parser.add_argument("--idle-seconds", type=int, default=60, metavar="N", help="how long nobody talks to them")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the plot into FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures in FILE")
    parser.add_argument("--again", type=Path, metavar="FILE", help="show the figures kept in FILE, and measure nothing")
    return parser.parse_args()


def _list(kind: Callable[[str], int | str]) -> Callable[[str], list[int | str]]:
    return lambda text: [kind(one) for one in text.split(",")]


def show(found: Sequence[tuple[int, str, list[float] | str]], svg: Path | None) -> None:
    """Print the figures, and draw them where that is wanted."""
    notes = [figures for _, _, figures in found if isinstance(figures, str)]
    lines: list[dict[str, dict[int, float]]] = [{} for _ in PANELS]
    for size, name, figures in found:
        for line, figure in zip(lines, figures if isinstance(figures, list) else (), strict=False):
            line.setdefault(name, {})[size] = figure
    for panel, line in zip(PANELS.values(), lines, strict=True):
        for name, points in line.items():
            shown = "  ".join(f"{size:,}: {figure:,.1f}" for size, figure in points.items())
            print(f"{panel.title} ({panel.unit}), {name}: {shown}")
    for note in notes:
        print(f"not measured: {note}")
    if svg is not None:
        svg.write_text(draw(list(zip(PANELS.values(), lines, strict=True)), notes), encoding="utf-8")


def main() -> int:
    """Measure, or read what was measured, and show it."""
    plan = _arguments()
    if plan.again is not None:
        show([(size, name, figures) for size, name, figures in json.loads(plan.again.read_text())], plan.svg)
        return 0
    install_packages()
    found = []
    for one in measure(plan):
        print(*one, file=sys.stderr, flush=True)
        found.append(one)
        if plan.json is not None:
            # After each: a run of an hour may end early.
            plan.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    show(found, plan.svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())
