"""The real pgbouncer in front of a server of the tests, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.postgres_servers import free_port, give_to_server, server_user


@pytest.fixture
def pgbouncer() -> str:
    """The path of ``pgbouncer``; missing, the test is skipped with the way to install it, but fails in CI."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        reason = "no pgbouncer; install it with: sudo apt-get install --no-install-recommends pgbouncer"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def pooler(program: str, url: str, *, ignored: str = "", port: int = 0, pair: Path | None = None) -> Iterator[str]:
    """In transaction mode, as most run it, before the server of ``url``; the URL of the database through it.

    Args:
        ignored: the settings of connections that it passes over; all others are refused.
        port: where it listens; 0: where nobody does.
        pair: a file with its key and certificate, for TLS.
    """
    parts = urlsplit(url)
    port = port or free_port()
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer"))
    written = folder / "pgbouncer.ini"
    written.write_text(
        f"""[databases]
* = host={parse_qs(parts.query)["host"][0]} port=5432 user=postgres
[pgbouncer]
listen_addr = 127.0.0.1,127.0.0.2
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = {ignored}
client_tls_sslmode = {"require" if pair else "disable"}
client_tls_key_file = {folder / "pair"}
client_tls_cert_file = {folder / "pair"}
"""
    )
    (folder / "pair").write_bytes(pair.read_bytes() if pair else b"")
    give_to_server(folder, folder / "pair")
    # It refuses to run as root, as PostgreSQL does.
    process = subprocess.Popen([program, "-q", str(written)], user=server_user(), stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield f"postgresql://postgres@127.0.0.1:{port}{parts.path}" + ("" if pair else "?sslmode=disable")
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, f"pgbouncer ended with {process.returncode}"
            assert time.monotonic() < deadline, "pgbouncer does not listen"
            time.sleep(0.02)
