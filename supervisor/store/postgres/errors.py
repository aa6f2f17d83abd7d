"""What the errors of PostgreSQL and its driver mean, for people and for whoever may try again."""

from __future__ import annotations

import socket
import ssl
from typing import Final

import asyncpg

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import DamagedError, StorageError

#: By SQLSTATE, or the class that its first two characters are: what another attempt may meet no more.
_TRANSIENT: Final = {
    "08": "the connection to it broke",
    "08P01": "the pooler before it refuses the connection",
    "25006": "it is a read-only standby, or set to read only; name every host in SUPERVISOR_REGISTRY_URL",
    "40": "another transaction was in the way",
    "53100": "its disk is full; free some space on it",
    "53200": "its server has no memory left",
    "53300": "its server takes no more connections; raise max_connections, or close some",
    "53": "its server is short of something",
    "55P03": "another transaction keeps a row locked",
    "55006": "it is in use by somebody who changes it",
    "57014": "it took too long",
    "57": "its server is starting, stopping or was interrupted",
    "58": "its server reports a failure of its system",
    "26000": "a pooler hands each transaction to another connection; connect to the server itself",
    "42P05": "a pooler hands each transaction to another connection; connect to the server itself",
}
#: What only a person can change.
_LASTING: Final = {
    "28": "the server refuses the user or the password of SUPERVISOR_REGISTRY_URL, or its pg_hba.conf this host",
    "3D000": "there is no such database; create it, as its owner-to-be: CREATE DATABASE",
    "42501": "the user lacks a right; make it the owner of the database, or GRANT it CREATE and USAGE on the schema",
    "42P01": "it lacks a table of this version; bring it up to date with: supervisor db upgrade",
    "3F000": "its search_path names no schema that is there",
}
#: What the network, or the driver, says; the first that fits.
_OUTSIDE: Final[dict[type[Exception], str]] = {
    asyncpg.exceptions.TargetServerAttributeNotMatched: "no host of its URL is a primary that takes writes",
    socket.gaierror: "the name of its host is not known",
    TimeoutError: "it does not answer in time",
    ConnectionError: "nobody listens there, or the connection was refused",
}

#: What a connection raises, of its own or of the server's; all of it, or one that dies takes more with it.
BROKEN: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class FencedError(StorageError):
    """Another supervisor has taken the registry over; this process writes nothing any more."""

    def __init__(self, where: str) -> None:
        super().__init__(f"The registry {where} was taken over by another supervisor; nothing more is written here")


def opened_to_read(where: str) -> RegistryError:
    """What whoever writes all the same is told."""
    return RegistryError(f"The registry {where} was opened to be read; nothing is written")


def explain(where: str, error: BaseException) -> RegistryError:
    """What an error means, as one readable line; a :class:`StorageError` when it is worth another try."""
    if isinstance(error, RegistryError):
        return error
    state = sqlstate(error)
    if state in ("XX001", "XX002"):
        return DamagedError(f"The registry {where} is damaged ({_line(error)}); restore a backup of it")
    for code in (state, state[:2]):
        if code in _TRANSIENT:
            # A pooler has this one code for whatever it is.
            words = f" ({_line(error)})" if code == "08P01" else ""
            return StorageError(f"The registry {where} cannot be used now: {_TRANSIENT[code]}{words}")
        if code in _LASTING:
            return RegistryError(f"The registry {where} cannot be used: {_LASTING[code]} ({_line(error)})")
    if state:
        return RegistryError(f"The registry {where} refused an operation: {_line(error)}")
    return _without_state(where, error)


def _without_state(where: str, error: BaseException) -> RegistryError:
    """What an error means that the driver, or the system below it, found by itself."""
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "verify_message", "") or getattr(error, "reason", "") or "the handshake failed"
        way = "look at sslmode and sslrootcert of SUPERVISOR_REGISTRY_URL"
        return RegistryError(f"The registry {where} cannot be reached over TLS: {why}; {way}")
    if isinstance(error, asyncpg.exceptions.ClientConfigurationError):
        return RegistryError(f"The registry {where} cannot be reached: an option of its URL has a value that none has")
    if isinstance(error, asyncpg.exceptions.DataError | ValueError | TypeError | OverflowError):
        return RegistryError(f"The registry {where} refused an operation: {_line(error)}")
    for kind, why in _OUTSIDE.items():
        if isinstance(error, kind):
            return StorageError(f"The registry {where} cannot be reached: {why}")
    if isinstance(error, OSError):
        return StorageError(f"The registry {where} cannot be reached: {error.strerror or 'the network failed'}")
    return StorageError(f"The registry {where} cannot be used now: the connection to it broke ({type(error).__name__})")


def sqlstate(error: BaseException) -> str:
    """The five characters in which PostgreSQL says what is wrong; empty where the error is not its own."""
    found = getattr(error, "sqlstate", None)
    return found if isinstance(found, str) else ""


def is_lasting(error: BaseException) -> bool:
    """Whether an error is one operation's own fault, so that the others can be committed without it."""
    return not isinstance(explain("", error), StorageError)


def _line(error: BaseException) -> str:
    """The server's own words: its first line says what, and no value of a row is in it."""
    return str(getattr(error, "message", None) or error).partition("\n")[0][:200]
