"""The statements of the table ``agent_lives``, but for those that write it: they go with a batch."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, select

from supervisor.core.records import AgentLife, Sleep
from supervisor.store.sql.schema import agent_lives, agents, meta

#: The row of the table ``meta`` that says since when lives are remembered.
SINCE: Final = "lives_since"


def read(connection: Connection, agent_id: str | None) -> list[AgentLife]:
    """What is remembered of one agent, or of all, in order of ids."""
    query = select(agent_lives).order_by(agent_lives.c.agent_id)
    if agent_id is not None:
        query = query.where(agent_lives.c.agent_id == agent_id)
    return [_life(*row) for row in connection.execute(query)]


def _life(
    agent_id: str, registered_at: float | None, since: float | None, until: float | None, reason: str | None
) -> AgentLife:
    return AgentLife(agent_id, registered_at, None if since is None else Sleep(since, until, reason or ""))


def forget(connection: Connection, agent_id: str | None) -> None:
    """Forget an agent, or all that are not registered."""
    gone = agent_lives.c.agent_id == agent_id if agent_id else agent_lives.c.agent_id.not_in(select(agents.c.id))
    connection.execute(delete(agent_lives).where(gone))


def since(connection: Connection, now: float, *, begin: bool) -> float:
    """Since when lives are remembered; ``now`` where that has not begun.

    Args:
        begin: it begins now, unless it has.
    """
    noted = connection.execute(select(meta.c.value).where(meta.c.key == SINCE)).scalar()
    if noted is not None:
        return float(noted)
    if begin:
        connection.execute(meta.insert().values(key=SINCE, value=repr(now)))
    return now
