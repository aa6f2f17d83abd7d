"""The store's second implementation, in memory: proof of the seam ``store/dialect``, for tests only.

Each call is a transaction, because it awaits nothing. What would be on a disk is in :mod:`tests.support.memory_tables`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from supervisor.core.clock import Clock
from supervisor.core.errors import AgentExistsError, AgentNotFoundError, RegistryError, RegistryLockedError
from supervisor.core.records import CRASHED, AgentLife, JournaledMessage, Reply, UsageRecord
from supervisor.core.states import MessageState, ReplyState
from supervisor.store.dialect import LockInfo, StorageError
from supervisor.store.dialect import face as dialect
from supervisor.store.dialect import operations as op
from supervisor.store.dialect.face import AgentChanges, AgentRow, AgentValues
from supervisor.store.dialect.history import HistoryTable, Origin
from supervisor.store.dialect.holder import FailedRun
from supervisor.store.dialect.replicas import ReplicaTable, SoleReplica
from supervisor.store.dialect.rows import CHANGEABLE
from supervisor.store.dialect.stored import MessageFilter, Spoken, StoredMessage, StoredReply, StoredSummary
from tests.support.memory_tables import CONDITIONS, LOST, ON_THEIR_WAY, UNSETTLED, WAITING, Closed, Row, Tables


class Questions:
    tables: Tables

    async def load(self, ids: Sequence[int]) -> list[StoredMessage]:
        found = [self.tables.rows.get(number) for number in dict.fromkeys(ids)]
        return [m for m in found if isinstance(m, StoredMessage)]

    async def unsettled(self, agent_id: str, after_id: int, limit: int) -> list[StoredMessage]:
        return [m for m in self.tables.inbox(agent_id) if m.id > after_id and m.state in WAITING][:limit]

    async def replayed(self) -> list[StoredMessage]:
        return [m for m in self.tables.inbox() if m.state is MessageState.AVAILABLE and m.replay > 0]

    async def messages(self, wanted: MessageFilter, limit: int) -> list[StoredMessage]:
        given = [(CONDITIONS[name], value) for name, value in wanted.items() if value is not None]
        newest = self.tables.inbox()[::-1]
        return [m for m in newest if all(meets(value, m, self.tables) for meets, value in given)][:limit]

    async def counts(self) -> dict[str, dict[MessageState, int]]:
        found = Counter((m.agent_id, m.state) for m in self.tables.inbox() if m.state not in ("done", "cancelled"))
        return {agent_id: {s: n for (a, s), n in found.items() if a == agent_id} for agent_id, _ in found}

    async def known_keys(self, agent_id: str, keys: Sequence[str]) -> set[str]:
        return {key for key in keys if (agent_id, key) in self.tables.keys}

    async def conversations(self, agent_id: str, since: float, limit: int) -> list[tuple[str, float]]:
        found = [(c, at) for (agent, c), at in self.tables.conversations.items() if agent == agent_id and at >= since]
        return sorted(found, key=lambda one: (-one[1], one[0]))[:limit]

    async def left_conversations(self, agent_id: str, limit: int) -> list[tuple[str, float]]:
        found = [(c, -at) for (agent, c), at in self.tables.conversations.items() if agent == agent_id and at < 0]
        return sorted(found, key=lambda one: one[1])[-limit:]

    async def conversation(
        self, agent_id: str, conversation_id: str, limit: int, up_to_id: int
    ) -> tuple[list[Spoken], list[Spoken]]:
        said = [m for m in self.tables.inbox(agent_id, conversation_id) if m.id <= up_to_id]
        answered = [r for r in self.tables.outbox(agent_id, conversation_id) if (r.inbox_id or 0) <= up_to_id]
        replies = [Spoken(r.id, r.inbox_id, r.created_at, r.body) for r in answered if r.state not in LOST]
        return [Spoken(m.id, m.id, m.received_at, m.body) for m in said][: -limit - 1 : -1], replies[: -limit - 1 : -1]

    async def summary(self, agent_id: str, conversation_id: str) -> StoredSummary | None:
        return self.tables.summaries.get((agent_id, conversation_id))

    async def replies_of(self, inbox_id: int) -> list[StoredReply]:
        return [r for m in await self.load([inbox_id]) for r in self.tables.replies_to(m)]

    async def unsent(self, agent_id: str | None) -> list[StoredReply]:
        return [r for r in self.tables.outbox(agent_id) if r.state in ON_THEIR_WAY]

    async def own_replies(
        self, agent_id: str, conversation_id: str, *, since: float, before_id: int, limit: int
    ) -> list[StoredReply]:
        own = [r for r in self.tables.outbox(agent_id, conversation_id) if r.id < before_id]
        return [r for r in own if r.state in ON_THEIR_WAY or (r.settled_at or 0.0) >= since][-limit:]

    async def dead_replies(self, inbox_ids: Sequence[int]) -> list[StoredReply]:
        return sorted(r for m in await self.load(inbox_ids) for r in self.tables.dead_replies(m))

    async def replayed_replies(self) -> list[StoredReply]:
        return [r for r in self.tables.outbox() if r.state in ON_THEIR_WAY and r.settled_at is not None]

    async def usage(self, agent_id: str | None, since_day: str | None) -> list[UsageRecord]:
        found = [record for _, record in sorted(self.tables.usage.items())]
        return [u for u in found if agent_id in (None, u.agent_id) and u.day >= (since_day or "")]

    async def lives(self, agent_id: str | None) -> list[AgentLife]:
        return [life for one, life in sorted(self.tables.lives.items()) if agent_id in (None, one)]


class Changes(Questions):
    seen: int

    async def rows(self, agent_id: str | None = None) -> Sequence[AgentRow]:
        return [row for one, row in sorted(self.tables.agents.items()) if agent_id in (None, one)]

    async def write(self, changes: AgentChanges, origin: Origin) -> None:
        at = f"{datetime.fromtimestamp(origin.at, UTC):%Y-%m-%d %H:%M:%S}"
        old = self.tables.agents
        if missing := [one for one in (*changes.remove, *dict(changes.change)) if one not in old]:
            raise AgentNotFoundError(missing[0])
        rows = {one: row for one, row in old.items() if one not in changes.remove}
        if known := [one for one, _ in changes.add if one in rows]:
            raise AgentExistsError(known[0])
        for one, values in (*changes.change, *changes.add):
            rows[one] = rows.get(one, {"id": one, "created_at": at}) | values | {"updated_at": at}
        self.tables.agents = rows
        self.tables.events.agents = rows
        touched = [*changes.remove, *dict(changes.change), *dict(changes.add)]
        self.tables.events.changed(origin, {one: (old.get(one), rows.get(one)) for one in touched})
        self.tables.agent_changes += 1
        self.seen += 1

    async def alter(
        self, agent_ids: Sequence[str], change: Callable[[AgentRow], AgentValues], origin: Origin
    ) -> list[AgentRow]:
        rows = {one: self.tables.agents.get(one, {}) for one in agent_ids}
        await self.write(AgentChanges(change=[(one, change(row) if row else {}) for one, row in rows.items()]), origin)
        return [self.tables.agents[one] for one in agent_ids]

    async def restore(self, agent_id: str, since: float, origin: Origin) -> None:
        at, row = self.tables.events.removed.get(agent_id, (since - 1, {}))
        if agent_id in self.tables.agents:
            raise AgentExistsError(agent_id)
        if at < since:
            raise AgentNotFoundError(agent_id)
        values = {name: value for name, value in row.items() if name in CHANGEABLE}
        await self.write(AgentChanges(add=[(agent_id, values)]), origin)
        self.tables.agents[agent_id]["created_at"] = row["created_at"]
        del self.tables.events.removed[agent_id]

    def move(self, rows: Sequence[Row], **changed: Any) -> int:
        self.tables.rows |= {row.id: row._replace(**changed) for row in rows}
        return len(rows)

    def delete(self, rows: Sequence[Row]) -> int:
        self.tables.keys -= {(row.agent_id, row.key) for row in rows if isinstance(row, StoredMessage)}
        return len([self.tables.rows.pop(row.id) for row in rows])

    def dead(self, one: JournaledMessage | Reply) -> list[Row]:
        found = self.tables.rows.get(one.id)
        same = found is not None and getattr(found, "replay", 0) == getattr(one, "replay", 0)
        return [found] if found and same and found.state == "dead" else []

    async def replay(self, rows: Sequence[JournaledMessage]) -> list[bool]:
        again = {"state": MessageState.AVAILABLE, "attempts": 0, "not_before": 0.0, "settled_at": None}
        return [self.move(self.dead(row), replay=row.replay + 1, **again) == 1 for row in rows]

    async def discard(self, row: JournaledMessage, now: float) -> bool:
        return self.move(self.dead(row), state=MessageState.CANCELLED, settled_at=now) == 1

    async def replay_replies(self, replies: Sequence[Reply]) -> list[bool]:
        return [self.move(self.dead(r), state=ReplyState.PENDING, attempts=0, not_before=0.0) == 1 for r in replies]

    async def rescue(self, agent_id: str | None) -> int:
        running = [m for m in self.tables.inbox(agent_id) if m.state is MessageState.RUNNING]
        return self.move(running, state=MessageState.AVAILABLE, **({} if agent_id else {"error": CRASHED}))

    async def cancel(self, agent_id: str | None, now: float) -> int:
        left = [row for row in self.tables.of(agent_id, None) if agent_id or row.agent_id not in self.tables.agents]
        kept = self.tables.agents if agent_id is None else set(self.tables.lives) - {agent_id}
        self.tables.lives = {one: life for one, life in self.tables.lives.items() if one in kept}
        given_up = [row for row in left if row.state in ON_THEIR_WAY]
        self.move(given_up, state=ReplyState.DEAD, settled_at=now, error="the agent was removed")
        return self.move([row for row in left if row.state in UNSETTLED], state=MessageState.CANCELLED, settled_at=now)

    async def purge(self, agent_id: str, conversation_id: str | None, now: float) -> int:
        tables = self.tables
        begun = [one for one in tables.conversations if one[0] == agent_id and conversation_id in (None, one[1])]
        begun = [one for one in begun if tables.conversations[one] > 0]
        tables.conversations |= dict.fromkeys(begun, now)
        for place in [one for one in tables.summaries if one[0] == agent_id and conversation_id in (None, one[1])]:
            del tables.summaries[place]
        return self.delete(tables.of(agent_id, conversation_id))

    async def erase(self, ids: Sequence[int], now: float) -> int:
        tables = self.tables
        rows = [row for row in tables.inbox() if row.id in set(ids)]
        places = {(row.agent_id, row.conversation_id) for row in rows}
        tables.conversations |= {one: now for one, at in tables.conversations.items() if one in places and at > 0}
        tables.summaries = {one: kept for one, kept in tables.summaries.items() if one not in places}
        return self.delete([*rows, *(reply for row in rows for reply in tables.replies_to(row))])

    async def prune(self, before: float) -> AsyncGenerator[int, None]:
        needed = {r.inbox_id for r in self.tables.outbox() if r.state in ON_THEIR_WAY}
        self.tables.summaries = {one: kept for one, kept in self.tables.summaries.items() if kept.since >= before}
        old = [row for row in self.tables.rows.values() if row.settled_at is not None and row.settled_at < before]
        yield self.delete([row for row in old if row.id not in needed and row.state not in ON_THEIR_WAY])
        self.tables.conversations = {one: at for one, at in self.tables.conversations.items() if abs(at) >= before}

    async def prune_usage(self, before_day: str) -> int:
        usage = self.tables.usage
        return len([usage.pop(key) for key in list(usage) if key[0] < before_day])


class MemoryDatabase(Changes):
    """An open database; others may be open on the same tables."""

    def __init__(self, tables: Tables, url: str, *, locked: bool, now: float) -> None:
        self.lives_since = now if tables.lives_since is None else tables.lives_since
        tables.lives_since = self.lives_since if locked else tables.lives_since
        self.uuid, self.where, self.revision = url, url, "memory"
        self.lost: str | None = None
        self.taken_over, self.sure = False, True
        self.room: str | None = None
        self.agents: dialect.AgentTable = self
        self.history: HistoryTable = tables.events
        self.questions: dialect.JournalQuestions = self
        self.changes: dialect.JournalChanges = self
        self.replicas: ReplicaTable = SoleReplica(self.rows, lambda: tables.holder, mine=locked)
        self.tables, self.locked, self.seen = tables, locked, tables.agent_changes

    def begin_commit(self, operations: Sequence[op.Operation], done: dialect.Done) -> None:
        loop, refusing = asyncio.get_running_loop(), self.tables.refusing
        if refusing is None:
            loop.call_soon(done, [self._apply(operation) for operation in operations], None)
        else:
            loop.call_soon(done, None, StorageError(refusing))

    def _apply(self, one: op.Operation) -> bool:
        rows, usage = self.tables.rows, self.tables.usage
        match one:
            case op.AddMessage(row=m):
                if (m.agent_id, m.key) in self.tables.keys:
                    return False
                self.tables.keys.add((m.agent_id, m.key))
                one.number = next(self.tables.numbers)
                values = (m.conversation_id, one.body, m.state, m.attempts, m.received_at)
                rows[one.number] = StoredMessage(one.number, m.agent_id, m.key, *values)
                self._note(m.agent_id, m.conversation_id, m.received_at)
            case op.AddReply(reply=r):
                one.number = next(self.tables.numbers)
                place = (one.number, r.agent_id, r.inbox_id, r.part, r.conversation_id)
                rows[one.number] = StoredReply(*place, one.body, r.state, r.created_at)
            case op.MoveMessage() | op.MoveReply():
                found = rows.get(one.row.id if isinstance(one, op.MoveMessage) else one.reply.id)
                if not found or one.expected not in (
                    found.state,
                    (found.state, found.attempts, getattr(found, "replay", 0)),
                ):
                    return False
                changed = {name: getattr(one, name) for name in ("state", "attempts", "not_before", "settled_at")}
                self.move([found], **changed, error=one.stored_error)
                for other in getattr(one, "together", ()):
                    other.lost = not self._apply(other)
                return all(self._apply(reply) for reply in getattr(one, "replies", ()))
            case op.NoteConversation():
                self._note(one.agent_id, one.conversation_id, one.last_seen)
            case op.AddUsage(records=records):
                for used in records:
                    key = used.day, used.agent_id, used.model
                    usage[key] = usage[key].plus(used) if key in usage else used
            case op.RecordRegistered(times=times):
                for agent_id, at in times.items():
                    self._live(agent_id, registered_at=at)
            case op.RecordSleep(agent_id=agent_id, sleep=sleep):
                self._live(agent_id, sleep=sleep)
            case op.KeepSummary(agent_id=agent_id, conversation_id=conversation_id, summary=summary):
                kept = self.tables.summaries.get((agent_id, conversation_id), summary)
                there = {m.id for m in self.tables.inbox(agent_id, conversation_id)}
                if one.asked_id not in there or kept.up_to_id > summary.up_to_id:
                    return False
                self.tables.summaries[agent_id, conversation_id] = summary
        return True

    def _note(self, agent_id: str, conversation_id: str, at: float | None) -> None:
        before = self.tables.conversations.pop((agent_id, conversation_id), at)
        if at is not None:
            self.tables.conversations[agent_id, conversation_id] = at if at < 0 else max(at, before or at)

    def _live(self, agent_id: str, **changed: Any) -> None:
        self.tables.lives[agent_id] = replace(self.tables.lives.get(agent_id, AgentLife(agent_id)), **changed)

    async def kept_copies(self) -> list[str]:
        return []

    async def space(self) -> None:
        return None

    async def scarce_room(self) -> str | None:
        return self.room

    async def look(self) -> str | None:
        return self.lost

    async def save(self, now: float) -> str:
        raise RegistryError("Nothing is lost")

    async def forget_copies(self, before: float) -> list[str]:
        return []

    async def changed(self) -> bool:
        moved, self.seen = self.tables.agent_changes != self.seen, self.tables.agent_changes
        return moved

    async def wait_for_change(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def announce(self, info: LockInfo) -> None:
        if not self.locked:
            raise RegistryError("The registry was opened without a lock; there is nothing to announce")
        self.tables.holder = info

    def take_failed_run(self) -> FailedRun | None:
        if not self.locked:
            return None
        failed, self.tables.failed = self.tables.failed, None
        return failed

    @property
    def last_words(self) -> int | None:
        return None

    async def close(self) -> None:
        if self.locked and (holder := self.tables.holder) is not None:
            self.tables.failed = FailedRun(holder, "", 0.0) if holder.ended else self.tables.failed
            self.tables.holder = None
        self.tables = cast("Tables", Closed())


@dataclass
class Memory:
    """The dialect; each URL has tables of its own."""

    registries: dict[str, Tables] = field(default_factory=dict)

    async def open(
        self,
        url: str,
        *,
        clock: Clock,
        synchronous: str = "",
        upgrade: bool = False,
        access: dialect.Access = dialect.ANY_ACCESS,
        lock: LockInfo | None = None,
    ) -> MemoryDatabase:
        if url not in self.registries and not (upgrade and access.create):
            raise RegistryError(f"There is no registry at {url}; create it with: supervisor db upgrade")
        tables = self.registries.setdefault(url, Tables())
        if lock is not None and tables.holder is not None:
            raise RegistryLockedError(f"Another supervisor runs on the registry {url}: {tables.holder}")
        tables.holder = lock or tables.holder
        return MemoryDatabase(tables, url, locked=lock is not None, now=clock.now())

    def holders(self, url: str) -> Sequence[LockInfo]:
        found = self.registries[url].holder if url in self.registries else None
        return [] if found is None else [found]
