"""Writes the tables of ``docs/scale.md`` from what things cost: ``python docs/scale.py``.

Whoever measures anew changes :class:`Costs`; a test holds the page equal to what this writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).with_name("scale.md")
REGISTRIES: Final = "tests/benchmarks/registries.py"
MEMORY: Final = "tests/benchmarks/run.py --only memory"
KIB: Final = 1024.0
#: Agents, and the supervisors that run them.
FLEETS: Final = ((10_000, 10), (100_000, 50), (1_000_000, 200))


@dataclass(frozen=True)
class Costs:
    """What was measured on two shared cores (Linux x86_64, Python 3.11, PostgreSQL 18): medians of one run each."""

    trip_us: float = 303.0
    server_us: float = 96.0
    log_bytes: float = 2_816.0
    disk_bytes: float = 1_913.0
    presence_us: float = 6.9
    agent_kib: float = 97.0
    process_mib: float = 107.0


@dataclass(frozen=True)
class Load:
    """What people and settings make of a fleet; the settings are the defaults.

    Args:
        said_seconds: each agent is told something so often.
        connections: of one supervisor to the server.
    """

    said_seconds: float = 300.0
    connect_rate: float = 50.0
    auth_rate: float = 20.0
    retention_days: float = 7.0
    connections: int = 6
    transactions: int = 3
    beat_seconds: float = 1.0


@dataclass(frozen=True)
class Use:
    """How much of something a fleet takes, and how much there is.

    Args:
        limit: what counts as full.
    """

    what: str
    used: float
    limit: float
    unit: str

    @property
    def share(self) -> float:
        return self.used / self.limit


def uses(agents: int, replicas: int, costs: Costs = Costs(), load: Load = Load()) -> list[Use]:
    """Everything that may be full, in the order in which a message meets it."""
    each = agents / replicas
    said = agents / load.said_seconds
    presences = load.connect_rate * each
    return [
        Use("memory of a supervisor", costs.process_mib + each * costs.agent_kib / KIB, 2000, "MiB"),
        Use("a supervisor's core: messages", said / replicas * costs.trip_us / 1e4, 100, "%"),
        Use("a supervisor's core: presences while others connect", presences * costs.presence_us / 1e4, 100, "%"),
        Use("the platform: presences it sends then", load.connect_rate * agents, 1e6, "a second"),
        Use("all connect, at CONNECT_RATE", agents / load.connect_rate / 60, 60, "min"),
        Use("all have a token, at AUTH_RATE", agents / load.auth_rate / 60, 60, "min"),
        Use("the server's cores: messages", said * costs.server_us / 1e6, 8, "cores"),
        Use("the server's commits, where no batches form", said * load.transactions, 10_000, "a second"),
        Use("the server's log", said * costs.log_bytes / 1e6, 50, "MB/s"),
        Use("the server's disk, for JOURNAL_RETENTION", _kept(said, costs, load), 1000, "GB"),
        Use("the server's connections", replicas * load.connections, 100, ""),
        Use("rows of replicas that are read", replicas**2 / load.beat_seconds, 20_000, "a second"),
    ]


def _kept(said: float, costs: Costs, load: Load) -> float:
    return said * costs.disk_bytes * load.retention_days * 86_400 / 1e9


def slowest_connects(agents: int, replicas: int, costs: Costs = Costs()) -> float:
    """How many connects a second leave half of each supervisor's core for messages."""
    return 0.5e6 / (agents / replicas * costs.presence_us)


def costs_table(costs: Costs = Costs()) -> Iterator[str]:
    """What was measured, and by which command."""
    yield "| | | measured by |"
    yield "|---|---:|---|"
    for what, figure, command in (
        ("CPU of a supervisor for a message and its answer", f"{costs.trip_us:,.0f} µs", REGISTRIES),
        ("CPU of the server for them", f"{costs.server_us:,.0f} µs", REGISTRIES),
        ("the server's log for them", f"{costs.log_bytes:,.0f} bytes", REGISTRIES),
        ("its disk for them", f"{costs.disk_bytes:,.0f} bytes", REGISTRIES),
        ("CPU to drop the presence of somebody else, on one socket", f"{costs.presence_us:.1f} µs", REGISTRIES),
        ("memory of an agent, under TLS", f"{costs.agent_kib:,.0f} KiB", MEMORY),
        ("memory of a supervisor without agents", f"{costs.process_mib:,.0f} MiB", REGISTRIES),
    ):
        yield f"| {what} | {figure} | `{command}` |"


def fleets_table(fleets: Sequence[tuple[int, int]] = FLEETS) -> Iterator[str]:
    """What each fleet takes of everything; what is full is bold."""
    columns = [uses(*fleet) for fleet in fleets]
    yield "| | full at | " + " | ".join(f"{agents:,} on {replicas}" for agents, replicas in fleets) + " |"
    yield "|---|---:|" + "---:|" * len(fleets)
    for row in zip(*columns, strict=True):
        first = row[0]
        cells = [f"**{figure(one.used)}**" if one.share >= 1 else figure(one.used) for one in row]
        full = f"{figure(first.limit)} {first.unit}".rstrip()
        yield f"| {first.what} | {full} | " + " | ".join(cells) + " |"
    rates = " | ".join(figure(slowest_connects(*fleet)) for fleet in fleets)
    yield f"| connects a second that leave half a core for messages | | {rates} |"


def order_table(fleets: Sequence[tuple[int, int]] = FLEETS) -> Iterator[str]:
    """What is full in each fleet, the fullest first."""
    for agents, replicas in fleets:
        full = sorted((one for one in uses(agents, replicas) if one.share >= 1), key=lambda one: -one.share)
        said = "; ".join(f"{one.what} ({one.share:.1f} times)" for one in full) or "nothing"
        yield f"- **{agents:,} agents on {replicas} supervisors:** {said}."


def figure(value: float) -> str:
    """A number as people read it: three digits that matter."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}".removesuffix(".0")


def written(text: str) -> str:
    """A page with its tables as they are now."""
    for name, table in {"costs": costs_table(), "fleets": fleets_table(), "order": order_table()}.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        text = before + start + "\n".join(table) + "\n" + end + rest.partition(end)[2]
    return text


def main() -> None:
    """Write the tables."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
