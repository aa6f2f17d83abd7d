"""A registry behind the real pgbouncer in transaction mode: it works, leaves nothing in its connections, speaks TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError
from supervisor.fleet.fleet import POLL_SECONDS
from supervisor.store import LockInfo, Registry, opening
from tests.support import postgres
from tests.support.certificates import make_pair
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.pgbouncer import pooler
from tests.support.stack import stack

#: What people have it pass over, for drivers that send settings: then it looks like the server itself at first.
PASSED_OVER = "application_name,timezone,lock_timeout,idle_in_transaction_session_timeout,synchronous_commit"


@pytest.fixture(params=["", PASSED_OVER], ids=["strict", "lenient"])
def ways(request: pytest.FixtureRequest, pgbouncer: str) -> Iterator[tuple[str, str]]:
    """The URL of an empty registry, and that of the same through a pooler."""
    with postgres.new_database() as url, pooler(pgbouncer, url, ignored=request.param) as through:
        yield url, through


def left_behind(through: str) -> list[tuple[int, ...]]:
    """What stays in a connection that the pooler gives out: prepared statements, channels, settings of ours."""
    return postgres.on_server(
        "SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name <> ''), "
        "(SELECT count(*) FROM pg_listening_channels()), "
        "(SELECT count(*) FROM pg_settings WHERE name = 'lock_timeout' AND source = 'client')",
        url=through,
    )


async def test_messages_are_journaled_and_answered_once_and_nothing_stays_behind(ways: tuple[str, str]) -> None:
    url, through = ways
    registry = await Registry.open(through, upgrade=True, lock=LockInfo())
    rows = await asyncio.gather(*(add(registry.journal, f"k{n}", claim=True) for n in range(40)))
    await asyncio.gather(*(settle(registry.journal, row, answer(f"to {row.id}")) for row in rows))
    assert len(await registry.journal.unsent(AGENT)) == 40
    # Of more than one kind of statement, on both connections at once.
    await asyncio.gather(*(registry.journal.messages(limit=n) for n in range(1, 9)))
    assert left_behind(through) == [(0, 0, 0)]
    await registry.close()
    assert postgres.on_server("SELECT count(*), count(DISTINCT inbox_id) FROM outbox", url=url) == [(40, 40)]
    assert await opening.check(through)


async def test_the_holder_beats_and_notices_what_others_change(ways: tuple[str, str]) -> None:
    url, through = ways
    registry = await Registry.open(through, upgrade=True, lock=LockInfo())
    await registry.changed()
    postgres.on_server("INSERT INTO agents (id, handler, secret) VALUES ('a', 'echo', 'env:AGENT_A')", url=url)
    # What tells it is a look, since through a pooler nobody hears anything.
    await asyncio.wait_for(registry.wait_for_change(POLL_SECONDS), POLL_SECONDS + 0.2)
    assert await registry.changed()
    beats = "SELECT beat FROM replicas"
    async with asyncio.timeout(10):
        while postgres.on_server(beats, url=url)[0][0] < 2:
            await asyncio.sleep(0.05)
    assert left_behind(through) == [(0, 0, 0)]
    await registry.close()


async def test_a_whole_supervisor_runs_behind_it(pgbouncer: str, tmp_path: Path) -> None:
    with postgres.new_database() as url, pooler(pgbouncer, url) as through:
        async with stack(tmp_path, registry_url=through) as fleet:
            identity = await fleet.add()
            await fleet.online()
            [reply] = await fleet.ask(identity, "hello")
            assert reply.content == "Echo: hello"
            assert left_behind(through) == [(0, 0, 0)]


async def test_a_pooler_that_is_started_anew_loses_and_doubles_nothing(pgbouncer: str) -> None:
    with postgres.new_database() as url:
        with pooler(pgbouncer, url) as through:
            registry = await Registry.open(through, upgrade=True, lock=LockInfo())
            first = await add(registry.journal, "k1", claim=True)
        port = int(through.rpartition(":")[2].partition("/")[0])
        waiting = asyncio.create_task(settle(registry.journal, first, answer("late")))
        async with asyncio.timeout(20):
            while registry.journal.healthy:
                await asyncio.sleep(0.01)
        with pooler(pgbouncer, url, port=port):
            await asyncio.wait_for(waiting, 20)
            await registry.close()
        assert postgres.on_server("SELECT count(*), count(DISTINCT inbox_id) FROM outbox", url=url) == [(1, 1)]


async def test_over_tls_it_has_to_be_who_it_says(pgbouncer: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pair, authority = make_pair(tmp_path)
    _, other = make_pair(tmp_path / "other")
    with postgres.new_database() as url, pooler(pgbouncer, url, pair=pair) as through:

        async def encrypted(verified: str, there: str = through) -> None:
            registry = await Registry.open(f"{there}?sslmode={verified}")
            await add(registry.journal, verified)
            await registry.close()

        await encrypted(f"verify-full&sslrootcert={authority}")
        await encrypted("require")
        with pytest.raises(RegistryError, match=r"over TLS: certificate \w+ \w+; look at sslmode and sslroot") as said:
            await encrypted(f"verify-full&sslrootcert={other}")
        assert "\n" not in str(said.value)
        # The certificate is for localhost and 127.0.0.1.
        with pytest.raises(RegistryError, match=r"over TLS: IP address mismatch"):
            await encrypted(f"verify-full&sslrootcert={authority}", through.replace("127.0.0.1", "127.0.0.2"))
        with pytest.raises(RegistryError, match=r"nowhere\.pem"):
            await encrypted(f"verify-full&sslrootcert={tmp_path}/nowhere.pem")
        with pytest.raises(RegistryError, match="SSL required"):
            await encrypted("disable")
