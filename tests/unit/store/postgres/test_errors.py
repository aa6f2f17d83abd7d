"""What an error of PostgreSQL, of its driver or of the network comes to: one line, and whether to try again."""

from __future__ import annotations

import socket
import ssl

import asyncpg
import pytest

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import DamagedError, StorageError
from supervisor.store.postgres.errors import FencedError, explain, is_lasting

AGAIN = [
    (asyncpg.ConnectionDoesNotExistError("closed"), "the connection to it broke"),
    (asyncpg.AdminShutdownError("terminating"), "starting, stopping"),
    (asyncpg.CannotConnectNowError("starting up"), "starting, stopping"),
    (asyncpg.TooManyConnectionsError("too many"), "max_connections"),
    (asyncpg.DiskFullError("no space left"), "its disk is full"),
    (asyncpg.OutOfMemoryError("out of memory"), "no memory"),
    (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT"), "read-only standby"),
    (asyncpg.DeadlockDetectedError("deadlock"), "another transaction was in the way"),
    (asyncpg.LockNotAvailableError("lock timeout"), "keeps a row locked"),
    (asyncpg.InvalidSQLStatementNameError("prepared statement does not exist"), "pooler"),
    (asyncpg.InterfaceError("connection is closed"), "the connection to it broke"),
    (asyncpg.InternalClientError("got result for unknown protocol state"), "the connection to it broke"),
    (ConnectionRefusedError(111, "Connection refused"), "nobody listens"),
    (TimeoutError(), "does not answer in time"),
    (socket.gaierror(-2, "Name or service not known"), "name of its host"),
    (OSError(113, "No route to host"), "No route to host"),
]
LASTING = [
    (asyncpg.InvalidPasswordError('password authentication failed for user "me"'), "user or the password"),
    (asyncpg.InvalidCatalogNameError('database "fleet" does not exist'), "no such database"),
    (asyncpg.InsufficientPrivilegeError("permission denied for schema public"), "GRANT"),
    (asyncpg.UndefinedTableError('relation "inbox" does not exist'), "db upgrade"),
    (asyncpg.CharacterNotInRepertoireError("invalid byte sequence"), "refused an operation: invalid byte"),
    (asyncpg.DataError("invalid input for query argument"), "refused an operation"),
    (ssl.SSLCertVerificationError(1, "certificate verify failed"), "over TLS"),
]


@pytest.mark.parametrize(("error", "text"), AGAIN, ids=[type(error).__name__ for error, _ in AGAIN])
def test_what_may_pass_is_worth_another_try(error: Exception, text: str) -> None:
    said = explain("postgresql://db/fleet", error)
    assert isinstance(said, StorageError)
    assert text in str(said)
    assert "\n" not in str(said)
    assert not is_lasting(error)


@pytest.mark.parametrize(("error", "text"), LASTING, ids=[type(error).__name__ for error, _ in LASTING])
def test_what_only_a_person_can_change_is_said_once(error: Exception, text: str) -> None:
    said = explain("postgresql://db/fleet", error)
    assert isinstance(said, RegistryError)
    assert not isinstance(said, StorageError)
    assert text in str(said)
    assert is_lasting(error)


def test_damage_and_a_lost_registry_are_told_apart() -> None:
    assert isinstance(explain("here", asyncpg.DataCorruptedError("invalid page")), DamagedError)
    fenced = FencedError("here")
    assert explain("elsewhere", fenced) is fenced
