"""The statements of the table ``agent_events``: who changed what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

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
    undo_of_removal,
)
from supervisor.store.sql.agent_rows import find_row
from supervisor.store.sql.sessions import Connection, Sessions, scalar

_BEFORE: Final = (
    "(SELECT after FROM agent_events AS earlier WHERE earlier.agent_id = agent_events.agent_id "
    "AND earlier.subject = agent_events.subject AND earlier.id < agent_events.id ORDER BY earlier.id DESC LIMIT 1)"
)
_COLUMNS: Final = f"id, at, agent_id, subject, action, actor, address, after, {_BEFORE}"
_EVENTS: Final = (
    f"SELECT {_COLUMNS} FROM agent_events WHERE id > :after_id AND id < :before_id "  # noqa: S608  constants
    "{of_agent} ORDER BY id DESC LIMIT :limit"
)
_REMOVALS: Final = (
    f"SELECT {_COLUMNS} FROM agent_events WHERE id IN (SELECT max(id) FROM agent_events "  # noqa: S608  constants
    "WHERE undo IS NOT NULL AND at >= :since AND agent_id NOT IN (SELECT id FROM agents) GROUP BY agent_id) "
    "ORDER BY id DESC"
)
_LAST: Final = (
    "SELECT after FROM agent_events WHERE agent_id = :agent_id AND subject = :subject ORDER BY id DESC LIMIT 1"
)
_ADD: Final = (
    "INSERT INTO agent_events (at, agent_id, subject, action, actor, address, after, undo) "
    "VALUES (:at, :agent_id, :subject, :action, :actor, :address, :after, :undo)"
)
_PRUNE_AGENT: Final = (
    "DELETE FROM agent_events WHERE agent_id = :agent_id AND subject = :subject AND id <= (SELECT id FROM agent_events "
    "WHERE agent_id = :agent_id AND subject = :subject ORDER BY id DESC LIMIT 1 OFFSET :kept)"
)
_PRUNE: Final = (
    "DELETE FROM agent_events WHERE at < :before AND id NOT IN (SELECT max(id) FROM agent_events "
    "WHERE subject <> 'deed' AND agent_id IN (SELECT id FROM agents) GROUP BY agent_id, subject)"
)
_FORGET_UNDO: Final = "UPDATE agent_events SET undo = NULL WHERE undo IS NOT NULL AND at < :before"
_UNDO: Final = (
    "SELECT undo FROM agent_events WHERE agent_id = :agent_id AND subject = 'row' AND undo IS NOT NULL "
    "AND at >= :since ORDER BY id DESC LIMIT 1"
)
#: Rows looked at in one transaction, which the journal waits for.
_OBSERVED_AT_ONCE: Final = 200


class SqlHistory:
    """The table ``agent_events``, as :class:`~supervisor.store.dialect.history.HistoryTable` describes it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def observe(self, agent_ids: Sequence[str], origin: Origin) -> None:
        for start in range(0, len(agent_ids), _OBSERVED_AT_ONCE):
            some = agent_ids[start : start + _OBSERVED_AT_ONCE]
            # Asked first: most often all is known, and to ask keeps nobody waiting.
            unknown = await self._sessions.read(partial(_unknown, agent_ids=some))
            if unknown:
                await self._sessions.alter(partial(_observe, agent_ids=unknown, origin=origin))

    async def note(self, agent_id: str, action: str, after: str, origin: Origin) -> None:
        await self._sessions.alter(lambda connection: _add(connection, origin, agent_id, DEED, action, after))

    async def note_instructions(self, known: Mapping[str, str | None], origin: Origin) -> None:
        agent_ids = list(known)
        for start in range(0, len(agent_ids), _OBSERVED_AT_ONCE):
            some = {one: known[one] for one in agent_ids[start : start + _OBSERVED_AT_ONCE]}
            if others := await self._sessions.read(partial(_other_instructions, known=some)):
                await self._sessions.alter(partial(_note_instructions, known=others, origin=origin))

    async def events(self, wanted: EventFilter, limit: int) -> list[StoredEvent]:
        statement = _EVENTS.format(of_agent="" if wanted.agent_id is None else "AND agent_id IN (:agent_id, '')")
        values = {
            "agent_id": wanted.agent_id,
            "after_id": wanted.after_id,
            "before_id": wanted.before_id,
            "limit": limit,
        }
        found = await self._sessions.read(partial(_find, statement=statement, values=values))
        return found[::-1]

    async def removals(self, since: float) -> list[StoredEvent]:
        return await self._sessions.read(partial(_find, statement=_REMOVALS, values={"since": since}))

    async def prune(self, before: float, undo_before: float) -> int:
        def work(connection: Connection) -> int:
            connection.execute(_FORGET_UNDO, {"before": undo_before})
            return connection.execute(_PRUNE, {"before": before}).rowcount

        return await self._sessions.alter(work)


