"""What the supervisor shows of itself: the same values for the admin API, the CLI and tests. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from supervisor.states import AgentState


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """Messages of one agent by where they are; retryable ones count as available."""

    available: int = 0
    running: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent as the contract shows it in JSON (DESIGN §6).

    Args:
        since: when the state began, seconds since the epoch; None when no supervisor runs.
        reason: why it is not online, in one line; empty when there is nothing to say.
        health: ``ok``, or ``failing`` with the reason where the agent is online and cannot answer well.
        conversation_id: the conversation that v1 put it in; None on v2 or when offline.
        conversations: how many conversations it has been active in lately.
        auth_expires_at: when its token expires, seconds since the epoch.
    """

    id: str
    name: str
    handler: str
    state: AgentState
    since: float | None = None
    reason: str = ""
    health: str = "ok"
    conversation_id: str | None = None
    conversations: int = 0
    auth_expires_at: float | None = None
    inbox: InboxCounts = field(default_factory=InboxCounts)
    settings: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole supervisor in a few figures: ``GET /api/v1/status``.

    Args:
        started_at: seconds since the epoch.
        agents: how many agents are in each state; states without agents are left out.
        inbox: messages of all agents.
        problems: what keeps it from being ready, one line each; empty when it is.
        notices: what a person should know although it is ready: a platform host that is down, refused agents.
    """

    version: str
    pid: int
    registry_uuid: str
    started_at: float
    agents: dict[str, int]
    inbox: InboxCounts
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
