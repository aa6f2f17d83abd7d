"""What commands do with a registry by its URL: looked through, found, refused, each in one readable line."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError, RegistryLockedError, RegistryNotFoundError
from supervisor.core.records import AgentRecord
from supervisor.settings.secrets import SecretBox, generate_key
from supervisor.store import LockInfo, Registry, opening
from supervisor.store.sql.revisions import REVISIONS
from tests.support import postgres
from tests.support.journaling import add, answer, settle

SECRET = "hunter2-in-the-url"


async def test_a_registry_is_looked_through_and_named_without_its_password(url: str) -> None:
    registry = await Registry.open(url.replace("postgres:@", f"postgres:{SECRET}@"))
    await registry.add_agent(AgentRecord("a", "echo", "env:AGENT_A"))
    assert SECRET not in f"{registry.where} {registry.database!r} {vars(registry)!r}"
    await registry.close()
    said = await opening.check(url.replace("postgres:@", f"postgres:{SECRET}@"))
    assert f"schema {REVISIONS[-1]} (current), 1 agents" in said
    assert SECRET not in said


async def test_a_registry_that_is_not_there_is_no_registry(url: str) -> None:
    opening.require_registry(url)
    with pytest.raises(RegistryNotFoundError, match="db upgrade"):
        opening.require_registry(postgres.database_url("nowhere"))
    with postgres.empty_database() as empty:
        with pytest.raises(RegistryNotFoundError, match="db upgrade"):
            opening.require_registry(empty)
        assert opening.lock_holder(empty) is None


async def test_a_user_without_rights_is_told_which(url: str) -> None:
    postgres.on_server("DROP ROLE IF EXISTS guest")
    postgres.on_server("CREATE ROLE guest LOGIN")
    with postgres.empty_database() as empty:
        with pytest.raises(RegistryError, match=r"lacks a right.*permission denied for schema public") as caught:
            await opening.upgrade(empty.replace("postgres:@", "guest:@"))
        assert "\n" not in str(caught.value)
    with pytest.raises(RegistryError, match="lacks a right"):
        await Registry.open(url.replace("postgres:@", "guest:@"))


async def test_a_database_that_takes_no_writes_is_said(url: str) -> None:
    name = postgres.name_of(url)
    postgres.on_server(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        with pytest.raises(RegistryError, match="no host of its URL is a primary"):
            await Registry.open(url, lock=LockInfo())
        assert "sound" in await opening.check(url)
        # Unless the URL says which servers will do.
        with pytest.raises(RegistryError, match="no host of its URL is a primary"):
            await opening.check(f"{url}&target_session_attrs=read-write")
    finally:
        postgres.on_server(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert "sound" in await opening.check(f"{url}&target_session_attrs=read-write")


async def test_of_several_hosts_the_one_that_is_there_is_taken(url: str) -> None:
    folder = url.partition("host=")[2]
    name = postgres.name_of(url)
    registry = await Registry.open(f"postgresql://postgres@/{name}?host=/nowhere,{folder}&port=5432,5432")
    assert await registry.agents() == []
    await registry.close()


async def test_a_copy_is_made_by_postgresqls_own_tools(url: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="pg_dump"):
        await opening.backup(url, tmp_path / "copy.db")


async def test_what_is_encrypted_is_encrypted_anew(url: str) -> None:
    old, new = generate_key(), generate_key()
    registry = await Registry.open(url, cipher=SecretBox([old]), encrypt=True)
    row = await add(registry.journal, "k1", claim=True, content="hello")
    await settle(registry.journal, row, answer("hi"))
    await registry.close()
    done = await opening.rotate(url, SecretBox([new, old]))
    assert (done.messages.renewed, done.messages.unreadable) == (2, 0)
    registry = await Registry.open(url, cipher=SecretBox([new]))
    assert [(one.message.content, one.state) for one in await registry.journal.messages()] == [("hello", "done")]
    await registry.close()


async def test_one_rotation_at_a_time_so_that_none_undoes_another(url: str) -> None:
    keys = [generate_key(), generate_key()]
    with postgres.holding(f"SELECT pg_advisory_xact_lock({0x61_69_77_72})", url) as commit:
        with pytest.raises(RegistryLockedError, match="Somebody encrypts the registry"):
            await opening.rotate(url, SecretBox(keys))
        commit()
        assert (await opening.rotate(url, SecretBox(keys))).messages.unreadable == 0
