"""R14: a registry whose file is damaged when the supervisor starts."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError
from supervisor.service import Service
from supervisor.store import backup
from tests.support.command import Command
from tests.support.observing import Bystander, talking
from tests.support.reliability import Case
from tests.support.stack import stack


def damage(path: Path, how: str) -> None:
    """Do to a file what disks and people do."""
    content = bytearray(path.read_bytes())
    match how:
        case "no database":
            content = bytearray(b"not a database at all " * 1000)
        case "header":
            content[:100] = bytes(100)
        case "pages":
            content[4096:] = b"\xa5" * (len(content) - 4096)
        case "cut short":
            del content[len(content) // 2 :]
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["no database", "header", "pages", "cut short"])
async def test_r14_a_damaged_file_refuses_to_start_and_says_how_to_restore(
    tmp_path: Path, case: Callable[[str], Case], how: str
) -> None:
    counted = case(f"R14 {how}")
    path, copy = tmp_path / "supervisor.db", tmp_path / "copy.db"
    async with stack(tmp_path) as fleet:
        bystander = await Bystander.join(fleet)
        async with talking(fleet.sandbox, bystander.id, counted):
            await asyncio.sleep(0.2)
        await backup(fleet.settings.registry_url, copy)
        await fleet.service.stop()
        with closing(sqlite3.connect(path)) as sql:
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        damage(path, how)
        damaged, counted.faults = path.read_bytes(), 1
        with pytest.raises(RegistryError, match="supervisor db backup") as caught:
            await Service.start(fleet.settings)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == damaged, "left as it was, for whoever wants to save something"
        # As it says: the copy in its place, without the two files beside it.
        for beside in ("-wal", "-shm"):
            Path(f"{path}{beside}").unlink(missing_ok=True)
        shutil.copy(copy, path)
        began = time.monotonic()
        fleet.service = await Service.start(fleet.settings)
        await fleet.online()
        counted.recovered(time.monotonic() - began)
        [reply] = await fleet.ask(bystander.id, "restored?")
        assert reply.content == "Echo: restored?"


async def test_r14_the_command_says_it_in_one_line(tmp_path: Path, case: Callable[[str], Case]) -> None:
    case("R14 command").faults = 1
    (tmp_path / "supervisor.db").write_bytes(b"no database" * 500)
    done = await asyncio.to_thread(Command(tmp_path), "run", SUPERVISOR_ADMIN_PORT="0")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "damaged" in line
    assert "supervisor db backup" in line
