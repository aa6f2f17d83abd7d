"""Runs the real ``supervisor`` command: in processes of their own, or here where a process would prove no more."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from supervisor import cli

T = TypeVar("T")

#: A process on a busy machine: what matters is that it ends by itself.
SECONDS = 60.0


@dataclass
class Command:
    """The command in one folder and environment; :meth:`close` ends what was started."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SUPERVISOR_", "AGENT_"))}
        return inherited | {"COLUMNS": "100", "TERM": "dumb"} | self.env | dict(env)

    def process(self, args: tuple[str, ...], env: Mapping[str, str], **kwargs: Any) -> subprocess.Popen[str]:
        """Start it with the caller's own pipes or files; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "supervisor", *args],
            cwd=self.folder,
            env=self._environment(env),
            text=True,
            **kwargs,
        )

    def __call__(self, *args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        pipe = subprocess.PIPE
        with self.process(args, env, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                out, err = process.communicate(stdin, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def ok(self, *args: str, stdin: str = "", **env: str) -> str:
        """Run a command that must succeed; what it wrote to standard output."""
        done = self(*args, stdin=stdin, **env)
        assert done.returncode == 0, done
        return done.stdout

    def json(self, *args: str, **env: str) -> Any:
        """Run a command that must succeed and writes JSON."""
        return json.loads(self.ok(*args, "--json", **env))

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        """Start a command that goes on; its output is one stream in ``<folder>/<command>.log``."""
        with self.log(args[0]).open("a") as log:
            process = self.process(args, env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.running.append(process)
        return process

    def log(self, name: str) -> Path:
        """Where :meth:`start` writes."""
        return self.folder / f"{name}.log"

    def wait_for_log(self, name: str, pattern: str) -> re.Match[str]:
        """Wait until what a started command wrote matches; the match."""
        return until(lambda: re.search(pattern, self.log(name).read_text()), f"{pattern!r} in {name}'s output")

    def close(self) -> None:
        """End every command that was started, and wait for it."""
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class InProcess(Command):
    """Runs what ends by itself in this process: the same entry point, exit paths included, without a second of imports.

    What :meth:`start` starts is a process all the same. Not for ``run``, ``demo`` and ``sandbox``, which take over
    signals and logging.
    """

    def __call__(self, *args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        typed = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        with (
            mock.patch.dict(os.environ, self._environment(env), clear=True),
            mock.patch.multiple(sys, argv=["supervisor", *args], stdin=typed, stdout=out, stderr=err),
            contextlib.chdir(self.folder),
        ):
            try:
                cli.main()
                code: object = None
            except SystemExit as ended:
                code = ended.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(args, code, _text(out), _text(err))


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def until(condition: Callable[[], T | None], what: str, seconds: float = SECONDS) -> T:
    """Wait until ``condition`` gives something true, and return it; fails naming ``what``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return found


def one_line(text: str) -> str:
    """The only line of ``text``; fails when there are more or none."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]
