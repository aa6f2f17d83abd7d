"""Whoever waits for a write to a file is woken by it and by nothing else; without the system's help he waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.store.sqlite.write_watch import WriteWatch

LONG_SECONDS = 30.0
SHORT_SECONDS = 0.05


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"")
    return path


@pytest.fixture
def watch(path: Path) -> Iterator[WriteWatch]:
    made = WriteWatch(path)
    yield made
    made.close()


def descriptors() -> set[str]:
    return {one.readlink().as_posix() for one in Path("/proc/self/fd").iterdir() if one.is_symlink()}


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


async def test_a_write_wakes_who_waits(watch: WriteWatch, path: Path) -> None:
    waiting = asyncio.create_task(watch.wait(LONG_SECONDS))
    await asyncio.sleep(SHORT_SECONDS)
    assert not waiting.done()
    append(path)
    assert await asyncio.wait_for(waiting, LONG_SECONDS / 2)


async def test_writes_while_nobody_waited_are_told_once(watch: WriteWatch, path: Path) -> None:
    for _ in range(100):
        append(path)
    assert await watch.wait(LONG_SECONDS)
    assert not await watch.wait(SHORT_SECONDS)


async def test_other_files_and_readers_wake_nobody(watch: WriteWatch, path: Path) -> None:
    append(path.with_name("other"))
    path.read_bytes()
    assert not await watch.wait(SHORT_SECONDS)


async def test_who_is_cancelled_leaves_the_next_one_its_write(watch: WriteWatch, path: Path) -> None:
    waiting = asyncio.create_task(watch.wait(LONG_SECONDS))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    append(path)
    assert await watch.wait(LONG_SECONDS)


async def test_a_file_that_is_not_there_or_goes_is_waited_for_as_long_as_was_said(path: Path) -> None:
    gone, missing = WriteWatch(path), WriteWatch(path.with_name("missing"))
    path.unlink()
    # That it is gone is told, once; what comes in its place is another file.
    await gone.wait(LONG_SECONDS)
    append(path)
    for watch in (gone, missing):
        began = time.monotonic()
        assert not await watch.wait(SHORT_SECONDS)
        assert time.monotonic() - began >= SHORT_SECONDS * 0.9
        watch.close()


async def test_its_descriptor_is_given_back_once(path: Path) -> None:
    before = descriptors()
    watch = WriteWatch(path)
    assert len(descriptors() - before) == 1
    watch.close()
    watch.close()
    assert descriptors() == before
