"""A :class:`~supervisor.store.dialect.stored.MessageFilter` as SQL."""

# ruff: noqa: S608 - the texts are put together from constants of this package; every value is bound

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from supervisor.core.states import MessageState, ReplyState
from supervisor.store.dialect.stored import MessageFilter
from supervisor.store.sql import columns
from supervisor.store.sql.columns import OPEN_MESSAGES, OPEN_REPLIES

_M: Final = columns.MESSAGE_CODES
_R: Final = columns.REPLY_CODES
#: The code of no state: a list of values must not be empty.
_NONE: Final = -1
#: The small integer of an agent. A scalar first: the planner then starts from the agent's own part of an index.
KEY: Final = "(SELECT key FROM agent_keys WHERE agent_id = :agent_id)"
#: A dead reply that no later replay of its message has replaced. Parts of one answer ascend: a later part that does not
#: is of a replay, which has another answer.
DEAD_REPLY: Final = (
    f"outbox.state = {_R[ReplyState.DEAD]} AND outbox.inbox_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outbox AS "
    "later WHERE later.agent_key = outbox.agent_key AND later.conversation_id = outbox.conversation_id "
    "AND later.id > outbox.id AND later.inbox_id = outbox.inbox_id AND later.part <= outbox.part)"
)
_NAMED: Final = ("agent_id", "conversation_id", "older_than", "newer_than", "before_id")
_COMPARED: Final = {
    "agent_id": f"inbox.agent_key = {KEY}",
    "conversation_id": "inbox.conversation_id = :conversation_id",
    "older_than": "inbox.received_at < :older_than",
    "newer_than": "inbox.received_at >= :newer_than",
    "before_id": "inbox.id < :before_id",
}


def parameters(wanted: MessageFilter) -> dict[str, Any]:
    """The values that the conditions name."""
    of_agents = {f"agent_{number}": agent_id for number, agent_id in enumerate(wanted.get("agent_ids") or ())}
    return {name: value for name in _NAMED if (value := wanted.get(name)) is not None} | of_agents


def conditions(wanted: MessageFilter) -> Iterator[str]:
    """What a row of the inbox has to meet; the values are named as the filter's keys are."""
    given = [name for name in _NAMED if wanted.get(name) is not None]
    for name in given:
        yield _COMPARED[name]
    if (agent_ids := wanted.get("agent_ids")) is not None:
        named = ", ".join(f":agent_{number}" for number in range(len(agent_ids)))
        yield f"inbox.agent_key IN (SELECT key FROM agent_keys WHERE agent_id IN ({named}))" if named else "1 = 0"
    if (states := wanted.get("states")) is not None:
        yield from _in_states(states)
    # Not by number alone, here and below: a number can be given again once its message is pruned.
    if wanted.get("undelivered"):
        yield f"(inbox.id, inbox.agent_key, inbox.conversation_id) IN ({_undelivered('agent_id' in given)})"
    if wanted.get("dead_letters"):
        yield f"(inbox.id, inbox.agent_key, inbox.conversation_id) IN ({_dead_letters('agent_id' in given)})"
        # What was discarded needs nobody, whatever became of its apology.
        yield f"inbox.state IN ({_M[MessageState.DONE]}, {_M[MessageState.DEAD]})"


def _in_states(states: Iterable[MessageState]) -> Iterator[str]:
    codes = sorted(_M[state] for state in states) or [_NONE]
    yield f"inbox.state IN ({', '.join(map(str, codes))})"
    if codes[-1] <= _M[MessageState.DEAD]:
        yield f"inbox.{OPEN_MESSAGES}"


def _undelivered(of_one_agent: bool) -> str:
    own = f" AND agent_key = {KEY}" if of_one_agent else ""
    return (
        "SELECT inbox_id, agent_key, conversation_id FROM outbox "
        f"WHERE state >= {_R[ReplyState.UNKNOWN]} AND inbox_id IS NOT NULL{own} "
        # Those that have failed and are to be sent again.
        "UNION ALL SELECT inbox_id, agent_key, conversation_id FROM outbox "
        f"WHERE {OPEN_REPLIES} AND attempts > 0 AND inbox_id IS NOT NULL{own}"
    )


def _dead_letters(of_one_agent: bool) -> str:
    own = f" AND agent_key = {KEY}" if of_one_agent else ""
    return (
        f"SELECT id, agent_key, conversation_id FROM inbox WHERE {OPEN_MESSAGES} "
        f"AND state = {_M[MessageState.DEAD]}{own} "
        f"UNION ALL SELECT inbox_id, agent_key, conversation_id FROM outbox WHERE {DEAD_REPLY}{own}"
    )
