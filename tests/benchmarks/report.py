"""Figures and ratios out of samples: a table for the terminal, Markdown for README, JSON for later."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import psutil

from tests.benchmarks.gateway_process import node_version, pinned_versions
from tests.benchmarks.opponents import OPPONENTS, Opponent, Supervisor
from tests.benchmarks.scenarios import Plan, Sample

SUBJECT: Final = Supervisor
MISSING: Final = "n/a"


def p95(values: Sequence[float]) -> float:
    """The value that 95 % of the values do not exceed."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


@dataclass(frozen=True)
class Metric:
    """A row of the table: which values of a sample, what is made of them, and how they are shown."""

    key: str
    title: str
    unit: str
    digits: int = 0
    statistic: Callable[[Sequence[float]], float] = statistics.median

    @property
    def label(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS: Final[Mapping[str, Sequence[Metric]]] = {
    "echo": (
        Metric("echo_cpu_us", "CPU per echo round trip", "µs"),
        Metric("echo_rate", "echo round trips in a second", "/s"),
        Metric("echo_latency_ms", "echo latency, median", "ms", 1),
    ),
    "latency": (
        Metric("latency_p50_ms", "latency at one rate, median", "ms", 1),
        Metric("latency_p99_ms", "latency at one rate, 99 %", "ms", 1),
        Metric("latency_rate", "latency: that rate", "/s"),
    ),
    "storm": (
        Metric("storm_cpu_s", "storm: CPU", "s", 2),
        Metric("storm_events", "storm: presence events read", ""),
        Metric("storm_peak_mib", "storm: peak RSS", "MiB"),
        Metric("storm_idle_mib", "storm: RSS before it", "MiB"),
        Metric("storm_above_idle_mib", "storm: peak RSS above that", "MiB"),
        Metric("storm_online_s", "storm: until all are online", "s", 1),
        Metric("storm_read_s", "storm: until all events are read", "s", 1),
    ),
    "cold-start": (
        Metric("cold_cpu_s", "cold start: CPU", "s", 2),
        Metric("cold_online_s", "cold start: until all are online", "s", 1),
    ),
    "memory": (
        Metric("memory_rss_kib", "RSS per agent under TLS", "KiB"),
        Metric("memory_pss_kib", "PSS per agent under TLS", "KiB"),
        Metric("memory_total_mib", "RSS with all agents under TLS", "MiB"),
    ),
    "hot-add": (
        Metric("hot_add_ms", "hot-add: until online, median", "ms"),
        Metric("hot_add_ms", "hot-add: until online, 95 %", "ms", statistic=p95),
        Metric("hot_add_noticed_ms", "hot-add: of that until its token is asked for", "ms"),
    ),
    "idle": (Metric("idle_cpu_ms", "idle: CPU in a minute", "ms"),),
}
#: What should be so in every run, and what it means when it is not.
EXPECTED: Final[Mapping[str, tuple[float, str]]] = {
    "echo_typings": (2.0, "typing events per round trip"),
    "echo_strays": (0.0, "messages that answer nothing"),
    "echo_lost": (0.0, "connections lost in the echo run"),
    "latency_strays": (0.0, "messages that answer nothing"),
    "latency_lost": (0.0, "connections lost in the latency run"),
    "cold_lost": (0.0, "connections lost in the cold start"),
    "idle_lost": (0.0, "connections lost in the idle run"),
    "storm_lost": (0.0, "connections lost in the storm"),
    "memory_lost": (0.0, "connections lost in the memory run"),
    "hot_add_lost": (0.0, "connections lost in the hot-add run"),
}


@dataclass
class Results:
    """All samples of a run, by scenario and opponent, and the runs that failed."""

    plan: Plan
    opponents: Sequence[type[Opponent]] = OPPONENTS
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, scenario: str, opponent: str, sample: Sample) -> None:
        """Keep one turn's sample."""
        self.samples.setdefault(scenario, {}).setdefault(opponent, []).append(sample)

    def values(self, scenario: str, opponent: str, key: str) -> list[float]:
        """A metric's values of all rounds."""
        turns = self.samples.get(scenario, {}).get(opponent, [])
        return [value for sample in turns for value in sample.get(key, ())]

    def figure(self, scenario: str, opponent: str, metric: Metric) -> float | None:
        """A metric's figure, or None when there are no values."""
        values = self.values(scenario, opponent, metric.key)
        return metric.statistic(values) if values else None

    def notes(self) -> Iterator[str]:
        """What differed from the expected, one sentence each: figures to be read with care."""
        for scenario, by_opponent in self.samples.items():
            for opponent in by_opponent:
                for key, (expected, meaning) in EXPECTED.items():
                    odd = [value for value in self.values(scenario, opponent, key) if abs(value - expected) > 0.01]
                    if odd:
                        shown = ", ".join(f"{value:g}" for value in odd)
                        yield f"{opponent}: {meaning}: {shown} instead of {expected:g}"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpus": psutil.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "node": node_version(),
        **pinned_versions(),
        "python": platform.python_version(),
        "python-socketio": version("python-socketio"),
        "python-engineio": version("python-engineio"),
        "aiohttp": version("aiohttp"),
    }


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def _ratio(subject: float | None, other: float | None) -> str:
    return MISSING if subject is None or not other else f"{subject / other:.2f}"


def rows(results: Results) -> list[list[str]]:
    """The table: a heading, then a row for each metric measured."""
    others = [each for each in results.opponents if each is not SUBJECT]
    compared: list[type[Opponent]] = [SUBJECT, *others]
    heading = ["", *(each.title for each in compared)]
    table = [[*heading, *(f"{SUBJECT.title} / {other.name}" for other in others)]]
    for scenario in results.samples:
        for metric in METRICS[scenario]:
            figures = [results.figure(scenario, each.name, metric) for each in compared]
            shown = [_number(figure, metric.digits) for figure in figures]
            table.append([metric.label, *shown, *(_ratio(figures[0], figure) for figure in figures[1:])])
    return table


def as_text(results: Results) -> str:
    """The table for a terminal."""
    table = rows(results)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join(lines)


def as_markdown(results: Results) -> str:
    """The table for README, with a line above it that says what was run."""
    plan, on = results.plan, machine()
    heading, *body = rows(results)
    lines = [
        f"Medians of {plan.rounds} rounds; {plan.agents:,} agents, {plan.round_trips:,} round trips; "
        f"{on['cpus']} CPUs, {on['system']}, Python {on['python']}, python-socketio {on['python-socketio']}, "
        f"Node {on['node']}, socket.io-client {on['socket.io-client']}.",
        "",
        "| " + " | ".join(heading) + " |",
        "|---|" + "---:|" * (len(heading) - 1),
        *("| " + " | ".join(row) + " |" for row in body),
    ]
    return "\n".join(lines)


def as_json(results: Results) -> dict[str, Any]:
    """Everything, raw samples included."""
    return {
        "machine": machine(),
        "plan": vars(results.plan),
        "samples": results.samples,
        "failures": results.failures,
        "notes": list(results.notes()),
    }
