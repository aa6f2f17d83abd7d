"""The registry's file is lost, and comes back; its disk fills: what is said, how often, and what is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from supervisor.service.storage_watch import SAVE_SECONDS, StorageWatch
from supervisor.store import LockInfo, Registry
from tests.support.clock import ManualClock
from tests.support.journaling import add
from tests.support.observing import named
from tests.support.stores import MemoryStore, SqliteStore, open_on


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path)


@pytest.fixture
async def registry(store: SqliteStore) -> AsyncIterator[Registry]:
    opened = await open_on(store, lock=LockInfo())
    yield opened
    await opened.close()


async def test_a_lost_file_is_one_critical_line_and_a_copy(
    registry: Registry, store: SqliteStore, log: list[Any]
) -> None:
    clock = ManualClock()
    watch = StorageWatch(registry, clock, lambda reason: None)
    await add(registry.journal, "before")
    for _ in range(3):
        await watch.look()
    assert (log, watch.problems()) == ([], ())
    store.path.rename(store.folder / "elsewhere")
    for _ in range(3):
        await watch.look()
    [line] = named(log, "registry_lost")
    assert line["log_level"] == "critical"
    assert "was deleted" in line["reason"]
    [copy] = named(log, "registry_saved")
    assert Path(copy["copy"]).stat().st_size > 0
    [problem] = watch.problems()
    assert problem.startswith("the registry is lost: ")
    (store.folder / "elsewhere").rename(store.path)
    for _ in range(3):
        await watch.look()
    assert len(named(log, "registry_back")) == 1
    assert watch.problems() == ()


async def test_a_copy_that_cannot_be_made_is_tried_again(
    registry: Registry, store: SqliteStore, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is gone, and where temporary files are nothing can be made either."""
    clock = ManualClock()
    watch = StorageWatch(registry, clock, lambda reason: None)
    nowhere = store.folder / "nowhere"
    monkeypatch.setattr("tempfile.tempdir", str(nowhere))
    hidden = store.folder.with_name(f"{store.folder.name}-hidden")
    store.folder.rename(hidden)
    for _ in range(3):
        await watch.look()
    assert len(named(log, "registry_lost")) == 1
    assert len(named(log, "registry_not_saved")) == 1, "not at each look"
    store.folder.mkdir()
    await clock.advance(SAVE_SECONDS)
    await watch.look()
    assert len(named(log, "registry_saved")) == 1
    assert len(list(store.folder.glob("supervisor.db.rescued-*"))) == 1


async def test_a_disk_that_is_nearly_full_is_named_before_it_is_full(log: list[Any]) -> None:
    registry = await open_on(MemoryStore())
    watch = StorageWatch(registry, ManualClock(), lambda reason: None)
    for said in (None, "it is nearly full", "it is fuller", None):
        registry.database.room = said  # type: ignore[attr-defined]
        await watch.look_for_room()
        assert watch.notice == (said or "")
    assert [line["event"] for line in log] == ["disk_nearly_full", "disk_has_room"]
    await registry.close()


async def test_the_size_of_the_registry_and_the_room_left_are_known(registry: Registry, store: SqliteStore) -> None:
    watch = StorageWatch(registry, ManualClock(), lambda reason: None)
    await watch.look_for_room()
    before = watch.space
    assert before is not None
    assert before.used_bytes >= store.path.stat().st_size
    assert 0 < before.free_bytes < before.disk_bytes
    for number in range(50):
        await add(registry.journal, f"{number}", content="x" * 10_000)
    await watch.look_for_room()
    after = watch.space
    assert after is not None
    assert after.used_bytes > before.used_bytes
