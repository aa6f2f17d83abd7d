"""All that is SQLite's own: where a file may lie, pragmas, transactions, the lock, and what its errors mean.

May import ``supervisor.store.sql`` and the store's values, SQLAlchemy and ``sqlite3``. The assumption that one process
runs the agents of a registry has a home for each of its parts here: row numbers come from memory (``numbers``), a
change of an agent is a commit of another connection (``changes``), the holder is a locked file (``lock``), a write
needs no fence (``batch``), and errors are SQLite's (``errors``).
"""

from supervisor.store.sqlite.database import SqliteDatabase
from supervisor.store.sqlite.dialect import Sqlite

__all__ = ["Sqlite", "SqliteDatabase"]
