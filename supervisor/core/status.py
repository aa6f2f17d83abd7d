"""What the supervisor shows of itself: the same values for the admin API, the CLI and tests. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from supervisor.core.replicas import ReplicaStatus
from supervisor.core.states import AgentState, MessageState, ReplyState


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """Messages of one agent by where they are; retryable ones count as available."""

    available: int = 0
    running: int = 0
    dead: int = 0


class Reading(NamedTuple):
    """What the metrics read of one agent whenever somebody scrapes; made for each agent, so it is a tuple.

    Args:
        oldest_at: when its oldest unsettled message came, seconds since the epoch; None where it has none.
        pending, sent: replies that wait to be sent, and that are sent and not acknowledged yet.
        failing: whether its health is anything but ``ok``.
        unjoined: its conversations that are known and not joined yet.
    """

    inbox: InboxCounts
    oldest_at: float | None
    pending: int
    sent: int
    failing: bool
    unjoined: int = 0


@dataclass(frozen=True, slots=True)
class Handling:
    """A message that a handler has in its hands.

    Args:
        message: the journal's number.
        attempt: which start of the handler this is.
        since: when it began, seconds since the epoch.
        left_behind: whether nobody waits for it any more, and the handler goes on all the same.
        stack: where the handler stands, in its task or its thread; source lines only, the innermost last.
    """

    message: int
    conversation_id: str
    attempt: int
    since: float
    left_behind: bool = False
    stack: str = ""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent as the contract shows it in JSON.

    Args:
        since: when the state began, seconds since the epoch; None when no supervisor runs.
        reason: why it is not online, or may not spend any more, in one line; empty when there is nothing to say.
        health: ``ok``, or ``failing`` with the reason where the agent is online and cannot answer well.
        conversation_id: the conversation that v1 put it in; None on v2 or when offline.
        conversations: how many conversations it has been active in lately.
        auth_expires_at: when its token expires, seconds since the epoch; None without one, or where it is rejected.
        undelivered: replies that wait because sending failed, those behind them in their conversations too;
            ``undelivered_reason`` is why the one failed that has waited longest.
        notes: what somebody should know of it, though nothing fails.
        handling: the messages that its handler has in its hands; of one agent that is asked for by its id only.
        trouble: ``failing``, ``stuck`` or ``spent`` where it is online and so (:mod:`supervisor.core.trouble`);
            ``unknown`` where the replica that runs it does not answer, or none runs it yet; else empty.
        oldest_at: when its oldest message came that waits or runs, seconds since the epoch; None where there is none.
        answered_lately: messages answered in this minute and the four before it.
        replica: the number of the replica that runs it, where several share the registry; None where one does.
        stale_since: when its replica was last heard of, seconds since the epoch, where it does not answer; else None.
        secret: where its secret is kept: ``env:NAME``, ``file:/path`` or ``stored encrypted``, never the secret itself.
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
    undelivered: int = 0
    undelivered_reason: str = ""
    notes: tuple[str, ...] = ()
    handling: tuple[Handling, ...] = ()
    trouble: str = ""
    oldest_at: float | None = None
    answered_lately: int = 0
    replica: int | None = None
    stale_since: float | None = None
    secret: str = ""

    @property
    def failing(self) -> bool:
        """Whether its handler cannot do its work, whatever the state of its connection."""
        return self.health != "ok"


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole supervisor in a few figures: ``GET /api/v1/status``.

    Args:
        started_at: seconds since the epoch.
        agents: how many agents are in each state; states without agents are left out.
        inbox: messages of all agents.
        problems: what keeps it from being ready, one line each; empty when it is.
        notices: what a person should know although it is ready: a platform host that is down, refused agents.
        undelivered: replies that wait because sending failed, of all agents.
        failing, stuck, spent: how many of the agents that are online are so.
        deployment: the name that the deployment was given; empty where it has none.
        registry: where the registry is.
        currency: what the configured prices are in: ``USD``, ``EUR``, …
        unknown: agents whose replica does not answer, or that none runs yet; they are in no state.
        replicas: the supervisors that share the registry, where it is for several.
    """

    version: str
    pid: int
    registry_uuid: str
    started_at: float
    agents: dict[str, int]
    inbox: InboxCounts
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    undelivered: int = 0
    failing: int = 0
    stuck: int = 0
    deployment: str = ""
    registry: str = ""
    currency: str = "USD"
    unknown: int = 0
    replicas: tuple[ReplicaStatus, ...] = ()
    spent: int = 0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of what ``supervisor doctor`` finds.

    Args:
        check: what was looked at, in a word or two.
        level: ``ok``, ``warn`` or ``fail``.
        text: what was found.
        advice: what to change; empty where there is nothing to.
        agent: whom it concerns; empty for the deployment.
        exit_code: what the command would end with if there was nothing else; 0 for what is no failure.
    """

    check: str
    level: str
    text: str
    advice: str
    agent: str
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class MessageSummary:
    """One message of the inbox as lists show it. Times are seconds since the epoch.

    Args:
        id: the journal's number; the name by which people replay and discard it.
        message_id: the platform's ``_id``; None where it sent none.
        sender: who wrote it, as far as the platform tells; empty where it does not.
        content: what it says; lists cut it.
        content_chars: how long the whole of it is.
        attempts: starts of the handler since it came or was last replayed.
        replays: how often a person has replayed it.
        received_at, settled_at: when it came, and when it was done, dead or cancelled.
        not_before: before this it is not tried again; None when it does not wait for another attempt.
        reason: why it failed last, in one line; empty when it has not.
    """

    id: int
    agent_id: str
    conversation_id: str
    message_id: str | None
    sender: str
    role: str
    content: str
    content_chars: int
    state: MessageState
    attempts: int
    replays: int
    received_at: float
    settled_at: float | None
    not_before: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class ReplySummary:
    """One reply to a message, as the outbox has it. Times are seconds since the epoch.

    Args:
        part: which part of the answer.
        type: text, thinking, tool_call, tool_result or error.
        attempts: failed attempts to send it.
        not_before: before this it is not sent again; None when it does not wait for another attempt.
        reason: why its sending failed last; empty when it has not.
    """

    id: int
    part: int
    message_id: str | None
    type: str
    content: str
    state: ReplyState
    attempts: int
    created_at: float
    not_before: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class MessageDetails(MessageSummary):
    """One message with everything that the journal knows of it.

    Args:
        error: the last failure with its traceback; empty when there was none.
        replies: every reply to it, those of before a replay included, in the order of their making.
    """

    type: str = "text"
    attachments: tuple[str, ...] = ()
    error: str = ""
    replies: tuple[ReplySummary, ...] = ()
