"""Who changed what: a row's versions, and what else was done with an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.core.actors import PLATFORM, Actor, acting
from supervisor.core.clock import Clock
from supervisor.core.records import AgentEvent, Removal
from supervisor.protocol.answers import Instruction
from supervisor.store.dialect.history import MAX_EVENT_ID, EventFilter, HistoryTable, Origin, StoredEvent
from supervisor.telemetry.redaction import redact

#: A removal can be undone for so long.
UNDO_SECONDS: Final = 86_400.0
#: Events are kept for so long, as usage is.
EVENT_SECONDS: Final = 400 * 86_400.0
#: What is kept of an instruction, and of its guidelines.
MAX_INSTRUCTION_CHARS: Final = 32_000


class AgentHistory:
    """The history of a registry's agents; a row's own changes are noted where it is written."""

    def __init__(self, table: HistoryTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def origin(self, action: str | None = None) -> Origin:
        """Who acts, and when that is."""
        return Origin(self._clock.now(), acting(), action)

    async def of(self, agent_id: str | None, limit: int, before_id: int = MAX_EVENT_ID) -> list[AgentEvent]:
        """The newest events of an agent, of all with None, the newest first; numbered under ``before_id``."""
        stored = await self._table.events(EventFilter(agent_id, before_id=before_id), limit)
        return [_event(one) for one in reversed(stored)]

    async def after(self, event_id: int, limit: int = 1_000) -> list[AgentEvent]:
        """The events of all agents after one, in their order; of more than ``limit`` the newest."""
        return [_event(one) for one in await self._table.events(EventFilter(after_id=event_id), limit)]

    async def newest(self) -> int:
        """The number of the newest event; 0 where there is none."""
        found = await self._table.events(EventFilter(), 1)
        return found[-1].id if found else 0

    async def removals(self) -> list[Removal]:
        """The removals that can be undone, the newest first."""
        return [_removal(_event(one)) for one in await self._table.removals(self._clock.now() - UNDO_SECONDS)]

    async def observe(self, agent_ids: Sequence[str]) -> None:
        """Note where rows are not as their last events say: raw SQL has changed them."""
        await self._table.observe(agent_ids, self.origin())

    async def note(self, agent_id: str, action: str, **said: Any) -> None:
        """Note what was done beside the row: words erased, keys rotated."""
        after = msgspec.json.encode(said).decode()
        await self._table.note(agent_id, action, after, self.origin())

    async def note_instructions(self, known: Mapping[str, Instruction]) -> None:
        """Note what the platform tells some agents to be, by their ids, where that is something else than was known."""
        told = {agent_id: _told(instruction) for agent_id, instruction in known.items()}
        await self._table.note_instructions(told, Origin(self._clock.now(), PLATFORM))

    async def prune(self, now: float) -> int:
        """Delete what is past its time; the number of events."""
        return await self._table.prune(now - EVENT_SECONDS, now - UNDO_SECONDS)


def _told(instruction: Instruction) -> str | None:
    """What is kept of an instruction, as JSON; None of one that nobody wrote."""
    if not instruction.configured:
        return None
    text = instruction.system_prompt
    said: dict[str, Any] = {"instruction": redact(text)[:MAX_INSTRUCTION_CHARS], "chars": len(text)}
    if instruction.guidelines:
        said["guidelines"] = redact(msgspec.json.encode(instruction.guidelines).decode())[:MAX_INSTRUCTION_CHARS]
    return msgspec.json.encode(said).decode()


def _decoded(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _removal(event: AgentEvent) -> Removal:
    was = event.before or {}
    return Removal(
        number=event.id,
        agent_id=event.agent_id,
        name=was.get("name", ""),
        handler=was.get("handler", ""),
        removed_at=event.at,
        until=event.at + UNDO_SECONDS,
        actor=event.actor,
    )


def _event(stored: StoredEvent) -> AgentEvent:
    return AgentEvent(
        id=stored.id,
        at=stored.at,
        agent_id=stored.agent_id,
        action=stored.action,
        subject=stored.subject,
        actor=Actor(stored.actor, stored.address),
        before=_decoded(stored.before),
        after=_decoded(stored.after),
    )
