"""Looking a database through: what is missing in it, and what its server cannot clear away."""

# ruff: noqa: S608 - the texts are put together from names of our own

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import DamagedError
from supervisor.store.sql.sessions import Connection, scalar

#: The tables whose rows change all the time.
HOT: Final = ("inbox_open", "outbox_open", "conversations", "replicas", "journal_commits")
#: More dead rows than these, and than living ones, make a hot table slow.
_DEAD_ROWS: Final = 10_000
_OLD_SECONDS: Final = 300.0
_LOST: Final = (
    "SELECT (SELECT count(*) FROM inbox WHERE body IS NULL), (SELECT count(*) FROM outbox WHERE body IS NULL), "
    "(SELECT count(*) FROM fences WHERE replica = 0)"
)
_UNPAIRED: Final = (
    "SELECT count(*) FROM fences FULL JOIN replicas ON id = replica "
    "WHERE replica IS DISTINCT FROM id AND replica IS DISTINCT FROM 0"
)
_BLOATED: Final = (
    "SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables "
    f"WHERE schemaname = current_schema() AND relname IN {HOT} AND n_dead_tup > greatest(:dead, n_live_tup) ORDER BY 1"
)
#: So much of its log keeps a server for somebody who does not fetch it, before that is worth a note.
_HELD_BACK_BYTES: Final = 1 << 30
# What keeps a row that nobody needs any more from being cleared away: whoever may still see it. Who is idle in a
# transaction may keep none, and still holds locks.
_OLDEST: Final = """
SELECT DISTINCT ON (keeps) who, keeps, seconds FROM (
    SELECT coalesce(nullif(application_name, ''), usename, '?') || ', process ' || pid AS who,
        num_nonnulls(backend_xmin, backend_xid) > 0 AS keeps,
        extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND (num_nonnulls(backend_xmin, backend_xid) > 0 OR state LIKE 'idle in transaction%')
    UNION ALL
    SELECT 'PREPARE TRANSACTION ' || gid, true, extract(epoch FROM clock_timestamp() - prepared)::float8
    FROM pg_prepared_xacts WHERE database = current_database()
) AS open WHERE seconds >= :old ORDER BY keeps DESC, seconds DESC"""
# What its log has that a copy of the server, or whoever reads the log, is still to fetch: it fills the server's disk.
_SLOTS: Final = """
SELECT slot_name::text, active, bytes FROM (
    SELECT slot_name, active, pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn
    )::float8 AS bytes FROM pg_replication_slots
) AS slots WHERE bytes >= :held ORDER BY bytes DESC"""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a look found.

    Args:
        release: of the server, such as ``18.4``.
        notes: what is not as it should be, and costs no message.
    """

    release: str
    notes: tuple[str, ...]


def inspect(
    connection: Connection,
    where: str,
    *,
    dead_rows: int = _DEAD_ROWS,
    old_seconds: float = _OLD_SECONDS,
    held_back_bytes: int = _HELD_BACK_BYTES,
) -> Inspection:
    """Look a registry through.

    Args:
        dead_rows: so many in a table that changes all the time are worth a note.
        old_seconds: so is a transaction that has been open for so long.
        held_back_bytes: so is so much of the server's log that is kept for a replication slot.

    Raises:
        RegistryError: something is missing without which messages are lost, or nothing can be written.
    """
    messages, replies, fence = connection.execute(_LOST).fetchone()
    if messages or replies:
        raise DamagedError(
            f"The registry {where} is damaged (the text of {messages} messages and {replies} replies is gone); "
            "restore a backup of it"
        )
    if not fence:
        raise RegistryError(
            f"The registry {where} takes nothing from commands: the table fences lacks its row 0; "
            "bring it back with: INSERT INTO fences VALUES (0)"
        )
    notes = []
    if unpaired := scalar(connection, _UNPAIRED):
        notes.append(f"{unpaired} supervisors are registered without a fence, or fenced without being registered")
    for table, dead, living in connection.execute(_BLOATED, {"dead": dead_rows}).fetchall():
        notes.append(f"{table} has {dead} dead rows beside {living}: VACUUM is too rare, or kept from them")
    for who, keeps, seconds in connection.execute(_OLDEST, {"old": old_seconds}).fetchall():
        then = "no dead row since then goes" if keeps else "it is idle, and an upgrade would wait for its locks"
        notes.append(f"a transaction has been open for {seconds / 60:.0f} min ({who}): {then}")
    for slot, active, held in connection.execute(_SLOTS, {"held": held_back_bytes}).fetchall():
        then = "who has it is behind" if active else "nobody reads it: pg_drop_replication_slot, if nobody will"
        notes.append(f"the replication slot {slot} keeps {held / 1e9:.1f} GB of the log on the server's disk; {then}")
    release = str(scalar(connection, "SHOW server_version")).partition(" ")[0]
    return Inspection(release, tuple(notes))
