"""The statements of the table ``usage``, but for the one that adds to it: that one goes with a batch."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, inspect, literal, select

from supervisor.core.records import UsageRecord
from supervisor.store.sql.schema import agent_keys, usage

#: The columns that are summed up, in the order of a record's fields.
SUMS: Final = (
    "requests",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost",
    "unpriced_requests",
    "reasoning_tokens",
    "estimated_requests",
)


def read(connection: Connection, agent_id: str | None, since_day: str | None) -> list[UsageRecord]:
    """What was used, by day, agent and model; of one agent, or from a day on, where that is asked for.

    A registry of an older version may have no column for a sum yet: it is 0.
    """
    there = {column["name"] for column in inspect(connection).get_columns(usage.name)}
    columns = [usage.c[column] if column in there else literal(0) for column in SUMS]
    query = select(agent_keys.c.agent_id, usage.c.model, usage.c.day, *columns).join(
        agent_keys, agent_keys.c.key == usage.c.agent_key
    )
    if agent_id is not None:
        query = query.where(agent_keys.c.agent_id == agent_id)
    if since_day is not None:
        query = query.where(usage.c.day >= since_day)
    rows = connection.execute(query.order_by(usage.c.day, agent_keys.c.agent_id, usage.c.model))
    return [UsageRecord(*row) for row in rows]


def prune(connection: Connection, before_day: str) -> int:
    """Delete the rows of the days before one; how many."""
    return connection.execute(delete(usage).where(usage.c.day < before_day)).rowcount
