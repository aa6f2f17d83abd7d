"""The states of agents, messages and replies, and their legal transitions: one table each."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar


class AgentState(StrEnum):
    """Where one agent is in its life."""

    PAUSED = "paused"
    AUTHENTICATING = "authenticating"
    CONNECTING = "connecting"
    REGISTERING = "registering"
    ONLINE = "online"
    BACKOFF = "backoff"
    REJECTED = "rejected"
    FAULTED = "faulted"
    DRAINING = "draining"
    STOPPED = "stopped"


class MessageState(StrEnum):
    """Where a journaled message is: the inbox."""

    AVAILABLE = "available"
    RUNNING = "running"
    RETRYABLE = "retryable"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


class ReplyState(StrEnum):
    """Where a reply is: the outbox. ``sent`` is written only where a send must not be repeated (at_most_once)."""

    PENDING = "pending"
    SENT = "sent"
    ACKED = "acked"
    UNKNOWN = "unknown"
    DEAD = "dead"


_A, _M, _R = AgentState, MessageState, ReplyState

_GOING_DOWN = frozenset({_A.DRAINING, _A.STOPPED, _A.PAUSED, _A.FAULTED})

AGENT_TRANSITIONS: dict[AgentState, frozenset[AgentState]] = {
    _A.STOPPED: frozenset({_A.AUTHENTICATING, _A.PAUSED, _A.FAULTED}),
    _A.PAUSED: frozenset({_A.AUTHENTICATING, _A.FAULTED, _A.STOPPED}),
    _A.AUTHENTICATING: _GOING_DOWN | {_A.CONNECTING, _A.BACKOFF, _A.REJECTED},
    _A.CONNECTING: _GOING_DOWN | {_A.AUTHENTICATING, _A.REGISTERING, _A.BACKOFF, _A.REJECTED},
    _A.REGISTERING: _GOING_DOWN | {_A.AUTHENTICATING, _A.CONNECTING, _A.ONLINE, _A.BACKOFF, _A.REJECTED},
    _A.ONLINE: _GOING_DOWN | {_A.AUTHENTICATING, _A.BACKOFF, _A.REJECTED},
    _A.BACKOFF: _GOING_DOWN | {_A.AUTHENTICATING, _A.CONNECTING},
    _A.REJECTED: _GOING_DOWN | {_A.AUTHENTICATING},
    _A.FAULTED: frozenset({_A.AUTHENTICATING, _A.PAUSED, _A.DRAINING, _A.STOPPED}),
    # A pause that is taken back while the agent drains leads straight to the next attempt.
    _A.DRAINING: frozenset({_A.AUTHENTICATING, _A.PAUSED, _A.STOPPED, _A.FAULTED}),
}

MESSAGE_TRANSITIONS: dict[MessageState, frozenset[MessageState]] = {
    _M.AVAILABLE: frozenset({_M.RUNNING, _M.DEAD, _M.CANCELLED}),
    _M.RUNNING: frozenset({_M.AVAILABLE, _M.RETRYABLE, _M.DONE, _M.DEAD, _M.CANCELLED}),
    _M.RETRYABLE: frozenset({_M.RUNNING, _M.DEAD, _M.CANCELLED}),
    _M.DONE: frozenset(),
    # A dead letter comes back only because a person said replay.
    _M.DEAD: frozenset({_M.AVAILABLE, _M.CANCELLED}),
    _M.CANCELLED: frozenset(),
}

REPLY_TRANSITIONS: dict[ReplyState, frozenset[ReplyState]] = {
    _R.PENDING: frozenset({_R.SENT, _R.ACKED, _R.UNKNOWN, _R.DEAD}),
    _R.SENT: frozenset({_R.PENDING, _R.ACKED, _R.UNKNOWN, _R.DEAD}),
    _R.ACKED: frozenset(),
    _R.UNKNOWN: frozenset(),
    # A dead one is sent again only because a person said replay.
    _R.DEAD: frozenset({_R.PENDING}),
}

FINAL_MESSAGE_STATES = frozenset({_M.DONE, _M.DEAD, _M.CANCELLED})
FINAL_REPLY_STATES = frozenset({_R.ACKED, _R.UNKNOWN, _R.DEAD})

_State = TypeVar("_State", AgentState, MessageState, ReplyState)


class IllegalTransitionError(AssertionError):
    """A state was to follow another that the table does not allow: a defect of ours, never of the platform."""


def check_transition(table: dict[_State, frozenset[_State]], old: _State, new: _State) -> None:
    """Raise :class:`IllegalTransitionError` unless ``table`` lets ``new`` follow ``old``."""
    if new not in table[old]:
        raise IllegalTransitionError(f"{type(old).__name__}: {old} → {new} is not a legal transition")
