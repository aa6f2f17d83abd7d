"""How much room the registry's disk has left."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from supervisor.store.dialect.face import Space

#: Nearly full is a disk with less than this left, or less than a tenth, whichever is less: SQLite's log alone takes up
#: to 64 MiB, and a small volume of its own may be small.
LOW_BYTES: Final = 128 * 1024 * 1024
LOW_SHARE: Final = 0.1
#: What SQLite's log may take of a small disk, and what it needs at least.
LOG_SHARE: Final = 0.1
LEAST_LOG_BYTES: Final = 512 * 1024


def log_bytes(path: Path, most: int) -> int:
    """How large SQLite's log may be on a registry's disk: it must not fill a small one by itself.

    Args:
        most: on a disk that is large enough.
    """
    try:
        total = shutil.disk_usage(path.parent).total
    except OSError:
        return most
    return max(LEAST_LOG_BYTES, min(most, int(total * LOG_SHARE)))


def space(path: Path) -> Space | None:
    """How large a registry is, its log included, and how much room is left for it; None where that cannot be asked."""
    try:
        disk = shutil.disk_usage(path.parent)
        used = sum(found.stat().st_size for found in (path, path.with_name(f"{path.name}-wal")) if found.exists())
    except OSError:
        return None
    return Space(used, disk.free, disk.total)


def scarce(path: Path, low_bytes: int = LOW_BYTES) -> str | None:
    """What to say of a registry's disk that is nearly full; None while it is not, or cannot be asked.

    Args:
        low_bytes: on a large disk, how little is nearly nothing.
    """
    try:
        disk = shutil.disk_usage(path.parent)
    except OSError:
        return None
    if disk.free >= min(low_bytes, disk.total * LOW_SHARE):
        return None
    left = f"{disk.free / 1024 / 1024:,.1f} MiB of {disk.total / 1024 / 1024:,.0f} are left"
    return f"the disk of the registry is nearly full: {left} in {path.parent}; free some space, or move the registry"
