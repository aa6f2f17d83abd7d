"""What the registry keeps, as plain values: an agent's row, a journaled message, a reply in the outbox. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from supervisor.core.actors import Actor
from supervisor.core.states import MessageState, ReplyState
from supervisor.protocol import InboundMessage, OutboundMessage


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """One row of the table ``agents``: what somebody wants to run.

    Args:
        id: the platform's agent id.
        handler: ``echo``, ``echo:Handler`` or ``package.module:attribute``.
        secret: a reference (``env:NAME``, ``file:/path``) or a Fernet ciphertext (``fernet:…``); never in the clear.
        problem: why the row cannot be used as it stands (bad JSON, wrong types); such an agent is faulted, no other.
    """

    id: str
    handler: str
    secret: str = field(repr=False)
    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    paused: bool = False
    created_at: str = ""
    updated_at: str = ""
    problem: str | None = None

    @property
    def secret_place(self) -> str:
        """Where its secret is kept, as it may be shown: the reference; of a ciphertext that it is one."""
        return "stored encrypted" if self.secret.startswith("fernet:") else self.secret

    def same_content(self, other: AgentRecord) -> bool:
        """Whether two rows ask for the same thing; times are not compared (raw SQL need not keep them)."""
        if self is other:
            return True
        return (self.handler, self.secret, self.name, self.settings, self.labels, self.paused, self.problem) == (
            other.handler,
            other.secret,
            other.name,
            other.settings,
            other.labels,
            other.paused,
            other.problem,
        )


#: The error of a message that ran when the process died.
CRASHED = "the process died while it ran"
#: A message that has seen so many deaths in a row may be their cause.
SUSPECT_CRASHES = 2


class JournaledMessage(msgspec.Struct):
    """A message in the inbox. The dispatcher owns ``state`` and ``attempts`` once the row is in memory.

    Args:
        id: the journal's own number; messages of a lane run in its order.
        key: what de-duplication compares: the platform's ``_id``, or a random one where it sent none.
        replay: how often a person has replayed it; part of each reply's ``_id``.
        received_at, not_before: seconds since the epoch.
        fresh: no attempt was made at it yet, so that it cannot have replies in the outbox.
        settled_at: when it became done, dead or cancelled, in seconds since the epoch.
        earlier: messages of its lane before it, oldest first, that its answer is for as well: they are settled together
            with it. In memory only.
        problem: why ``message`` could not be read from the journal; it is then a blank one of the same conversation.
        conversation_id: the conversation, and so the lane, that it belongs to; as the message says.
    """

    id: int
    agent_id: str
    key: str
    message: InboundMessage
    state: MessageState
    attempts: int
    received_at: float
    replay: int = 0
    not_before: float = 0.0
    error: str | None = None
    fresh: bool = False
    settled_at: float | None = None
    problem: str | None = None
    earlier: tuple[JournaledMessage, ...] = ()
    conversation_id: str = ""

    def __post_init__(self) -> None:
        self.conversation_id = self.message.conversation_id

    @property
    def suspect(self) -> bool:
        """Whether it may be what kills the process: its last attempts ended with that (docs/faults.md#r24)."""
        return self.attempts >= SUSPECT_CRASHES and self.error == CRASHED


class Reply(msgspec.Struct):
    """A message in the outbox, on its way to the platform. The outbox owns ``state`` and ``attempts``.

    Args:
        id: the journal's own number; replies of a conversation are sent in its order.
        inbox_id: the message it answers, or None for one that a handler sends unasked.
        part: which part of the answer; derived ids need it.
        problem: why ``message`` could not be read from the journal; it is then a blank one of the same conversation.
        body: the message as JSON, where it was written so already; what is read from the journal has none.
        conversation_id: where it is sent to; as the message says.
    """

    id: int
    agent_id: str
    inbox_id: int | None
    part: int
    message: OutboundMessage
    state: ReplyState
    created_at: float
    attempts: int = 0
    not_before: float = 0.0
    error: str | None = None
    problem: str | None = None
    body: bytes = b""
    conversation_id: str = ""

    def __post_init__(self) -> None:
        self.conversation_id = self.message.conversation_id


class Undelivered(NamedTuple):
    """Replies that wait because sending failed.

    Args:
        reason: why the one failed that came first; empty where there is none.
    """

    number: int
    reason: str


def undelivered(queues: Iterable[Sequence[Reply]]) -> Undelivered:
    """Those that have failed, with those behind them.

    Args:
        queues: replies that are not settled, of a conversation each, in the order in which they are sent.
    """
    failed = [queue for queue in queues if queue and queue[0].attempts]
    oldest = min((queue[0] for queue in failed), key=lambda reply: reply.id, default=None)
    return Undelivered(sum(map(len, failed)), (oldest.error or "") if oldest else "")


class Said(NamedTuple):
    """One line of a conversation as it is remembered.

    Args:
        at: seconds since the epoch.
        name: what who said it is called; None where nobody knows.
        id: the number, in the inbox, of the message itself or of the one that a reply answers.
    """

    role: str
    content: str
    at: float
    name: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What an agent has used of one model on one day, or a part of that.

    Args:
        day: the UTC day, ``2026-01-31``.
        requests: how many times its handler reported usage.
        input_tokens: ``cached_tokens`` are among them, as ``reasoning_tokens`` are among ``output_tokens``.
        cost: in the currency of the configured prices, of the requests whose model has a price.
        unpriced_requests: those whose model has none.
        estimated_requests: those whose tokens are an estimate, for the server told none.
    """

    agent_id: str
    model: str
    day: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0
    unpriced_requests: int = 0
    reasoning_tokens: int = 0
    estimated_requests: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def plus(self, other: UsageRecord) -> UsageRecord:
        """The sum of two; agent, model and day are this one's."""
        return UsageRecord(
            self.agent_id,
            self.model,
            self.day,
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cost + other.cost,
            self.unpriced_requests + other.unpriced_requests,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated_requests + other.estimated_requests,
        )


@dataclass(frozen=True, slots=True)
class Sleep:
    """The platform has put an agent to sleep (``docs/protocol.md#8-third-generation``).

    Args:
        since: seconds since the epoch.
        until: likewise; None: until somebody wakes it.
        reason: what the platform said of it.
    """

    since: float
    until: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AgentLife:
    """What is remembered of an agent over a restart.

    Args:
        registered_at: when it was last known to be registered at the platform, in seconds since the epoch; before it
            ever was, since when it may have been spoken to. None: it was never begun with.
        sleep: whether it sleeps, and until when.
    """

    agent_id: str
    registered_at: float | None = None
    sleep: Sleep | None = None


class NewReply(msgspec.Struct, frozen=True):
    """A reply that has no number yet; the journal gives it one when it is committed.

    Args:
        body: the message as JSON, where it was written so already.
    """

    part: int
    message: OutboundMessage
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Removal:
    """The removal of an agent that can be undone.

    Args:
        number: of its event in the history.
        name, handler: as they were.
        removed_at, until: when it was removed, and how long it can be restored, in seconds since the epoch.
    """

    number: int
    agent_id: str
    name: str
    handler: str
    removed_at: float
    until: float
    actor: Actor

    @property
    def id(self) -> str:
        """The agent's: by it and its name people say which one they mean."""
        return self.agent_id


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """One thing that somebody did to an agent's row, or with the agent.

    Args:
        id: the number by which one goes back to it; ascends over all agents.
        at: seconds since the epoch.
        agent_id: empty for what concerns all of them.
        action: ``added``, ``changed``, ``removed``, ``restored``, ``rolled back to 12``, ``found``, ``instruction``,
            ``messages purged``, ``keys rotated``.
        subject: ``row``, ``instruction`` or ``deed``: what ``before`` and ``after`` are about.
        before, after: what there was and what there is since, without secrets; None where there was or is nothing, or
            where what was before is kept no more.
    """

    id: int
    at: float
    agent_id: str
    action: str
    subject: str
    actor: Actor
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
