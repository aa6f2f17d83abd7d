"""What a URL of PostgreSQL may say, and that its password is never shown."""

from __future__ import annotations

import pytest

from supervisor.core.errors import RegistryError
from supervisor.store.postgres.address import address_of

SECRET = "hunter2-in-the-url"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://db.example/fleet", "postgresql://db.example/fleet"),
        (f"postgresql+asyncpg://me:{SECRET}@db.example:5432/fleet", "postgresql://me@db.example:5432/fleet"),
        (f"postgres://me:{SECRET}%40%23@[::1]:5433/fleet", "postgresql://me@[::1]:5433/fleet"),
        (
            f"postgresql://me:{SECRET}@a:5432,b:5433/fleet?target_session_attrs=read-write&sslmode=verify-full",
            "postgresql://me@a:5432,b:5433/fleet?target_session_attrs=read-write&sslmode=verify-full",
        ),
        (
            f"postgresql:///fleet?host=/run/postgresql&user=me&password={SECRET}",
            "postgresql:///fleet?host=/run/postgresql&user=me&password=***",
        ),
    ],
)
def test_where_a_registry_is_is_shown_without_the_password(url: str, where: str) -> None:
    address = address_of(url)
    assert address.where == where
    assert SECRET not in f"{address!r} {address.where}"
    assert SECRET in address.dsn or SECRET not in url


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("me:{0}@db.example", "names no database"),
        ("me:{0}#1@db.example/fleet", "holds a #"),
        ("me:{0}@db.example:port/fleet", "port"),
        ("me:{0}@db.example:70000/fleet", "port"),
        ("me:{0} @db.example/fleet", "space"),
        ("me:{0}@db.example/fleet?sslmod=require", "no option 'sslmod'"),
        ("me:{0}@db.example/fleet?sslmode", "cannot be read"),
        ("me:{0}@[db.example/fleet", "cannot be read"),
    ],
)
def test_what_is_no_url_is_refused_in_one_line_that_repeats_nothing_of_it(rest: str, why: str) -> None:
    with pytest.raises(RegistryError, match=why) as caught:
        address_of("postgresql://" + rest.format(SECRET))
    assert "\n" not in str(caught.value)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_that_a_pooler_stands_between_is_said_to_us_alone() -> None:
    assert address_of("postgresql://db/fleet").pooled is address_of("postgresql://db/fleet?pooler=auto").pooled is None
    said = address_of("postgresql://me:a%40b@db/fleet?sslmode=require&pooler=transaction")
    assert (said.dsn, said.pooled) == ("postgresql://me:a%40b@db/fleet?sslmode=require", True)
    with pytest.raises(RegistryError, match="pooler is neither auto nor transaction"):
        address_of("postgresql://db/fleet?pooler=session")


def test_another_databases_url_is_refused() -> None:
    with pytest.raises(RegistryError, match="postgresql://"):
        address_of("mysql://db.example/fleet")
