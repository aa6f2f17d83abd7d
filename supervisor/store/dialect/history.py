"""Who changed what, as a database keeps it: one event for each change of a row, and for what else people ask for.

What a row was after a change stands in its event, without secrets: a reference stays one, a ciphertext becomes a mark,
settings that look secret are masked. What it was before is in the event before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from supervisor.core.actors import Actor
from supervisor.store.dialect.rows import record_from_row
from supervisor.telemetry.redaction import mask

#: What is kept of a row in an event; of one that is larger settings and long texts are left out.
MAX_CONTENT_BYTES: Final = 64 << 10
_SHORT_CHARS: Final = 1_000
#: Events kept of each agent, of its row and of what else was done with it each.
MAX_EVENTS: Final = 200
#: Versions kept of an instruction, which is long, and which a platform may make anew each time it is asked for.
MAX_INSTRUCTIONS: Final = 20
#: No event has a higher number.
MAX_EVENT_ID: Final = 2**63 - 1
#: In place of a ciphertext, whichever it is: another key is no other secret.
SEALED: Final = "fernet:sealed"
_SEALED: Final = re.compile(rb"fernet:[A-Za-z0-9_=-]+")
#: The fields that an event says.
FIELDS: Final = ("handler", "name", "secret", "settings", "labels", "paused")

#: What an event is about: a row; the instruction that the platform has for an agent; something else that was done.
ROW, INSTRUCTION, DEED = "row", "instruction", "deed"


@dataclass(frozen=True, slots=True)
class Origin:
    """When something is done, by whom, and what it is called if not by its effect.

    Args:
        at: seconds since the epoch.
    """

    at: float
    actor: Actor
    action: str | None = None


class StoredEvent(NamedTuple):
    """One event.

    Args:
        subject: ``row``, ``instruction`` or ``deed``.
        after: JSON of what there is since; None where it is gone.
        before: likewise, of the event before that is about the same; None where there is none.
    """

    id: int
    at: float
    agent_id: str
    subject: str
    action: str
    actor: str
    address: str
    after: str | None
    before: str | None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted.

    Args:
        agent_id: those of an agent, and what concerns all of them; None: of all.
        after_id, before_id: with ids between these, neither included.
    """

    agent_id: str | None = None
    after_id: int = 0
    before_id: int = MAX_EVENT_ID


class HistoryTable(Protocol):
    """What a database knows of changes; a change of a row is noted in the transaction that makes it."""

    async def observe(self, agent_ids: Sequence[str], origin: Origin) -> None:
        """Note where some agents' rows are not as their last event says: somebody changed them and told nobody."""
        ...

    async def note(self, agent_id: str, action: str, after: str, origin: Origin) -> None:
        """Note a deed."""
        ...

    async def note_instructions(self, known: Mapping[str, str | None], origin: Origin) -> None:
        """Note the instructions of some agents, by their ids, where they are others than was known.

        Args:
            known: None stands for an agent that has none, or none any more.
        """
        ...

    async def events(self, wanted: EventFilter, limit: int) -> list[StoredEvent]:
        """The newest events that are wanted, in order of their ids."""
        ...

    async def removals(self, since: float) -> list[StoredEvent]:
        """The removals since then that can be undone, the newest first: of agents that are not there again."""
        ...

    async def prune(self, before: float, undo_before: float) -> int:
        """Delete events of before ``before``, and what would undo removals of before ``undo_before``; how many events.

        The last event of a row that is there stays: the next change is told from it.
        """
        ...


def undo_of_removal(row: Mapping[str, Any]) -> str:
    """What brings a removed row back as it was, as JSON; a secret that somebody wrote into it in the clear is left out.

    Such an agent never ran, and what its owner removed is not to outlive the row.
    """
    return msgspec.json.encode({**row, "secret": record_from_row(row).secret}, enc_hook=str).decode()


def content(row: Any) -> str:
    """What an event says of a row, as JSON; free of secrets, whatever somebody has put into the row."""
    record = record_from_row(row)
    fields = {name: getattr(record, name) for name in FIELDS}
    fields["settings"] = mask(record.settings)
    if record.problem is not None:
        fields["problem"] = record.problem
    made = _SEALED.sub(SEALED.encode(), msgspec.json.encode(fields, order="deterministic"))
    if len(made) > MAX_CONTENT_BYTES:
        kept = {name: value for name, value in fields.items() if name != "settings" and len(str(value)) < _SHORT_CHARS}
        made = _SEALED.sub(SEALED.encode(), msgspec.json.encode(kept | {"left_out_bytes": len(made)}))
    return made.decode()
