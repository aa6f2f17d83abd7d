"""What a message costs a supervisor, and its database, on a file of SQLite and on PostgreSQL; README.md here.

``.venv/bin/python tests/benchmarks/registries.py`` from anywhere. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.benchmarks import meter
from tests.benchmarks.__main__ import OFFLINE_SECONDS, allow_files
from tests.benchmarks.gateway_process import Gateway, install_packages
from tests.benchmarks.opponents import Platform, Supervisor
from tests.benchmarks.scenarios import (
    MIB,
    SETTLE_SECONDS,
    TRIPS_SECONDS,
    Plan,
    Run,
    add_gently,
    finish_reading,
    warmed_up,
)
from tests.support import postgres
from tests.support.postgres_servers import Server, new_server

SQLITE: Final = "SQLite"
POSTGRES: Final = "PostgreSQL"
NAMES: Final = (SQLITE, POSTGRES)
#: What is shown, in this order, and in how many digits behind the point.
FIGURES: Final = {
    "CPU of the supervisor, a round trip (µs)": 0,
    "CPU of the database's server, a round trip (µs)": 0,
    "write-ahead log, a message (bytes)": 0,
    "disk, a message (bytes)": 0,
    "CPU of a presence of another agent, a socket (µs)": 1,
    "memory of the supervisor without agents (MiB)": 0,
}
TRIP, SERVER, LOG, DISK, PRESENCE, MEMORY = FIGURES

#: Of each figure what was measured in each round, by the name of the registry.
Found = dict[str, dict[str, list[float]]]


class OnPostgres(Supervisor):
    """The supervisor on a database that is emptied before it starts."""

    title: ClassVar[str] = POSTGRES
    server: ClassVar[Server]

    def __init__(self, gateway: Platform, work: Path) -> None:
        for statement in ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public"):
            postgres.on_server(statement, url=self.server.url)
        super().__init__(gateway, work)

    def add(self, ids: Sequence[str]) -> int:
        """Commit rows for these agents in one statement."""
        insert = "INSERT INTO agents (id, handler, secret) SELECT unnest($1::text[]), 'echo', 'env:AGENT_SECRET'"
        started = time.monotonic_ns()
        postgres.on_server(insert, list(ids), url=self.server.url)
        return started


@contextmanager
def _postgres() -> Iterator[type[OnPostgres]]:
    """A supervisor on a server of its own, which has settings as they come."""
    # The tests' server makes what one needs to be run by root.
    postgres.server_url()
    with new_server() as server:
        server.make()
        server.start()

        class Here(OnPostgres):
            pass

        Here.server, Here.registry_url = server, server.url
        yield Here


def _trips(run: Run, server: Server | None) -> dict[str, float]:
    """What echoes cost, on a supervisor that is warm."""
    trips = run.plan.round_trips
    with warmed_up(run) as (client, agents):
        watched = {TRIP: client.pid} | ({SERVER: server.pid} if server else {})
        before = {what: meter.cpu_seconds(pid) for what, pid in watched.items()}
        log, disk = _log_bytes(server), _disk_bytes(run.work, server)
        run.gateway.round_trips(agents, trips, run.plan.in_flight, TRIPS_SECONDS)
        finish_reading(run.gateway)
        cpu = {what: (meter.cpu_seconds(pid) - before[what]) / trips * 1e6 for what, pid in watched.items()}
        grown = {LOG: (_log_bytes(server) - log) / trips} if server else {}
        return cpu | grown | {DISK: (_disk_bytes(run.work, server) - disk) / trips}


def _log_bytes(server: Server | None) -> float:
    if server is None:
        return 0.0
    [(written,)] = postgres.on_server("SELECT (pg_current_wal_lsn() - '0/0')::float8", url=server.url)
    return float(written)


def _disk_bytes(work: Path, server: Server | None) -> float:
    """What the registry takes of the disk, without the log."""
    if server is None:
        file = work / "registry.db"
        with closing(sqlite3.connect(file)) as registry:
            # What is in the log still is brought over.
            registry.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return float(file.stat().st_size)
    [(size,)] = postgres.on_server("SELECT pg_database_size(current_database())::float8", url=server.url)
    return float(size)


def _presence(run: Run) -> dict[str, float]:
    """What is dearer where each agent that comes is told to all the others, for each time that one is told."""
    spent: dict[str, float] = {}
    told = 0.0
    for presence in ("own", "all"):
        run.gateway.ask("reset")
        run.gateway.ask("configure", presence=presence)
        with run.opponent(run.gateway, run.work) as client:
            before = meter.cpu_seconds(client.pid)
            add_gently(client, run.gateway, 0, run.plan.agents)
            finish_reading(run.gateway)
            spent[presence] = meter.cpu_seconds(client.pid) - before
            told = run.gateway.ask("counts")["presences"] - run.plan.agents
        run.gateway.ask("wait-offline", OFFLINE_SECONDS)
    return {PRESENCE: (spent["all"] - spent["own"]) / told * 1e6}


def _idle(run: Run) -> dict[str, float]:
    """What is there before anybody is."""
    with run.opponent(run.gateway, run.work) as client:
        time.sleep(SETTLE_SECONDS)
        return {MEMORY: meter.rss_bytes(client.pid) / MIB}


def _measure(plan: Plan, work: Path) -> Found:
    """Both registries in turn, all in one run: the machine's mood is the same for both."""
    found: Found = {what: {} for what in FIGURES}
    with _postgres() as on_postgres, Gateway(work, plan.ping_seconds) as gateway:
        turns: dict[str, tuple[type[Supervisor], Server | None]] = {
            SQLITE: (Supervisor, None),
            POSTGRES: (on_postgres, on_postgres.server),
        }
        for number in range(plan.rounds):
            for name in sorted(NAMES, reverse=bool(number % 2)):
                opponent, server = turns[name]
                run = Run(opponent, gateway, plan, work)
                scenes = [partial(_trips, run, server), partial(_idle, run)]
                if name == SQLITE:
                    scenes.append(partial(_presence, run))
                for scene in scenes:
                    gateway.ask("reset")
                    for what, figure in scene().items():
                        found[what].setdefault(name, []).append(figure)
                    gateway.ask("wait-offline", OFFLINE_SECONDS)
    return found


def lines(found: Found) -> Iterator[str]:
    """The table: medians, and how the one stands to the other."""
    for what, digits in FIGURES.items():
        medians = {name: statistics.median(found[what][name]) for name in NAMES if name in found[what]}
        ratio = f"   ratio {medians[POSTGRES] / medians[SQLITE]:.2f}" if len(medians) == len(NAMES) else ""
        yield f"{what:50}" + "".join(f"   {name} {median:8,.{digits}f}" for name, median in medians.items()) + ratio


def main() -> None:
    """Measure and show."""
    plan = Plan()
    parser = argparse.ArgumentParser(prog="tests/benchmarks/registries.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each (default 3)")
    parser.add_argument("--round-trips", type=int, default=plan.round_trips, metavar="N", help="measured echoes")
    parser.add_argument("--agents", type=int, default=400, metavar="N", help="agents whose presences are told")
    given = parser.parse_args()
    plan = Plan(agents=given.agents, round_trips=given.round_trips, rounds=max(1, given.rounds))
    allow_files(plan.agents)
    install_packages()
    with tempfile.TemporaryDirectory(prefix="supervisor-benchmark-") as work:
        found = _measure(plan, Path(work))
    print(f"medians of {plan.rounds} rounds, {plan.round_trips:,} round trips, {os.cpu_count()} cores")
    print("\n".join(lines(found)))


if __name__ == "__main__":
    main()
