"""What the registry's server carries: agents that nobody runs, and rows that it has not cleared away."""

from __future__ import annotations

from typing import Final

from supervisor.store.dialect.replicas import Burden
from supervisor.store.postgres.soundness import HOT
from supervisor.store.sql.sessions import Connection

_ORPHANS: Final = (
    "SELECT count(*) FROM agents WHERE paused = 0 "
    "AND NOT EXISTS (SELECT 1 FROM leases WHERE agent_id = agents.id AND owner IS NOT NULL)"
)
_DEAD_ROWS: Final = (
    "SELECT relname::text, n_dead_tup FROM pg_stat_user_tables "  # noqa: S608  names of our own
    f"WHERE schemaname = current_schema() AND relname IN {HOT}"
)
_OLDEST: Final = (
    "SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND num_nonnulls(backend_xmin, backend_xid) > 0"
)
_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"


def weigh(connection: Connection) -> Burden:
    """What it carries just now."""
    [[orphans]] = connection.execute(_ORPHANS).fetchall()
    [[oldest]] = connection.execute(_OLDEST).fetchall()
    dead_rows = dict(map(tuple, connection.execute(_DEAD_ROWS).fetchall()))
    # Asked last: what came before takes its time.
    [[clock]] = connection.execute(_CLOCK).fetchall()
    return Burden(orphans, dead_rows, oldest, clock)
