"""Who changed what: a row's versions, and what else was done with an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.core.actors import PLATFORM, Actor, acting
from supervisor.core.clock import Clock
from supervisor.core.records import AgentEvent
from supervisor.store.dialect.history import DEED, INSTRUCTION, HistoryTable, Origin, StoredEvent
from supervisor.telemetry.redaction import redact

#: A removal can be undone for so long.
UNDO_SECONDS: Final = 86_400.0
#: Events are kept for so long, as usage is.
EVENT_SECONDS: Final = 400 * 86_400.0
#: What is kept of an instruction.
MAX_INSTRUCTION_CHARS: Final = 32_000


class AgentHistory:
    """The history of a registry's agents; a row's own changes are noted where it is written."""

    def __init__(self, table: HistoryTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def origin(self, action: str | None = None) -> Origin:
        """Who acts, and when that is."""
        return Origin(self._clock.now(), acting(), action)

    async def of(self, agent_id: str | None, limit: int) -> list[AgentEvent]:
        """The newest events of an agent, of all with None, the newest first."""
        # One more of the agent's, for what was before the first that is shown.
        stored = await self._table.events(agent_id, 0, limit + 1 if agent_id is not None else limit)
        before: dict[tuple[str, str], Mapping[str, Any] | None] = {}
        events = []
        for one in stored:
            key = (one.agent_id, one.subject)
            event = _event(one, before.get(key))
            before[key] = event.after
            events.append(event)
        return events[::-1][:limit]

    async def after(self, event_id: int, limit: int = 1_000) -> list[AgentEvent]:
        """The events of all agents after one, in their order; of more than ``limit`` the newest."""
        return [_event(one, None) for one in await self._table.events(None, event_id, limit)]

    async def newest(self) -> int:
        """The number of the newest event; 0 where there is none."""
        found = await self._table.events(None, 0, 1)
        return found[-1].id if found else 0

    async def observe(self, agent_ids: Sequence[str]) -> None:
        """Note where rows are not as their last events say: raw SQL has changed them."""
        await self._table.observe(agent_ids, self.origin())

    async def note(self, agent_id: str, action: str, **said: Any) -> None:
        """Note what was done beside the row: words erased, keys rotated."""
        after = msgspec.json.encode(said).decode()
        await self._table.note(agent_id, DEED, action, after, self.origin())

    async def note_instruction(self, agent_id: str, text: str) -> bool:
        """Note the instruction that the platform has for an agent, where it is another one; whether it is."""
        kept = redact(text)[:MAX_INSTRUCTION_CHARS]
        after = msgspec.json.encode({"instruction": kept, "chars": len(text)}).decode()
        origin = Origin(self._clock.now(), PLATFORM)
        return await self._table.note(agent_id, INSTRUCTION, "instruction", after, origin)

    async def prune(self, now: float) -> int:
        """Delete what is past its time; the number of events."""
        return await self._table.prune(now - EVENT_SECONDS, now - UNDO_SECONDS)


def _event(stored: StoredEvent, before: Mapping[str, Any] | None) -> AgentEvent:
    return AgentEvent(
        id=stored.id,
        at=stored.at,
        agent_id=stored.agent_id,
        action=stored.action,
        subject=stored.subject,
        actor=Actor(stored.actor, stored.address),
        before=before,
        after=None if stored.after is None else msgspec.json.decode(stored.after),
    )
