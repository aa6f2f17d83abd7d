"""Who holds a registry: what a running supervisor tells of itself, and what it leaves where it could not end well."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

#: Another one after each start of the machine, on Linux.
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
#: How the interpreter begins what it says of its own crash.
CRASHED: Final = "Fatal Python error: "


def boot_id() -> str:
    """Which start of the machine this is; empty where the system does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds a registry.

    Args:
        address: where its admin API listens, such as ``http://127.0.0.1:8640``; empty when it does not.
        started_at: when it said so, in seconds since the epoch.
        first_key: a mark of the first of its SECRET_KEYS (``SecretBox.first_key_id``); empty without any.
        inode: of the file that it has open, by which a command tells whether it looks at the same one; 0 unknown.
        lost: what became of that file while it was open; empty while it is where it was.
        version: of the supervisor.
        boot: the start of the machine that it runs in.
        ended: why it ended, or is about to, where nobody told it to: whoever holds the registry next hears of it.
        alone: it wants the registry for itself, as a command does that copies all of it.
        features: the forms of the shared tables that it can work with, a bit for each.
        capacity: how many agents it is to have, beside what others have.
        pace: how many agents the fleet may connect in a second.
        moves: how many agents may be on their way to others at once; None: what may be connected in a few seconds.
        lease_seconds: how long it may stand still before others take its agents.
        keys: marks of all of its SECRET_KEYS.
        api_url: the platform's REST API, by default.
        number: which incarnation it is, where several may hold the registry; 0 where one does. The database tells it.
        registry_uuid: the registry's own, told with the number.
    """

    address: str = ""
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    started_at: float = field(default_factory=time.time)
    first_key: str = ""
    inode: int = 0
    lost: str = ""
    version: str = ""
    boot: str = field(default_factory=boot_id)
    ended: str = ""
    alone: bool = False
    features: int = 0
    capacity: float = 1.0
    pace: float = 50.0
    moves: int | None = None
    lease_seconds: float = 15.0
    keys: tuple[str, ...] = ()
    api_url: str = ""
    number: int = 0
    registry_uuid: str = ""

    def __str__(self) -> str:
        words = [f"pid {self.pid} on {self.host}"]
        if self.address:
            words.append(f"admin API at {self.address}")
        words.append(f"since {datetime.fromtimestamp(self.started_at, UTC):%Y-%m-%d %H:%M:%S} UTC")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that held a registry and did not end as it was told to.

    Args:
        info: what it said of itself last.
        stack: where its event loop stood or what crashed was, where that ended it; else empty.
        wrote_at: when something was written to the registry last, in seconds since the epoch.
    """

    info: LockInfo
    stack: str
    wrote_at: float

    @property
    def reason(self) -> str:
        """Why it ended, as far as that is known."""
        if self.info.ended:
            return self.info.ended
        if self.stack.startswith(CRASHED):
            return f"crashed: {self.stack.partition(chr(10))[0].removeprefix(CRASHED)}"
        if self.stack:
            return "stalled: its event loop stood for too long"
        if self.info.boot and self.info.boot != boot_id():
            return "gone with its machine: it lost its power, was started anew, or is another one now"
        return "killed, by a person or by the system for want of memory: it could say nothing"
