"""The page about metrics."""

from __future__ import annotations

from typing import Final

from docs.pages.markdown import HEAD, code, paragraphs, table
from supervisor.telemetry.metrics import Metrics

_METRICS: Final = """
`GET /metrics` gives these in Prometheus' text format, or as OpenMetrics when asked for it. A histogram has `_bucket`,
`_sum` and `_count` behind its name. Only the first `SUPERVISOR_METRICS_AGENT_LIMIT` agents have series of their own,
and what others call themselves is cut, cleaned and limited in number: `_other` stands for the rest. The series of an
agent that is removed disappear.
"""


def metrics_page() -> str:
    """The page about metrics."""
    rows = [
        [code(one.name), one.kind, one.unit, ", ".join(map(code, one.labels)), one.help]
        for one in sorted(Metrics().describe(), key=lambda one: one.name)
    ]
    listed = table(["Metric", "Type", "Unit", "Labels", "Meaning"], rows)
    return "\n\n".join(["# Metrics", HEAD, paragraphs(_METRICS), listed])
