"""All that is SQLite's own: where a file may lie, pragmas, transactions, the lock, and what its errors mean.

It may import ``supervisor.store.sql``, the store's values, ``sqlite3`` and, to migrate, Alembic. What every database
does alike belongs to the store above, statements that others can use too to ``supervisor.store.sql``.

One process runs the agents of a file. Each part of that assumption has one home (``docs/architecture.md#one-process``):
row numbers come from memory (``numbers``), a change of an agent is a commit of another connection (``changes``), the
holder is a locked file (``lock``), a write needs no fence (``batch``), and errors are SQLite's (``errors``).
"""

from supervisor.store.sqlite.database import SqliteDatabase
from supervisor.store.sqlite.dialect import Sqlite

__all__ = ["Sqlite", "SqliteDatabase"]
