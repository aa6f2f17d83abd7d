"""When a registry's disk is called nearly full."""

from __future__ import annotations

import shutil
from pathlib import Path

from supervisor.store.sqlite.room import scarce


def test_how_little_is_nearly_nothing(tmp_path: Path) -> None:
    disk = shutil.disk_usage(tmp_path)
    assert scarce(tmp_path / "a.db", low_bytes=0) is None
    said = scarce(tmp_path / "a.db", low_bytes=disk.total)
    # Less than a tenth of it is nearly nothing whatever its size.
    assert (said is None) == (disk.free >= disk.total / 10)
    assert scarce(tmp_path / "missing" / "a.db") is None, "which is no question of room"
