"""The registry: the table of agents, and the journal of messages and replies, in one SQLite file (DESIGN §5)."""

from supervisor.registry.codec import Cipher
from supervisor.registry.journal import Journal
from supervisor.registry.lock import LockInfo, lock_holder
from supervisor.registry.rotation import Rotation, rotate
from supervisor.registry.store import Registry, backup, check, upgrade

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
