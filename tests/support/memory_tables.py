"""What the store in memory holds where others have files and tables, and what is asked of one row of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentLife, UsageRecord
from supervisor.core.states import FINAL_REPLY_STATES, MessageState, ReplyState
from supervisor.store.dialect import LockInfo
from supervisor.store.dialect.holder import FailedRun
from supervisor.store.dialect.stored import StoredMessage, StoredReply, StoredSummary
from tests.support.memory_history import MemoryHistory

Row = StoredMessage | StoredReply
WAITING = frozenset({MessageState.AVAILABLE, MessageState.RETRYABLE})
UNSETTLED = WAITING | {MessageState.RUNNING}
ON_THEIR_WAY = frozenset(ReplyState) - FINAL_REPLY_STATES
LOST = frozenset({ReplyState.DEAD, ReplyState.UNKNOWN})


@dataclass
class Tables:
    """What stays when a database is closed. While ``refusing`` says why, no batch is committed.

    Attributes:
        rows: messages and replies by their numbers.
        keys: agent and key of each message among them, so that an echo costs the same however many there are.
    """

    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    keys: set[tuple[str, str]] = field(default_factory=set)
    conversations: dict[tuple[str, str], float] = field(default_factory=dict)
    usage: dict[tuple[str, str, str], UsageRecord] = field(default_factory=dict)
    lives: dict[str, AgentLife] = field(default_factory=dict)
    summaries: dict[tuple[str, str], StoredSummary] = field(default_factory=dict)
    events: MemoryHistory = field(default_factory=MemoryHistory)
    lives_since: float | None = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    agent_changes: int = 0
    holder: LockInfo | None = None
    failed: FailedRun | None = None
    refusing: str | None = None

    def of(self, agent_id: str | None, conversation_id: str | None) -> list[Row]:
        """The messages and replies of an agent or a conversation, in order; None stands for all."""
        found = [row for row in self.rows.values() if agent_id in (None, row.agent_id)]
        return [row for row in found if conversation_id in (None, row.conversation_id)]

    def inbox(self, agent_id: str | None = None, conversation_id: str | None = None) -> list[StoredMessage]:
        return [row for row in self.of(agent_id, conversation_id) if isinstance(row, StoredMessage)]

    def outbox(self, agent_id: str | None = None, conversation_id: str | None = None) -> list[StoredReply]:
        return [row for row in self.of(agent_id, conversation_id) if isinstance(row, StoredReply)]

    def replies_to(self, m: StoredMessage) -> list[StoredReply]:
        return [r for r in self.outbox(m.agent_id, m.conversation_id) if r.inbox_id == m.id]

    def dead_replies(self, m: StoredMessage) -> list[StoredReply]:
        """The dead replies to a message that no later replay has replaced."""
        replies = self.replies_to(m)
        replaced = {r.id for r in replies if any(o.id > r.id and o.part <= r.part for o in replies)}
        return [r for r in replies if r.state is ReplyState.DEAD and r.id not in replaced]


class Closed:
    """Stands for the tables of a database that is closed."""

    def __getattr__(self, name: str) -> Any:
        raise RegistryError("The registry is closed")


def undelivered(reply: StoredReply) -> bool:
    """Whether a reply did not arrive, or nobody knows, or it has failed and is to be sent again."""
    return reply.state in LOST or (reply.state not in FINAL_REPLY_STATES and reply.attempts > 0)


#: What the keys of a MessageFilter ask of a message.
CONDITIONS: dict[str, Callable[[Any, StoredMessage, Tables], bool]] = {
    "agent_id": lambda wanted, m, _: m.agent_id == wanted,
    "agent_ids": lambda wanted, m, _: m.agent_id in wanted,
    "conversation_id": lambda wanted, m, _: m.conversation_id == wanted,
    "states": lambda wanted, m, _: m.state in wanted,
    "older_than": lambda wanted, m, _: m.received_at < wanted,
    "newer_than": lambda wanted, m, _: m.received_at >= wanted,
    "before_id": lambda wanted, m, _: m.id < wanted,
    "undelivered": lambda yes, m, t: not yes or any(undelivered(r) for r in t.replies_to(m)),
    "dead_letters": lambda yes, m, t: not yes or m.state == "dead" or (m.state == "done" and bool(t.dead_replies(m))),
}
