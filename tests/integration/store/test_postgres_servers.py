"""Servers as people have them: old ones, standbys, one whose disk is full; what is done with each, and said of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage
from supervisor.store import LockInfo, Registry, opening
from supervisor.store.dialect.face import READING
from supervisor.store.postgres.connecting import OLDEST
from tests.support import postgres
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.postgres_servers import Server, new_server
from tests.support.postgres_way import way_to

#: In a mount namespace of the server's own: nobody else sees the disk, and it is gone with the server.
ON_SMALL_DISK = """
mount -t tmpfs -o size=12m,uid=$(id -u pgserver) none "$0" && exec setpriv --reuid pgserver --clear-groups -- "$@"
"""


@pytest.fixture(autouse=True)
def user() -> None:
    """The server of the tests has made the user that runs others."""
    postgres.server_url()


@contextmanager
def running(version: int = 18) -> Iterator[Server]:
    with new_server(version) as server:
        server.make()
        server.start()
        yield server


async def use(url: str) -> None:
    """All that a registry is for, once."""
    registry = await Registry.open(url, upgrade=True, lock=LockInfo())
    row = await add(registry.journal, "k1", claim=True)
    await settle(registry.journal, row, answer("hi"))
    assert [reply.message.content for reply in await registry.journal.unsent(AGENT)] == ["hi"]
    await registry.close()


async def test_a_release_that_is_old_enough_does() -> None:
    with running(version=16) as server:
        await use(server.url)
        assert "PostgreSQL 16." in await opening.check(server.url)


async def test_a_release_that_is_too_old_is_refused_before_anything_is_done() -> None:
    with postgres.empty_database() as url:
        async with way_to(url) as way:
            way.release = f"{OLDEST - 1}.22"
            with pytest.raises(RegistryError, match=rf"on PostgreSQL {OLDEST - 1}\.22; .* needs {OLDEST} or newer"):
                await use(way.url)
            way.release = f"{OLDEST}.0"
            await use(way.url)


async def test_a_standby_is_read_and_refused_to_whoever_writes() -> None:
    with running() as primary, new_server() as standby:
        await use(primary.url)
        await asyncio.to_thread(standby.copy_of, primary)
        standby.start()
        with pytest.raises(RegistryError, match="no host of its URL is a primary that takes writes"):
            await use(standby.url)
        assert "(current), 0 agents" in await opening.check(standby.url)
        registry = await Registry.open(standby.url, access=READING)
        assert [row.key for row in await registry.journal.messages()] == ["k1"]
        with pytest.raises(RegistryError, match="opened to be read"):
            await registry.remove_agent(AGENT)
        await registry.close()


async def test_a_full_disk_is_waited_for_and_nothing_is_lost() -> None:
    with new_server() as server:
        disk = server.folder / "disk"
        disk.mkdir()
        wrapped = ("unshare", "-m", "sh", "-c", ON_SMALL_DISK, str(disk))
        if os.geteuid() != 0 or subprocess.run([*wrapped, "true"], capture_output=True, check=False).returncode != 0:
            pytest.skip("nobody may mount a disk here")
        server.make()
        server.wrapped = wrapped
        server.start()
        server.wrapped = ()
        # The log of the server has its disk: without room for that, it stops.
        postgres.on_server(f"CREATE TABLESPACE small LOCATION '{disk}'", url=server.url)
        postgres.on_server("CREATE DATABASE fleet TABLESPACE small", url=server.url)
        await fill(server.url.removesuffix("postgres") + "fleet", disk / "filler")


async def fill(url: str, filler: Path) -> None:
    """Have a disk full while messages come, and then again room on it."""
    registry = await Registry.open(url, upgrade=True, lock=LockInfo())
    journal = registry.journal
    postgres.on_server(f"COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1500)) TO '{filler}'", url=url)
    adding: list[asyncio.Task[JournaledMessage]] = []
    async with asyncio.timeout(60):
        while journal.healthy:
            adding.append(asyncio.create_task(add(journal, f"k{len(adding)}", content=os.urandom(1500).hex())))
            await asyncio.sleep(0.001)
        assert "its disk is full" in (journal.problem or "")
        postgres.on_server(f"COPY (SELECT 1 WHERE false) TO '{filler}'", url=url)
        await asyncio.gather(*adding)
    assert postgres.on_server("SELECT count(*) FROM inbox", url=url) == [(len(adding),)]
    await registry.close()
