"""Registries for tests: opened by a dialect of the test's own, and what only SQLite can be made to do."""

from __future__ import annotations

import sqlite3

from supervisor.core.clock import Clock
from supervisor.service.assembly import RegistryOpener
from supervisor.settings import Settings
from supervisor.settings.secrets import SecretBox
from supervisor.store import LockInfo, Registry
from supervisor.store.dialect import Dialect, TextCodec
from supervisor.store.sqlite import SqliteDatabase


def opener(dialect: Dialect) -> RegistryOpener:
    """Opens a service's registry by a dialect of the test's own."""

    async def open_registry(settings: Settings, lock: LockInfo, clock: Clock) -> Registry:
        database = await dialect.open(
            settings.registry_url, clock=clock, synchronous=settings.synchronous, upgrade=True, lock=lock
        )
        cipher = SecretBox.of(settings.secret_keys)
        return Registry(database, clock, texts=TextCodec(cipher, encrypt=settings.journal_encryption))

    return open_registry


def sqlite_of(registry: Registry) -> SqliteDatabase:
    """The SQLite database that a registry stands on."""
    assert isinstance(registry.database, SqliteDatabase)
    return registry.database


async def limit_disk(registry: Registry, pages: int) -> None:
    """Let SQLite find the disk full once the file has grown by so many pages."""
    await sqlite_of(registry).writer.transact(lambda connection: _limit(connection, pages))


def _limit(connection: sqlite3.Connection, pages: int) -> None:
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={count + pages}")


async def free_disk(registry: Registry) -> None:
    """Let SQLite find room on the disk again."""
    await limit_disk(registry, 1_000_000)
