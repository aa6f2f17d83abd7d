"""The process and its journal: commits, memory, the event loop, watchdogs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from supervisor.telemetry.line_writer import lines_lost
from supervisor.telemetry.metrics.families import FAST_SECONDS, Vocabulary, Workshop

#: What is watched; each has a line in the log under the same name.
WATCHDOGS = ("loop_stalled", "connection_silent", "handler_abandoned", "handler_blocks", "side_task_died")


class StorageMetrics:
    """The instruments of the process and its journal, and their verbs."""

    def __init__(self, make: Workshop) -> None:
        self._commits = make.histogram(
            "supervisor_journal_commit_seconds",
            "Time of one commit of the journal, in seconds.",
            "seconds",
            FAST_SECONDS,
        )
        self._operations = make.counter(
            "supervisor_journal_operations_total",
            "Operations, each a change, that the journal's commits held.",
            "operations",
        )
        self._journal_errors = make.counter(
            "supervisor_journal_errors_total",
            "Errors of the journal: writes that failed; most are tried again.",
            "errors",
        )
        self._lines_known = 0
        self._make_process(make)

    def _make_process(self, make: Workshop) -> None:
        self._lag = make.histogram(
            "supervisor_event_loop_lag_seconds",
            "How late the event loop woke a sleeper, in seconds.",
            "seconds",
            FAST_SECONDS,
        )
        self._watchdogs = make.counters(
            "supervisor_watchdog_total",
            "How often a watchdog has struck, in events, by what it watches.",
            "events",
            watchdog=Vocabulary(0, *WATCHDOGS),
        )
        self._striking = threading.Lock()  # guards the watchdogs: some strike in threads
        for name in WATCHDOGS:
            self._watchdogs.begin(name)
        self._bind_memory = make.reading(
            "supervisor_memory_bytes",
            "Content and attachments of the messages held in memory until they are settled, in bytes.",
            "bytes",
        )
        self._bind_memory_limit = make.reading(
            "supervisor_memory_limit_bytes",
            "What supervisor_memory_bytes is bounded by: MEMORY_LIMIT, in bytes.",
            "bytes",
        )
        self._lines_lost = make.counter(
            "supervisor_log_lines_lost_total",
            "Lines of the log, and of what handlers print, that nobody read or that a full disk did not take.",
            "lines",
        )
        self._bind_ready = make.reading(
            "supervisor_ready", "1 while the supervisor is ready, as /readyz says, else 0 (a boolean).", "boolean"
        )

        self._make_disk(make)

    def _make_disk(self, make: Workshop) -> None:
        self._bind_registry_bytes = make.reading(
            "supervisor_registry_bytes", "How large the registry is, its log included, in bytes.", "bytes"
        )
        self._bind_free_bytes = make.reading(
            "supervisor_registry_free_bytes", "Room that is left on the registry's disk, in bytes.", "bytes"
        )
        self._bind_disk_bytes = make.reading(
            "supervisor_registry_disk_bytes",
            "How large the registry's disk is, in bytes; 0 where nobody can tell.",
            "bytes",
        )
        self._bind_agents_file = make.reading(
            "supervisor_agents_file_refused",
            "1 while AGENTS_FILE says what cannot be taken, and the fleet stays as it was, else 0 (a boolean).",
            "boolean",
        )

    def committed(self, seconds: float, operations: int) -> None:
        """The journal committed ``operations`` changes in one transaction, which took ``seconds``."""
        self._commits.observe(seconds)
        self._operations.total += operations

    def journal_failed(self) -> None:
        """The journal could not write something."""
        self._journal_errors.total += 1

    def loop_lag(self, seconds: float) -> None:
        """The event loop woke its watcher ``seconds`` too late."""
        self._lag.observe(seconds)

    def watchdog(self, name: str) -> None:
        """One of :data:`WATCHDOGS` has struck. May be called from any thread."""
        with self._striking:
            self._watchdogs[name].total += 1

    def _count_lost_lines(self) -> None:
        """Take over what the process has counted: lines are lost in threads that must wait for nothing."""
        lost = lines_lost()
        self._lines_lost.total += lost - self._lines_known
        self._lines_known = lost

    def bind_memory(self, held_bytes: Callable[[], float], limit_bytes: int) -> None:
        """Read the memory of messages at each scrape.

        Args:
            held_bytes: how many bytes are in use.
            limit_bytes: how many may be (``MEMORY_LIMIT``).
        """
        self._bind_memory(held_bytes)
        self._bind_memory_limit(lambda: limit_bytes)

    def bind_ready(self, ready: Callable[[], bool]) -> None:
        """Read at each scrape whether the supervisor is ready."""
        self._bind_ready(ready)

    def bind_registry(self, space: Callable[[], tuple[int, int, int] | None]) -> None:
        """Read at each scrape how large the registry is, what its disk has left, and how large that is, in bytes."""
        unknown = (0, 0, 0)
        self._bind_registry_bytes(lambda: (space() or unknown)[0])
        self._bind_free_bytes(lambda: (space() or unknown)[1])
        self._bind_disk_bytes(lambda: (space() or unknown)[2])

    def bind_agents_file(self, refused: Callable[[], bool]) -> None:
        """Read at each scrape whether the fleet's file is refused."""
        self._bind_agents_file(refused)
