"""What a scrape of a large fleet costs, beside ``prometheus_client`` with a series an agent (README.md here)."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.benchmarks.line_process import Child, ChildError, clean_environment

SUBJECTS: Final = {"supervisor": "supervisor", "library": "prometheus_client"}
#: The figures, each of the values of all scrapes: key, title, unit.
FIGURES: Final = (
    ("plain_cpu_ms", "CPU per scrape", "ms"),
    ("gzip_cpu_ms", "CPU per scrape, compressed", "ms"),
    ("many_cpu_ms", "CPU of ten scrapes at once, compressed", "ms"),
    ("hold_cpu_ms", "longest hold of the event loop", "ms"),
    ("gzip_hold_cpu_ms", "longest hold of the event loop, compressed", "ms"),
    ("body_kib", "answer", "KiB"),
    ("gzip_body_kib", "answer, compressed", "KiB"),
)
START_SECONDS, SCRAPE_SECONDS = 300.0, 120.0
AT_ONCE: Final = 10
ROOT: Final = Path(__file__).parents[2]


def scrape(url: str, *, gzip: bool) -> int:
    """Scrape once; the bytes of the answer."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"} if gzip else {})
    with urllib.request.urlopen(request, timeout=SCRAPE_SECONDS) as answer:
        return len(answer.read())


def _scrape_at_once(url: str) -> int:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(lambda _: scrape(url, gzip=True), range(AT_ONCE)))


def measure(child: Child, scrapes: int) -> dict[str, list[float]]:
    """All figures of one process: each value of each scrape."""
    url: str = child.hear_first(START_SECONDS)["url"]
    found: dict[str, list[float]] = {}

    def note(key: str, value: float) -> None:
        found.setdefault(key, []).append(value)

    def ask(what: str) -> dict[str, Any]:
        child.tell({"do": what})
        return child.hear(SCRAPE_SECONDS)

    for gzip in (False, True):
        scrape(url, gzip=gzip)
        for _ in range(scrapes):
            ask("cpu")
            size = scrape(url, gzip=gzip)
            note("gzip_cpu_ms" if gzip else "plain_cpu_ms", ask("end")["cpu_ms"])
            note("gzip_body_kib" if gzip else "body_kib", size / 1024)
            ask("holds")
            scrape(url, gzip=gzip)
            for key, value in ask("end").items():
                note(f"gzip_{key}" if gzip else key, value)
    ask("cpu")
    _scrape_at_once(url)
    note("many_cpu_ms", ask("end")["cpu_ms"])
    return found


def run(agents: int, rounds: int, scrapes: int, work: Path) -> dict[str, dict[str, list[float]]]:
    """Each in turn, each time in a fresh process; all values by subject and figure.

    Raises:
        ChildError: a process ended or fell silent.
    """
    values: dict[str, dict[str, list[float]]] = {subject: {} for subject in SUBJECTS}
    for number in range(rounds):
        for subject, by_figure in values.items():
            command = [sys.executable, "-m", "tests.benchmarks.scrape_process", subject, str(agents)]
            with Child(command, work / f"{subject}-{number}.log", env=clean_environment(), cwd=ROOT) as child:
                for key, found in measure(child, scrapes).items():
                    by_figure.setdefault(key, []).extend(found)
    return values


def table(values: Mapping[str, Mapping[str, list[float]]]) -> list[list[str]]:
    """Medians and ratios; the longest hold is the longest of all scrapes."""
    rows = [["", *SUBJECTS.values(), "ratio"]]
    for key, title, unit in FIGURES:
        statistic = max if "hold" in key else statistics.median
        ours, theirs = (float(statistic(values[subject][key])) for subject in SUBJECTS)
        rows.append([f"{title} ({unit})", f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}"])
    return rows


def _show(rows: list[list[str]], *, markdown: bool) -> str:
    if markdown:
        heading, *body = ("| " + " | ".join(row) + " |" for row in rows)
        return "\n".join([heading, "|---|" + "---:|" * (len(rows[0]) - 1), *body])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def main() -> int:
    """Measure and show; the exit status is 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/scrape.py", description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000, metavar="N", help="agents with series (default 10000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each (default 3)")
    parser.add_argument("--scrapes", type=int, default=5, metavar="N", help="scrapes of each kind a turn (default 5)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all values in FILE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="supervisor-benchmark-") as work:
        try:
            values = run(given.agents, given.rounds, given.scrapes, Path(work))
        except (ChildError, OSError) as error:
            print(f"cannot measure: {error}", file=sys.stderr)
            return 1
    if given.json is not None:
        kept = {"agents": given.agents, "prometheus_client": version("prometheus_client"), "values": values}
        given.json.write_text(json.dumps(kept, indent=2) + "\n")
    print(_show(table(values), markdown=given.markdown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
