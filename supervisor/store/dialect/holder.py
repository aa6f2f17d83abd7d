"""Who holds a registry: what a running supervisor tells of itself to those who ask or are refused."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds a registry.

    Args:
        address: where its admin API listens, such as ``http://127.0.0.1:8640``; empty when it does not.
        started_at: when it said so, in seconds since the epoch.
        first_key: a mark of the first of its SECRET_KEYS (``SecretBox.first_key_id``); empty without any.
        inode: of the file that it has open, by which a command tells whether it looks at the same one; 0 unknown.
        lost: what became of that file while it was open; empty while it is where it was.
    """

    address: str = ""
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    started_at: float = field(default_factory=time.time)
    first_key: str = ""
    inode: int = 0
    lost: str = ""

    def __str__(self) -> str:
        words = [f"pid {self.pid} on {self.host}"]
        if self.address:
            words.append(f"admin API at {self.address}")
        words.append(f"since {datetime.fromtimestamp(self.started_at, UTC):%Y-%m-%d %H:%M:%S} UTC")
        return ", ".join(words)
