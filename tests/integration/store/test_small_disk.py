"""A registry on a disk of a few megabytes: its log leaves it room, and once it was full it goes on by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# In a mount namespace of its own: nobody else sees the disk, and it is gone with the process.
MOUNTED = 'mount -t tmpfs -o size=6m none "$0" && exec "$@"'

SMALL = """
import asyncio, os, sys
from pathlib import Path
from supervisor.core.records import AgentRecord
from supervisor.protocol import InboundMessage
from supervisor.store import LockInfo, Registry

folder = Path(sys.argv[1])

def add(registry, number):
    message = InboundMessage(conversation_id="c", role="user", content="x" * 3000)
    return registry.journal.add("agent", message, key=f"k{number}", received_at=1.0, claim=True)

async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)

async def main():
    registry = await Registry.open(f"sqlite+aiosqlite:///{folder}/supervisor.db", upgrade=True, lock=LockInfo())
    journal = registry.journal
    await registry.add_agent(AgentRecord("a", "echo", "env:AGENT_A"))
    # Five times the disk's size goes through the log.
    for turn in range(1200):
        await registry.update_agent("a", settings={"turn": turn, "filling": "x" * 20_000})
    log = (folder / "supervisor.db-wal").stat().st_size
    print("log", log < 2_000_000, await registry.scarce_room() is None)
    filler = folder / "filler"
    with filler.open("wb") as file:
        file.write(b"x" * 1_000_000)
        file.flush()
        adding = []
        while journal.healthy and len(adding) < 5000:
            adding.append(asyncio.create_task(add(registry, len(adding))))
            await asyncio.sleep(0.001)
    print("full", "disk is full" in (journal.problem or ""), "nearly full" in await registry.scarce_room())
    filler.unlink()
    await until(lambda: journal.healthy and not journal.waiting)
    rows = await asyncio.gather(*adding)
    print("went on", len(rows) == len(await journal.messages(limit=10_000)))
    await registry.close()

asyncio.run(main())
"""


def mounting_works(folder: Path) -> bool:
    try:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", MOUNTED, str(folder), "true"], capture_output=True, timeout=30, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def test_a_tiny_disk_recovers_by_itself_and_is_not_filled_by_the_log(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mounting_works(disk):
        pytest.skip("nobody may mount a disk here")
    command = ["unshare", "-rm", "sh", "-c", MOUNTED, str(disk), sys.executable, "-c", SMALL, str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["log True True", "full True True", "went on True"]