def changed(
    connection: Connection, origin: Origin, agent_id: str, before: AgentRow | None, after: AgentRow | None
) -> None:
    """Note a change of a row, in its transaction; first, where that is so, that the row was not as was known.

    Args:
        before, after: the row; None where there was or is none.
    """
    _catch_up(connection, origin, agent_id, before)
    action = origin.action or ("added" if before is None else "removed" if after is None else "changed")
    undo = None
    if after is None and before is not None:
        undo = undo_of_removal(before)
    _add(connection, origin, agent_id, ROW, action, None if after is None else content(after), undo)


def undo_of(connection: Connection, agent_id: str, since: float) -> AgentRow | None:
    """The row that was removed last, as it was; None where that was before ``since``, or never."""
    kept = scalar(connection, _UNDO, {"agent_id": agent_id, "since": since})
    return None if kept is None else msgspec.json.decode(kept)


def forget_undo(connection: Connection, agent_id: str) -> None:
    """A removal is undone: what was kept for that is needed no more."""
    connection.execute("UPDATE agent_events SET undo = NULL WHERE agent_id = :agent_id", {"agent_id": agent_id})


def _find(connection: Connection, statement: str, values: Mapping[str, Any]) -> list[StoredEvent]:
    return [StoredEvent(*row) for row in connection.execute(statement, values).fetchall()]


def _other_instructions(connection: Connection, known: Mapping[str, str | None]) -> dict[str, str | None]:
    """Those that are not as the last event about them says."""
    return {one: after for one, after in known.items() if _last(connection, one, INSTRUCTION) != after}


def _note_instructions(connection: Connection, known: Mapping[str, str | None], origin: Origin) -> None:
    for agent_id, after in _other_instructions(connection, known).items():
        _add(connection, origin, agent_id, INSTRUCTION, "instruction", after)


def _observe(connection: Connection, agent_ids: Sequence[str], origin: Origin) -> None:
    for agent_id in agent_ids:
        _catch_up(connection, origin, agent_id, find_row(connection, agent_id))


def _unknown(connection: Connection, agent_ids: Sequence[str]) -> list[str]:
    """Those whose rows are not as their last event says."""
    return [one for one in agent_ids if not _is_known(connection, one, find_row(connection, one))]


def _is_known(connection: Connection, agent_id: str, row: AgentRow | None) -> bool:
    return _last(connection, agent_id, ROW) == (None if row is None else content(row))


def _catch_up(connection: Connection, origin: Origin, agent_id: str, row: AgentRow | None) -> None:
    known = _last(connection, agent_id, ROW)
    now = None if row is None else content(row)
    if known != now:
        action = "found" if known is None else "removed" if now is None else "changed"
        _add(connection, Origin(origin.at, SQL), agent_id, ROW, action, now)


def _last(connection: Connection, agent_id: str, subject: str) -> str | None:
    found: str | None = scalar(connection, _LAST, {"agent_id": agent_id, "subject": subject})
    return found


def _add(
    connection: Connection,
    origin: Origin,
    agent_id: str,
    subject: str,
    action: str,
    after: str | None,
    undo: str | None = None,
) -> None:
    values = {
        "at": origin.at,
        "agent_id": agent_id,
        "subject": subject,
        "action": action,
        "actor": origin.actor.kind,
        "address": origin.actor.address,
        "after": after,
        "undo": undo,
    }
    connection.execute(_ADD, values)
    kept = MAX_INSTRUCTIONS if subject == INSTRUCTION else MAX_EVENTS
    connection.execute(_PRUNE_AGENT, {"agent_id": agent_id, "subject": subject, "kept": kept})
