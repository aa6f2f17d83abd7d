"""Noticing that an agent was changed, by whoever, raw SQL included."""

from __future__ import annotations

from typing import Final

from supervisor.store.sql.sessions import Connection, Sessions, scalar

#: How long the log of changes is kept; whoever looks does so several times a second.
_KEPT: Final = "1 hour"
#: The log is cleared once in so many looks.
_CLEAR_EVERY: Final = 3_000
# In one statement, so that the log and the transactions that were open are of one moment.
_LOOK: Final = (
    "SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text), (SELECT array_agg(id) FROM agent_changes "
    "WHERE xid >= CAST(CAST(:since AS text) AS xid8) AND (replicas IS NULL OR :replica = ANY(replicas)))"
)
_CLEAR: Final = f"DELETE FROM agent_changes WHERE at < now() - interval '{_KEPT}'"  # noqa: S608 - a constant of ours


class ChangeNotice:
    """Follows the log that the triggers of ``agents`` write.

    A change carries the number of its transaction. What was committed late, behind changes that were seen already, is
    found all the same: each look begins at the oldest transaction that was open at the last one.

    Args:
        replica: whose agents are followed: that others have agents of each other's is no news to it.
    """

    def __init__(self, sessions: Sessions, replica: int) -> None:
        self._sessions = sessions
        self._replica = replica
        self._since = "0"
        self._seen: frozenset[int] = frozenset()
        self._looks = 0

    async def begin(self) -> None:
        """Notice what is committed from now on."""
        self._since = await self._sessions.read(
            lambda connection: str(scalar(connection, "SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text)"))
        )
        await self.changed()

    async def changed(self) -> bool:
        """Whether an agent was changed since this was last asked.

        Raises:
            StorageError: the server cannot tell just now; asked again, it still says so.
        """
        since, found = await self._sessions.read(self._look)
        news = found - self._seen
        self._since, self._seen = since, found
        self._looks += 1
        if self._looks % _CLEAR_EVERY == 0:
            await self._sessions.alter(lambda connection: connection.execute(_CLEAR).rowcount)
        return bool(news)

    def _look(self, connection: Connection) -> tuple[str, frozenset[int]]:
        since, ids = connection.execute(_LOOK, {"since": self._since, "replica": self._replica}).fetchone()
        return since, frozenset(ids or ())
