"""The statements of the table ``usage``, but for the one that adds to it: that one goes with a batch."""

# ruff: noqa: S608 - the texts are put together from constants of this package; every value is bound

from __future__ import annotations

from typing import Final

from supervisor.core.records import UsageRecord
from supervisor.store.sql.sessions import Connection

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
    there = {column[0] for column in connection.execute("SELECT * FROM usage LIMIT 0").description}
    columns = ", ".join(f"usage.{column}" if column in there else "0" for column in SUMS)
    wanted = {"agent_keys.agent_id = :agent_id": agent_id, "usage.day >= :since_day": since_day}
    where = " AND ".join(["1 = 1", *(condition for condition, value in wanted.items() if value is not None)])
    rows = connection.execute(
        f"SELECT agent_keys.agent_id, usage.model, usage.day, {columns} FROM usage "
        f"JOIN agent_keys ON agent_keys.key = usage.agent_key WHERE {where} "
        "ORDER BY usage.day, agent_keys.agent_id, usage.model",
        {"agent_id": agent_id, "since_day": since_day},
    )
    return [UsageRecord(*row) for row in rows.fetchall()]


def prune(connection: Connection, before_day: str) -> int:
    """Delete the rows of the days before one; how many."""
    return connection.execute("DELETE FROM usage WHERE day < :before_day", {"before_day": before_day}).rowcount
