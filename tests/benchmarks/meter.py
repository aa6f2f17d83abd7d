"""What a process and its children use: CPU time, resident memory, and the peak of it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

SAMPLE_SECONDS = 0.05


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its children, ended ones included, in seconds."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    ended = psutil.Process(pid).cpu_times()
    return total + ended.children_user + ended.children_system


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its living children, in bytes."""
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def pss_bytes(pid: int) -> int | None:
    """The same with shared pages counted in part, in bytes; None where the system does not tell."""
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, AttributeError):
            return None
    return total


class Peak:
    """Watches a process's resident memory while the ``with`` block runs; ``bytes`` is the highest seen."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            try:
                self.bytes = max(self.bytes, rss_bytes(self._pid))
            except psutil.NoSuchProcess:
                return

    def __enter__(self) -> Self:
        self.bytes = rss_bytes(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
