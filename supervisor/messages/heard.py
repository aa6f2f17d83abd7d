"""What an agent heard while it came here, and what of it its last owner has dealt with, though it has no id.

Messages with an id are told apart by it. Of those without one (some bridges) each that the owner has written since the
agent was connected here pairs with one that says the same here. In doubt a message counts twice: that is better than
a loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from supervisor.core.records import JournaledMessage
from supervisor.messages.pairing import essence
from supervisor.platform.connection import Connection
from supervisor.protocol import InvalidEventError, parse_message


class Heard(NamedTuple):
    """An event, and the connection that brought it."""

    source: Connection
    event: str
    payload: object


def without_pairs(heard: Sequence[Heard], written: Iterable[JournaledMessage]) -> list[Heard]:
    """What of ``heard`` is new.

    Args:
        written: by the owner since the connection was in the conversations.
    """
    known = Counter(essence(row.message) for row in written if row.message.id is None)
    if not known:
        return list(heard)
    return [one for one in heard if not _is_known(one, known)]


def still_meant(heard: Sequence[Heard], *, owner_obeyed: bool) -> list[Heard]:
    """What of ``heard`` is not over by now: the platform's commands are heard by the agent's owner as well.

    A ``stop`` is for the answer that was being made in its conversation: once something was said there after it, it
    would end the next one. One with nothing after it ends what it was for, or finds nothing. An ``inspect`` that the
    owner answered would be answered twice. The others leave the agent as it is, whoever obeys them a second time.

    Args:
        owner_obeyed: the owner heard everything until it let go of the agent.
    """
    spoken: set[str | None] = set()
    kept: list[Heard] = []
    for one in reversed(heard):
        conversation_id, kind = _named(one.payload, "conversationId"), _named(one.payload, "type")
        if one.event == "message:new" and conversation_id is not None:
            spoken.add(conversation_id)
        elif one.event == "agent:command" and (
            (kind == "stop" and conversation_id in spoken) or (kind == "inspect" and owner_obeyed)
        ):
            continue
        kept.append(one)
    return kept[::-1]


def has_nameless(heard: Iterable[Heard]) -> bool:
    """Whether any message of what was heard has no id."""
    return any(_nameless(one) is not None for one in heard)


def _named(payload: object, name: str) -> str | None:
    found = payload.get(name) if isinstance(payload, Mapping) else None
    return found if isinstance(found, str) else None


def _is_known(one: Heard, known: Counter[tuple[object, ...]]) -> bool:
    said = _nameless(one)
    if said is None or not known[said]:
        return False
    known[said] -= 1
    return True


def _nameless(one: Heard) -> tuple[object, ...] | None:
    """What a message without an id says; None of anything else."""
    if one.event != "message:new":
        return None
    try:
        message, _ = parse_message(one.payload)
    except InvalidEventError:
        return None
    return essence(message) if message.id is None else None
