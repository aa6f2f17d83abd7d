"""What can be seen of the supervisor: logs, events, metrics, traces, usage.

May import settings and what is below. Deciding anything belongs to whoever reports it here; serving what is seen
belongs to :mod:`supervisor.admin`. Nothing secret and no text of a conversation leaves through it.
"""

__all__ = ["console", "events", "failures", "logs", "metrics", "outage_log", "redaction", "tracing", "usage"]
