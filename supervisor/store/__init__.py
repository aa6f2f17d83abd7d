"""The registry: the table of agents, and the journal of messages and replies, in one SQLite file (DESIGN §5)."""

from supervisor.store.codec import Cipher
from supervisor.store.journal import Journal
from supervisor.store.lock import LockInfo, lock_holder
from supervisor.store.rotation import Rotation, rotate
from supervisor.store.store import Registry, backup, check, upgrade

__all__ = [
    "Cipher",
    "Journal",
    "LockInfo",
    "Registry",
    "Rotation",
    "backup",
    "check",
    "lock_holder",
    "rotate",
    "upgrade",
]
