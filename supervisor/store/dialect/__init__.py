"""What a database has to be for the registry and the journal: its face, its operations, and what is stored.

May import the core and settings' secrets, no driver. How a statement reads belongs to :mod:`supervisor.store.sql`, what
only one database does to the package of that database, and when something is written to the journal above. The
modules hold the values that cross the seam: ``operations`` of a batch, what is ``stored``, ``rows`` of agents.
"""

from supervisor.store.dialect.codec import TextCodec
from supervisor.store.dialect.face import (
    AgentTable,
    DamagedError,
    Database,
    Dialect,
    JournalChanges,
    JournalQuestions,
    StorageError,
)
from supervisor.store.dialect.holder import LockInfo
from supervisor.store.dialect.rotation import Rotation

__all__ = [
    "AgentTable",
    "DamagedError",
    "Database",
    "Dialect",
    "JournalChanges",
    "JournalQuestions",
    "LockInfo",
    "Rotation",
    "StorageError",
    "TextCodec",
]
