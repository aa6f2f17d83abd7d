"""The statements of the table ``agent_lives``, but for those that write it: they go with a batch."""

from __future__ import annotations

from typing import Final

from supervisor.core.records import AgentLife, Sleep
from supervisor.store.sql.sessions import Connection, scalar

#: The row of the table ``meta`` that says since when lives are remembered.
SINCE: Final = "lives_since"

_LIVES: Final = "SELECT agent_id, registered_at, asleep_since, asleep_until, asleep_reason FROM agent_lives"
_SINCE: Final = "SELECT value FROM meta WHERE key = :key"
_BEGIN: Final = "INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING"


def read(connection: Connection, agent_id: str | None) -> list[AgentLife]:
    """What is remembered of one agent, or of all, in order of ids."""
    where = "" if agent_id is None else "WHERE agent_id = :agent_id"
    found = connection.execute(f"{_LIVES} {where} ORDER BY agent_id", {"agent_id": agent_id})
    return [_life(*row) for row in found.fetchall()]


def _life(
    agent_id: str, registered_at: float | None, since: float | None, until: float | None, reason: str | None
) -> AgentLife:
    return AgentLife(agent_id, registered_at, None if since is None else Sleep(since, until, reason or ""))


def forget(connection: Connection, agent_id: str | None) -> None:
    """Forget an agent, or all that are not registered."""
    gone = "= :agent_id" if agent_id else "NOT IN (SELECT id FROM agents)"
    connection.execute(f"DELETE FROM agent_lives WHERE agent_id {gone}", {"agent_id": agent_id})  # noqa: S608


def since(connection: Connection, now: float, *, begin: bool) -> float:
    """Since when lives are remembered; ``now`` where that has not begun.

    Args:
        begin: it begins now, unless it has.
    """
    noted = scalar(connection, _SINCE, {"key": SINCE})
    if noted is None and begin:
        # Another supervisor may begin at the same moment.
        connection.execute(_BEGIN, {"key": SINCE, "value": repr(now)})
        noted = scalar(connection, _SINCE, {"key": SINCE})
    return now if noted is None else float(noted)
