"""UTC days, by which usage is summed and budgets are set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def day_of(timestamp: float) -> str:
    """The UTC day of a time in seconds since the epoch: ``2026-01-31``."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d}"


def days_before(timestamp: float, days: int) -> str:
    """The UTC day so many days before that of a time in seconds since the epoch."""
    return f"{datetime.fromtimestamp(timestamp, UTC) - timedelta(days=days):%Y-%m-%d}"
