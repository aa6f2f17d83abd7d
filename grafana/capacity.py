"""Rows of the fleet's dashboard that say what runs out: saturation, and the process itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana.blocks import Column, Target, graph, listing, quantiles
from grafana.colors import QUANTILES
from grafana.promql import TARGET, increase, or_zero, rate, series, summed


def saturation() -> Sequence[Any]:
    """What runs full: inbox, outbox, memory, event loop, disk."""
    return [*_queues(), *_speed()]


def _queues() -> Sequence[Any]:
    """What waits, and where."""
    return [
        graph(
            "Messages in the journal",
            "Those that wait (or are to be tried again) and those being handled. Dead ones are above.",
            "short",
            Target(summed(series("supervisor_inbox_messages", 'state!="dead"'), "state"), "{{state}}"),
            width=6,
            stacked=True,
            colors={"available": "blue", "running": "green"},
        ),
        graph(
            "Replies on their way",
            "Replies that are not settled yet, by state; they pile up while the platform does not acknowledge.",
            "short",
            Target(summed(series("supervisor_outbox_messages"), "state"), "{{state}}"),
            width=6,
        ),
        graph(
            "Oldest waiting message",
            "How long somebody has waited for a handler to begin.",
            "s",
            Target(f"max({series('supervisor_inbox_oldest_seconds')})", "oldest"),
            width=6,
        ),
        graph(
            "Message memory",
            "Content of messages that is held in memory; past MEMORY_LIMIT further ones stay on disk.",
            "bytes",
            Target(summed(series("supervisor_memory_bytes")), "held"),
            width=6,
        ),
    ]


def _speed() -> Sequence[Any]:
    """How fast the event loop and the disk are."""
    commit, lag = "supervisor_journal_commit_seconds", "supervisor_event_loop_lag_seconds"
    return [
        graph(
            "Event loop lag",
            "How late the process's event loop is. Above 100 ms a handler blocks it, or the CPU is short.",
            "s",
            *quantiles(lag, 0.5, 0.99),
            colors=QUANTILES,
            width=6,
            limit=0.1,
        ),
        graph(
            "Journal commits",
            "How long a commit takes. No reply is sent before its commit: a slow disk slows everybody.",
            "s",
            *quantiles(commit, 0.5, 0.99),
            colors=QUANTILES,
            width=6,
        ),
        graph(
            "Journal writes",
            "Changes written per second, and writes that failed: full disk, locked or damaged file.",
            "ops",
            Target(rate("supervisor_journal_operations_total"), "written"),
            Target(or_zero(rate("supervisor_journal_errors_total")), "failed"),
            width=6,
            colors={"written": "blue", "failed": "red"},
        ),
        graph(
            "Watchdog strikes, per minute",
            "A standing event loop, a silent connection, a handler that blocks or cannot be stopped, a side task that "
            "died. Each strike is in the log under the same name.",
            "short",
            Target(f"{rate('supervisor_watchdog_total', by='watchdog')} * 60", "{{watchdog}}"),
            width=6,
            rare=True,
        ),
    ]


def process() -> Sequence[Any]:
    """What the operating system says of the supervisors, and which versions they are."""
    descriptors = f"{series('process_open_fds')} / {series('process_max_fds')}"
    return [
        graph(
            "CPU",
            "Cores in use. The supervisor runs on one: near 100 % it is at its limit, and lag follows.",
            "percentunit",
            Target(rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),
            width=6,
            limit=0.9,
            top=1.0,
        ),
        graph(
            "Resident memory",
            "Memory of the process; the clients of language models take about 100 MiB of it.",
            "bytes",
            Target(f"max by (instance) ({series('process_resident_memory_bytes')})", "{{instance}}"),
            width=6,
        ),
        graph(
            "File descriptors used",
            "Of those that the process may open; each connection takes one. At the limit no agent can connect.",
            "percentunit",
            Target(f"max by (instance) ({descriptors})", "{{instance}}"),
            width=6,
            limit=0.8,
        ),
        listing(
            "Versions",
            "What runs, and since when; orange where it started within the last 10 minutes. More than one version "
            "means that a deploy is under way.",
            Column("Instance", label="instance"),
            Column("Version", label="version"),
            Column("Up for", expr=_up_for(), unit="s", steps=((None, "orange"), (600, "text"))),
            Column("Received", expr=increase("supervisor_messages_received_total", by="job, instance"), unit="short"),
            width=6,
        ),
    ]


def _up_for() -> str:
    started = f"time() - {series('process_start_time_seconds')}"
    return f"({started}) * on ({TARGET}) group_left (version) {series('supervisor_build_info')}"
