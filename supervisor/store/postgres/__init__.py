"""All that is PostgreSQL's own: its URL, connections, the statement that commits, who holds it, what its errors mean.

It may import ``supervisor.store.sql``, the store's values, ``asyncpg``, SQLAlchemy and Alembic. What every database
does alike belongs to the store above, statements that others can use too to ``supervisor.store.sql``, tables and views
to ``supervisor.store.migrations.postgres_0001``. Nothing of it is loaded for a registry in a file.

Numbers of rows come from sequences (``statement``), a change of an agent from a log (``changes``), the holder is a row
that moves (``holding``), and every write locks its fence (``writer``).
"""

from supervisor.store.postgres.database import PostgresDatabase
from supervisor.store.postgres.dialect import Postgres

__all__ = ["Postgres", "PostgresDatabase"]
