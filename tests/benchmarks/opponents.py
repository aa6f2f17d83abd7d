"""Those who are measured: the supervisor, bare ``socket.io-client`` and bare ``python-socketio``.

Each plays agents that echo what they are told. A foreign program plays too where it is named. Everything that depends
on how the product is started is in :class:`Supervisor`.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Protocol, Self

from tests.benchmarks.certificates import Certificates
from tests.benchmarks.gateway_process import Gateway
from tests.benchmarks.line_process import STOP_SECONDS, Child, clean_environment

CLIENTS = Path(__file__).with_name("clients")
ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
POLL_SECONDS = 0.05
BUSY_SECONDS = 30.0
#: What a foreign program is called among the opponents.
TRIAL: Final = "trial"
SECRET: Final = {"AGENT_SECRET": "s3cret"}


def agent_id(number: int) -> str:
    """The id of the agent with this number: 24 hex digits."""
    return f"a9{number:022x}"


class Opponent(Protocol):
    """A running process that plays agents."""

    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, gateway: Gateway, work: Path) -> None: ...

    @property
    def pid(self) -> int:
        """The process whose tree is measured."""

    def add(self, ids: Sequence[str]) -> int:
        """Have it play more agents, at once; the monotonic time just before, in nanoseconds."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class _Bare(Child):
    """A client of the benchmark's own, told through its stdin which agents to play."""

    def __init__(self, command: Sequence[str], gateway: Gateway, log: Path, trust: str) -> None:
        extra = dict(SECRET)
        if gateway.certificates is not None:
            extra[trust] = str(gateway.certificates.authority)
        super().__init__([*command, gateway.api_url, gateway.ws_url], log, env=clean_environment(**extra))
        self.hear_first(START_SECONDS)

    def add(self, ids: Sequence[str]) -> int:
        """Start these agents inside the running process."""
        started = time.monotonic_ns()
        self.tell({"add": list(ids)})
        return started


class BareNode(_Bare):
    """``socket.io-client`` on Node."""

    name: ClassVar[str] = "node"
    title: ClassVar[str] = "socket.io-client (Node)"

    def __init__(self, gateway: Gateway, work: Path) -> None:
        command = ["node", str(CLIENTS / "bare_node.js")]
        super().__init__(command, gateway, work / "node.log", "NODE_EXTRA_CA_CERTS")


class BarePython(_Bare):
    """``python-socketio`` as it comes."""

    name: ClassVar[str] = "python"
    title: ClassVar[str] = "python-socketio"

    def __init__(self, gateway: Gateway, work: Path) -> None:
        command = [sys.executable, str(CLIENTS / "bare_python.py")]
        super().__init__(command, gateway, work / "python.log", "SSL_CERT_FILE")


def foreign(program: Path) -> type[Opponent]:
    """A program of somebody else, ``program API_URL WS_URL``, told which agents to play as the bare clients are.

    One whose name ends in ``.py`` is run by this Python, any other as it stands.
    """
    command = [sys.executable, str(program)] if program.suffix == ".py" else [str(program)]

    class Foreign(_Bare):
        name: ClassVar[str] = TRIAL
        title: ClassVar[str] = program.stem

        def __init__(self, gateway: Gateway, work: Path) -> None:
            super().__init__(command, gateway, work / f"{TRIAL}.log", "SSL_CERT_FILE")

    return Foreign


class Platform(Protocol):
    """Where a supervisor finds its platform."""

    @property
    def api_url(self) -> str: ...
    @property
    def ws_url(self) -> str: ...
    @property
    def certificates(self) -> Certificates | None: ...


class Supervisor(Child):
    """The product: ``python -m supervisor run`` over a SQLite registry that is written with raw SQL.

    Its limits of rate are raised out of the way: they protect a platform, and are not what is measured. Everything
    else is as a user gets it.
    """

    name: ClassVar[str] = "supervisor"
    title: ClassVar[str] = "supervisor"
    _command: ClassVar[Sequence[str]] = (sys.executable, "-m", "supervisor")
    #: Of its registry; None: a file of its own.
    registry_url: ClassVar[str | None] = None
    _insert = "INSERT INTO agents (id, handler, secret) VALUES (?, 'echo', 'env:AGENT_SECRET')"

    def __init__(self, gateway: Platform, work: Path) -> None:
        self._database = work / "registry.db"
        for leftover in work.glob("registry.db*"):
            leftover.unlink()
        self._admin_url = f"http://127.0.0.1:{_free_port()}"
        environment = self._environment(gateway)
        upgrade = [*self._command, "db", "upgrade"]
        subprocess.run(upgrade, env=environment, cwd=work, check=True, timeout=START_SECONDS, stdout=subprocess.DEVNULL)
        super().__init__([*self._command, "run"], work / "supervisor.log", env=environment, cwd=work, talks=False)
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _environment(self, gateway: Platform) -> dict[str, str]:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        settings = {
            "SUPERVISOR_REGISTRY_URL": self.registry_url or f"sqlite+aiosqlite:///{self._database}",
            "SUPERVISOR_API_URL": gateway.api_url,
            "SUPERVISOR_WS_URL": gateway.ws_url,
            "SUPERVISOR_ADMIN_PORT": self._admin_url.rpartition(":")[2],
            "SUPERVISOR_AGENTS_DIR": str(ROOT / "agents"),
            "SUPERVISOR_CONNECT_RATE": "10000",
            "SUPERVISOR_AUTH_RATE": "10000",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        if gateway.certificates is not None:
            settings["SUPERVISOR_CA_FILE"] = str(gateway.certificates.authority)
        return clean_environment(**settings, **SECRET)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.popen.poll() is not None:
                raise self.error(f"it ended with exit status {self.popen.returncode}")
            try:
                with urllib.request.urlopen(f"{self._admin_url}/livez", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(POLL_SECONDS)
        raise self.error("it did not become ready")

    def add(self, ids: Sequence[str]) -> int:
        """Commit rows for these agents in one transaction; the time is the one just before the commit."""
        registry = sqlite3.connect(self._database, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            registry.execute("BEGIN IMMEDIATE")
            registry.executemany(self._insert, [(each,) for each in ids])
            committing = time.monotonic_ns()
            registry.execute("COMMIT")
        finally:
            registry.close()
        return committing

    def stop(self) -> None:
        """Ask it to drain, as an operator does, but twice: there is nothing worth waiting for."""
        for _ in range(2):
            if self.popen.poll() is None:
                self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_SECONDS / 2)
                break
            except subprocess.TimeoutExpired:
                continue
        super().stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


OPPONENTS: Final[Sequence[type[Opponent]]] = (Supervisor, BareNode, BarePython)
