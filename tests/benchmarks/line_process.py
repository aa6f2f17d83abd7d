"""A child process that is told things by lines of JSON on its stdin and answers on its stdout."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STOP_SECONDS = 20.0
LOG_TAIL_CHARS = 2_000
FAILED_PREFIX = "  | "


class ChildError(RuntimeError):
    """A child process ended, fell silent or said no; the text has the end of its log."""


class Child:
    """A process with a log file for its stderr, ended by closing its stdin.

    Args:
        command: the program and its arguments.
        log: the file that takes its stderr.
        env: its whole environment; our own when left out.
        cwd: its working directory; our own when left out.
        talks: whether its stdout is lines of JSON; it goes into the log otherwise.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        talks: bool = True,
    ) -> None:
        self._log = log
        self._name = log.stem
        with log.open("wb") as errors:
            stdout = subprocess.PIPE if talks else errors
            self.popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=stdout, stderr=errors, env=env, cwd=cwd
            )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        if talks:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._lines.put(line)
        self._lines.put(None)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def error(self, what: str) -> ChildError:
        """An error about this process that shows the end of its log."""
        text = self._log.read_text(errors="replace")[-LOG_TAIL_CHARS:].strip() or "(its log is empty)"
        return ChildError(f"{self._name}: {what}\n{FAILED_PREFIX}" + text.replace("\n", f"\n{FAILED_PREFIX}"))

    def tell(self, message: Mapping[str, Any]) -> None:
        """Write one line of JSON to the process."""
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(json.dumps(message).encode() + b"\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise self.error("it has ended") from None

    def hear(self, timeout_seconds: float) -> dict[str, Any]:
        """Read the next line of JSON from the process.

        Raises:
            ChildError: it ended, or said nothing in time.
        """
        try:
            line = self._lines.get(timeout=timeout_seconds)
        except queue.Empty:
            raise self.error(f"no answer for {timeout_seconds:.0f} s") from None
        if line is None:
            raise self.error("it has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def hear_first(self, timeout_seconds: float) -> dict[str, Any]:
        """Read the line that says it has started; end it when none comes."""
        try:
            return self.hear(timeout_seconds)
        except ChildError:
            self.stop()
            raise

    def stop(self) -> None:
        """Close its stdin and wait for its end; kill it if that takes too long."""
        if self.popen.stdin is not None and not self.popen.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.popen.stdin.close()
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def clean_environment(**extra: str) -> dict[str, str]:
    """Our own environment without the settings of a supervisor or of Node, and with ``extra``.

    Who has installed a package has it compiled: a process that may not write what it compiles does it at each start.
    """
    foreign = ("SUPERVISOR_", "NODE_", "COVERAGE_", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return {**kept, **extra}
