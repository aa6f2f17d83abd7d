"""What a service is built of: the import name is ours alone, and parts are what the settings ask for."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import ConfigurationError, RegistryError
from supervisor.net.session import Session
from supervisor.platform.transport import Transport
from supervisor.service.assembly import (
    build_shared,
    check_import_name,
    collector_of,
    lock_info,
    open_parts,
    open_registry,
    start_tracing_of,
)
from supervisor.settings import Settings
from supervisor.store import LockInfo, lock_holder, opening
from supervisor.telemetry.tracing import NO_TRACING
from tests.support import postgres
from tests.support.clock import ManualClock

KEY = "q0nHc0m3bJ0d1vW1bqv0Tj6m3b6o9n1C2yq8m3Jm1hE="


def install(site: Path, name: str, **files: str) -> None:
    """What an installer leaves of a distribution."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for file, text in files.items():
        (folder / file.replace("_txt", ".txt")).write_text(text)


def settings(folder: Path, **given: object) -> Settings:
    return Settings.model_validate({"registry_url": f"sqlite+aiosqlite:///{folder / 'supervisor.db'}", **given})


@pytest.mark.parametrize(
    "files",
    [
        {"top_level_txt": "other\nsupervisor\n"},
        {"RECORD": "bin/supervisord,,\nsupervisor/__init__.py,sha256=x,1\n"},
        {"RECORD": "supervisor.py,sha256=x,1\n"},
    ],
    ids=["top_level.txt", "package", "module"],
)
def test_another_distribution_of_our_import_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    check_import_name()
    install(tmp_path, "other", **files)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match="'other' is installed too and has the same import name"):
        check_import_name()


def test_distributions_whose_names_are_only_like_ours_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "supervisor-tools", RECORD="supervisor_tools/__init__.py,,\nshare/supervisor/a,,\n")
    install(tmp_path, "bare")
    install(tmp_path, "aiwm-supervisor", RECORD="supervisor/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check_import_name()


async def test_what_is_open_is_closed_when_a_later_part_cannot_be_opened(tmp_path: Path) -> None:
    given = settings(tmp_path, agents_dir=tmp_path, ca_file=tmp_path / "no.pem")
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="SUPERVISOR_CA_FILE"):
        async with AsyncExitStack() as undo:
            await open_parts(given, SystemClock(), undo)
    assert lock_holder(given.registry_url) is None


async def test_a_registry_is_held_in_the_name_it_is_given_and_by_one(tmp_path: Path) -> None:
    given = settings(tmp_path)
    info = lock_info(given, "http://127.0.0.1:1", ManualClock())
    registry = await open_registry(given, info, SystemClock())
    holder = lock_holder(given.registry_url)
    assert holder is not None
    assert holder.address == "http://127.0.0.1:1"
    with pytest.raises(RegistryError, match="supervisor"):
        await open_registry(given, LockInfo(), SystemClock())
    await registry.close()
    assert lock_holder(given.registry_url) is None


async def test_a_registry_that_several_may_run_is_not_made_at_a_start(tmp_path: Path) -> None:
    with postgres.empty_database() as url:
        given = settings(tmp_path, registry_url=url)
        with pytest.raises(RegistryError, match="supervisor db upgrade"):
            await open_registry(given, LockInfo(), SystemClock())
        await opening.upgrade(url)
        registry = await open_registry(given, LockInfo(), SystemClock())
        await registry.close()
        postgres.on_server("UPDATE alembic_version SET version_num = '0001'", url=url)
        with pytest.raises(RegistryError, match=r"is at 0001 .* supervisor db upgrade"):
            await open_registry(given, LockInfo(), SystemClock())
        assert postgres.on_server("SELECT count(*) FROM replicas", url=url) == [(0,)]


def test_the_lock_tells_where_others_reach_it(tmp_path: Path) -> None:
    advertised = settings(tmp_path, advertise_url="http://10.0.0.5:8640")
    assert lock_info(advertised, "http://0.0.0.0:8640", ManualClock()).address == "http://10.0.0.5:8640"
    assert lock_info(settings(tmp_path), "http://0.0.0.0:8640", ManualClock()).address == "http://0.0.0.0:8640"


def test_the_lock_tells_which_key_is_used_and_nothing_of_it(tmp_path: Path) -> None:
    clock = ManualClock()
    assert lock_info(settings(tmp_path), "", clock).first_key == ""
    info = lock_info(settings(tmp_path, secret_keys=[KEY]), "", clock)
    assert info.first_key
    assert info.first_key not in KEY
    assert info.started_at == clock.now()


async def test_traces_go_nowhere_or_where_the_settings_say(tmp_path: Path) -> None:
    clock = ManualClock()
    assert start_tracing_of(settings(tmp_path), clock) is NO_TRACING
    given = settings(tmp_path, otlp_endpoint="http://127.0.0.1:9/v1/traces", otlp_headers="x-key=k")
    collector = collector_of(given, clock)
    assert collector is not None
    assert (collector.url, dict(collector.headers)) == ("http://127.0.0.1:9/v1/traces", {"x-key": "k"})
    tracing = start_tracing_of(given, clock)
    assert tracing is not NO_TRACING
    await tracing.close()


async def test_what_is_built_shows_the_settings_bounds_and_follows_the_journal(tmp_path: Path) -> None:
    given = settings(tmp_path, agents_dir=tmp_path, memory_limit=12_345_678, budget_tokens=10)
    async with AsyncExitStack() as undo:
        registry, shared, session = await open_parts(given, SystemClock(), undo)
        shown = shared.metrics.render("text/plain")[0].decode()
        assert "supervisor_memory_limit_bytes 1.2345678e+07" in shown
        registry.journal.hooks.on_error("disk full")
        assert "supervisor_journal_errors_total 1.0" in shared.metrics.render("text/plain")[0].decode()
        other = build_shared(given, registry, session, shared.transport, shared.loader, clock=SystemClock())
        assert other.settings is given
        assert other.metrics is not shared.metrics
    assert isinstance(shared.transport, Transport)
    assert isinstance(session, Session)
