"""What an agent heard while it came here, and what of it its last owner had heard too, though it has no id.

Messages with an id are told apart by it. Of those without one (some bridges) each that the owner has written since the
agent was connected here pairs with one that says the same here. In doubt a message counts twice: that is better than
a loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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


def has_nameless(heard: Iterable[Heard]) -> bool:
    """Whether any message of what was heard has no id."""
    return any(_nameless(one) is not None for one in heard)


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
