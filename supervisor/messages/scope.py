"""What every part of one agent's messages works with: who the agent is, its log, its journal, its measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from supervisor.core.activity import Activity
from supervisor.core.clock import Clock, SystemClock
from supervisor.core.records import JournaledMessage
from supervisor.store import Journal
from supervisor.telemetry.logs import bind_message
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.tracing import Traces


@dataclass(frozen=True, slots=True)
class Scope:
    """One agent, and the process's services as its parts use them.

    Attributes:
        log: the agent's own logger, bound to its id.
        traces: the traces of this agent's messages.
        activity: what the agent did in each minute of the last hour.
    """

    agent_id: str
    log: Any
    journal: Journal
    metrics: Metrics
    clock: Clock
    traces: Traces
    activity: Activity = field(default_factory=lambda: Activity(SystemClock()))

    def bind_log(self, row: JournaledMessage) -> None:
        """What the present task logs from here on is about a message."""
        ids = {"message_id": row.key, **self.traces.log_fields(row)}
        bind_message(agent=row.agent_id, conversation=row.conversation_id, **ids)
