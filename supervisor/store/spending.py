"""The table ``usage``: what agents used of language models, a row for each agent, model and UTC day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sqlalchemy import Connection, delete, select

from supervisor.core.records import UsageRecord
from supervisor.store.rows import RowsStatement
from supervisor.store.schema import agent_keys, usage

_SUMS: Final = ("requests", "input_tokens", "output_tokens", "cached_tokens", "cost", "unpriced_requests")
_SPEND: Final = RowsStatement(
    f"INSERT INTO usage (day, agent_key, model, {', '.join(_SUMS)}) VALUES",
    3 + len(_SUMS),
    "ON CONFLICT (day, agent_key, model) DO UPDATE SET "
    + ", ".join(f"{column} = usage.{column} + excluded.{column}" for column in _SUMS),
)


def spend(connection: Connection, records: Iterable[UsageRecord], agent_key: Callable[[Connection, str], int]) -> None:
    """Add what was used to the rows of its agents, models and days, in the caller's transaction.

    Args:
        records: one for each agent, model and day at most.
    """
    rows = [
        (record.day, agent_key(connection, record.agent_id), record.model, *(getattr(record, sum_) for sum_ in _SUMS))
        for record in records
    ]
    _SPEND.execute(connection, rows)


def read(connection: Connection, agent_id: str | None, since_day: str | None) -> list[UsageRecord]:
    """What was used, by day, agent and model; of one agent, or from a day on, where that is asked for."""
    columns = [getattr(usage.c, column) for column in _SUMS]
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
