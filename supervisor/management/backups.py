"""Copies of a registry in a folder, named after the time at which they were made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_NAME: Final = "supervisor-{:%Y%m%dT%H%M%SZ}.db"
_ANY: Final = "supervisor-????????T??????Z.db"


def fresh_name(folder: Path, now: float) -> Path:
    """Where a copy goes that is made at ``now``, in seconds since the epoch; the folder is made where it is missing.

    Raises:
        OSError: it cannot be made.
    """
    # People's messages are for the supervisor's owner.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / _NAME.format(datetime.fromtimestamp(now, UTC))


def keep_newest(folder: Path, keep: int) -> list[Path]:
    """Delete all but the newest ``keep`` copies; those that are gone. Other files stay.

    Raises:
        OSError: one cannot be deleted.
    """
    old = sorted(folder.glob(_ANY), reverse=True)[keep:]
    for path in old:
        path.unlink()
    return old
