"""Where a registry in PostgreSQL is: its URL as the driver takes it, and as people may see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from supervisor.core.errors import RegistryError

#: How the URL of such a registry begins.
SCHEMES: Final = ("postgresql+asyncpg://", "postgresql://", "postgres://")
#: What a URL may say besides where the database is; anything else is somebody's slip.
_OPTIONS: Final = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "ssl_min_protocol_version"}
    | {"ssl_max_protocol_version", "sslnegotiation", "gsslib", "krbsrvname", "passfile", "service", "servicefile"}
    | {"target_session_attrs", "application_name", "host", "port", "user", "password", "dbname", "database"}
    | {"options", "search_path"}
)
#: What a URL says for us and not for the driver.
_POOLER: Final = "pooler"
_SECRET: Final = frozenset({"password", "sslpassword"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a registry is.

    Args:
        dsn: for the driver; holds the password, so it is never shown.
        where: for people, without it.
        session: which servers of several will do, as the URL says; empty where it does not.
        pooled: whether the URL says that a pooler stands between; None where that is to be found out.
    """

    dsn: str
    where: str
    session: str
    pooled: bool | None

    def __repr__(self) -> str:
        return f"Address({self.where!r})"


def address_of(url: str) -> Address:
    """Where ``url`` points.

    Raises:
        RegistryError: it is no URL of PostgreSQL; what it says is not repeated, for it may be a password.
    """
    rest = next((url.removeprefix(scheme) for scheme in SCHEMES if url.startswith(scheme)), None)
    if rest is None:
        raise _wrong("it does not begin with postgresql://")
    if "#" in rest:
        raise _wrong("it holds a #")
    if any(not character.isprintable() or character == " " for character in rest):
        raise _wrong("it holds a space or an unprintable character")
    try:
        parts = urlsplit(f"postgresql://{rest}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _wrong("it cannot be read") from None
    user, _, hosts = parts.netloc.rpartition("@")
    for port in (one.rpartition(":")[2] for one in hosts.split(",") if ":" in one.rpartition("]")[2]):
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise _wrong("a port is no number")
    pooler = options.pop(_POOLER, "auto")
    if pooler not in ("auto", "transaction"):
        raise _wrong("its option pooler is neither auto nor transaction")
    if unknown := sorted(set(options) - _OPTIONS):
        raise RegistryError(f"SUPERVISOR_REGISTRY_URL: PostgreSQL has no option {unknown[0]!r}; leave it out")
    name = unquote(parts.path.removeprefix("/")) or options.get("dbname") or options.get("database")
    if not name:
        raise _wrong("it names no database")
    shown = {option: "***" if option in _SECRET else value for option, value in options.items()}
    who = f"{user.partition(':')[0]}@" if user else ""
    where = f"postgresql://{who}{hosts}{parts.path}{'?' if shown else ''}{urlencode(shown, safe='/*:,')}"
    query = "&".join(one for one in parts.query.split("&") if not one.startswith(f"{_POOLER}="))
    return Address(
        dsn=f"postgresql://{rest.partition('?')[0]}{'?' if query else ''}{query}",
        where=where,
        session=options.get("target_session_attrs", ""),
        pooled=True if pooler == "transaction" else None,
    )


def _wrong(why: str) -> RegistryError:
    return RegistryError(
        f"SUPERVISOR_REGISTRY_URL is not a URL of PostgreSQL: {why}; write "
        "postgresql://USER:PASSWORD@HOST:5432/DATABASE, and in the password %40 for @, %23 for #, %2F for /, %3A for :"
    )
