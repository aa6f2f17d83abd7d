"""The store in memory: who changed what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from supervisor.core.actors import SQL
from supervisor.store.dialect.face import AgentRow
from supervisor.store.dialect.history import (
    DEED,
    INSTRUCTION,
    MAX_EVENTS,
    MAX_INSTRUCTIONS,
    ROW,
    EventFilter,
    Origin,
    StoredEvent,
    content,
)


@dataclass
class MemoryHistory:
    """The events, and the rows that were removed; ``agents`` is the table that they are about."""

    agents: Mapping[str, AgentRow] = field(default_factory=dict)
    kept: list[StoredEvent] = field(default_factory=list)
    removed: dict[str, tuple[float, AgentRow]] = field(default_factory=dict)
    number: int = 0

    async def observe(self, agent_ids: Sequence[str], origin: Origin) -> None:
        for one in agent_ids:
            self._catch_up(origin, one, self.agents.get(one))

    async def note(self, agent_id: str, action: str, after: str, origin: Origin) -> None:
        self._add(origin, agent_id, DEED, action, after)

    async def note_instructions(self, known: Mapping[str, str | None], origin: Origin) -> None:
        for agent_id, after in known.items():
            if self._last(agent_id, INSTRUCTION) != after:
                self._add(origin, agent_id, INSTRUCTION, "instruction", after)

    async def events(self, wanted: EventFilter, limit: int) -> list[StoredEvent]:
        between = [one for one in self.kept if wanted.after_id < one.id < wanted.before_id]
        found = [one for one in between if wanted.agent_id is None or one.agent_id in (wanted.agent_id, "")]
        return found[-limit:]

    async def removals(self, since: float) -> list[StoredEvent]:
        gone = {one for one, (at, _) in self.removed.items() if at >= since and one not in self.agents}
        last = {one.agent_id: one for one in self.kept if one.subject == ROW and one.agent_id in gone}
        return sorted(last.values(), key=lambda one: -one.id)

    async def prune(self, before: float, undo_before: float) -> int:
        self.removed = {one: kept for one, kept in self.removed.items() if kept[0] >= undo_before}
        last = {(one.agent_id, one.subject): one for one in self.kept if one.agent_id in self.agents}
        left = [one for one in self.kept if one.at >= before or (one.subject != "deed" and one in last.values())]
        gone = len(self.kept) - len(left)
        self.kept = left
        return gone

    def changed(self, origin: Origin, rows: Mapping[str, tuple[AgentRow | None, AgentRow | None]]) -> None:
        """Note the changes of some rows, before and after."""
        for agent_id, (before, after) in rows.items():
            self._catch_up(origin, agent_id, before)
            if before is not None and after is not None and dict(before, updated_at="") == dict(after, updated_at=""):
                continue
            action = origin.action or ("added" if before is None else "removed" if after is None else "changed")
            if after is None and before is not None:
                self.removed[agent_id] = (origin.at, before)
            self._add(origin, agent_id, ROW, action, None if after is None else content(after))

    def _catch_up(self, origin: Origin, agent_id: str, row: AgentRow | None) -> None:
        known, now = self._last(agent_id, ROW), None if row is None else content(row)
        if known != now:
            action = "found" if known is None else "removed" if now is None else "changed"
            self._add(Origin(origin.at, SQL), agent_id, ROW, action, now)

    def _last(self, agent_id: str, subject: str) -> str | None:
        of_it = [one for one in self.kept if (one.agent_id, one.subject) == (agent_id, subject)]
        return of_it[-1].after if of_it else None

    def _add(self, origin: Origin, agent_id: str, subject: str, action: str, after: str | None) -> None:
        self.number += 1
        actor, before = origin.actor, self._last(agent_id, subject)
        self.kept.append(
            StoredEvent(self.number, origin.at, agent_id, subject, action, actor.kind, actor.address, after, before)
        )
        own = [one for one in self.kept if (one.agent_id, one.subject) == (agent_id, subject)]
        for one in own[: -(MAX_INSTRUCTIONS if subject == INSTRUCTION else MAX_EVENTS)]:
            self.kept.remove(one)
