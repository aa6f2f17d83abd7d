"""Opening a connection: what is found out about the server, and what is said where there is none."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import StorageError
from supervisor.store.postgres.address import address_of
from supervisor.store.postgres.connecting import Connector, close
from tests.support import postgres
from tests.support.postgres_way import way_to

SECRET = "hunter2-in-the-url"


async def ask(connector: Connector, what: str) -> str:
    connection = await connector.open()
    try:
        return str(await connection.fetchval(what))
    finally:
        await close(connection)


async def test_nothing_of_a_connection_waits_for_ever(url: str) -> None:
    connector = Connector(address_of(url), lock_seconds=1.5, idle_seconds=4.0)
    assert await ask(connector, "SHOW lock_timeout") == "1500ms"
    assert await ask(connector, "SHOW idle_in_transaction_session_timeout") == "4s"
    assert not connector.pooled


async def test_full_has_every_commit_on_the_disk_and_a_reader_writes_nothing(url: str) -> None:
    with_promise = Connector(address_of(url), "FULL")
    name = postgres.name_of(url)
    postgres.on_server(f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert await ask(with_promise, "SHOW synchronous_commit") == "on"
    assert await ask(Connector(address_of(url)), "SHOW synchronous_commit") == "off"
    async with way_to(url) as way:
        way.pooling = True
        with pytest.raises(RegistryError, match="FULL cannot be kept"):
            await ask(Connector(address_of(way.url), "FULL"), "SELECT 1")
    postgres.on_server(f"ALTER DATABASE {name} RESET synchronous_commit")


async def test_a_pooler_is_seen_and_given_nothing_that_stays_with_a_connection(url: str) -> None:
    async with way_to(url) as way:
        way.pooling = True
        connector = Connector(address_of(way.url))
        assert await ask(connector, "SHOW application_name") == ""
        assert connector.pooled
        assert await ask(connector, "SELECT count(*) FROM pg_prepared_statements") == "0"


async def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    connector = Connector(address_of(f"postgresql://me:{SECRET}@127.0.0.1:{port}/fleet"), connect_seconds=5)
    with pytest.raises(StorageError, match="nobody listens") as caught:
        await connector.open()
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {connector!r}"


async def test_a_database_or_a_user_that_is_not_there_is_said(url: str) -> None:
    with pytest.raises(RegistryError, match="no such database"):
        await Connector(address_of(postgres.database_url("nowhere"))).open()
    with pytest.raises(RegistryError, match="refuses the user"):
        await Connector(address_of(url.replace("postgres:@", "nobody:@"))).open()


async def test_tls_that_the_server_does_not_speak_is_said(url: str) -> None:
    async with way_to(url) as way:
        with pytest.raises(RegistryError) as caught:
            await Connector(address_of(way.url.replace("sslmode=disable", "sslmode=require"))).open()
        assert "\n" not in str(caught.value)
