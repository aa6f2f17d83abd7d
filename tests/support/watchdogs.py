"""What watchdogs have counted."""

from __future__ import annotations

from supervisor.telemetry.metrics import Metrics


def struck(metrics: Metrics, watchdog: str) -> float:
    """How often one of the watchdogs has struck."""
    line = f'supervisor_watchdog_total{{watchdog="{watchdog}"}} '
    return float(metrics.render("")[0].decode().partition(line)[2].partition("\n")[0])
