"""Encrypts what the registry holds anew under the first key, so that older keys can be dropped (DESIGN §5).

Every ciphertext is replaced by compare and set, in short transactions: a supervisor that runs on the registry goes on,
and a crash leaves each of them under one key or the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import Connection

from supervisor.core.errors import ConfigurationError, RegistryError
from supervisor.store import sqlite
from supervisor.store.agents import record_from_row
from supervisor.store.reader import Reader
from supervisor.store.store import Registry

_MARK: Final = "fernet:"
#: A ciphertext anywhere in a row's settings: version and the upper bytes of a time make every one begin like this.
_IN_SETTINGS: Final = re.compile(r"fernet:(gAAAA[\w=-]+)", re.ASCII)
#: Rows in one transaction: the supervisor's own wait for it.
_SLICE: Final = 100
#: A row that somebody changes at every attempt is left for another time.
_PASSES: Final = 5


class KeyRing(Protocol):
    """Encrypts anew; :class:`supervisor.settings.secrets.SecretBox` is one."""

    def renew(self, sealed: bytes) -> bytes | None:
        """A ciphertext under the first key; None when it is under that one already.

        Raises:
            ConfigurationError: none of the keys opens it.
        """
        ...


@dataclass(slots=True)
class Tally:
    """Rows with something encrypted in them, each counted once.

    Args:
        renewed: were under another key; with ``dry_run`` they still are.
        current: were under the first key already.
        unreadable: hold what is under a key that is not there, which stays as it is.
    """

    renewed: int = 0
    current: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class Rotation:
    """What was found and done.

    Args:
        agents: rows of agents: their secrets, and ciphertexts in their settings.
        messages: messages and replies in the journal.
        unreadable: how many unreadable rows each agent has.
    """

    agents: Tally = field(default_factory=Tally)
    messages: Tally = field(default_factory=Tally)
    unreadable: Counter[str] = field(default_factory=Counter)


class _Row(NamedTuple):
    table: str
    id: Any
    agent_id: str
    columns: dict[str, Any]


class _Change(NamedTuple):
    table: str
    column: str
    id: Any
    old: str | bytes
    new: str | bytes


async def rotate(url: str, ring: KeyRing, *, dry_run: bool = False) -> Rotation:
    """Encrypt everything in the registry at ``url`` under the first key of ``ring``; what is so already stays.

    Raises:
        RegistryError: the registry cannot be read or written; what was done until then stays done.
    """
    registry = await Registry.open(url)
    try:
        rotation = Rotation()
        for _ in range(_PASSES):
            work = _Pass(registry, ring, rotation, dry_run=dry_run)
            await work.agents()
            for table in ("inbox", "outbox"):
                await work.journal(table)
            rotation = work.found
            if not work.lost:
                break
        else:
            raise RegistryError("Somebody keeps changing what is to be encrypted anew; try again")
        if not dry_run:
            # The log holds what was encrypted under the old key.
            await registry._writer.call(sqlite.empty_log)
        return rotation
    finally:
        await registry.close()


class _Pass:
    """Looks at everything once. What an earlier pass has renewed is counted as renewed by this one too."""

    def __init__(self, registry: Registry, ring: KeyRing, before: Rotation, *, dry_run: bool) -> None:
        self._writer = registry._writer
        self._reader: Reader = registry._reader
        self._ring = ring
        self._dry_run = dry_run
        self.found = Rotation()
        self._before = before
        #: Rows that somebody else changed or removed meanwhile.
        self.lost = 0

    async def agents(self) -> None:
        """Every agent's row."""
        rows = await self._reader.read(_agents)
        for start in range(0, len(rows), _SLICE):
            await self._renew(rows[start : start + _SLICE], self.found.agents)
        _carry(self._before.agents, self.found.agents)

    async def journal(self, table: str) -> None:
        """Every row of the inbox or the outbox; one that comes meanwhile is under the first key."""
        last, position = await self._reader.read(partial(_last, table=table)), 0
        while rows := await self._reader.read(partial(_texts, table=table, after=position, last=last)):
            await self._renew(rows, self.found.messages)
            position = rows[-1].id
        if table == "outbox":
            _carry(self._before.messages, self.found.messages)

    async def _renew(self, rows: Sequence[_Row], tally: Tally) -> None:
        changed: list[tuple[list[_Change], bool]] = []
        for row in rows:
            changes, readable = self._changes(row)
            if not readable:
                tally.unreadable += 1
                self.found.unreadable[row.agent_id] += 1
            elif not changes:
                tally.current += 1
            if changes:
                changed.append((changes, readable))
        won = [True] * len(changed)
        if changed and not self._dry_run:
            won = await self._writer.alter(partial(_swap, changed=[changes for changes, _ in changed]))
        # One that is unreadable in part is counted as that.
        tally.renewed += sum(all_of_it and readable for all_of_it, (_, readable) in zip(won, changed, strict=True))
        self.lost += won.count(False)

    def _changes(self, row: _Row) -> tuple[list[_Change], bool]:
        """What can be renewed of a row, and whether that is all of it."""
        made, readable = [], True

        def renewed(sealed: bytes) -> bytes | None:
            nonlocal readable
            try:
                return self._ring.renew(sealed)
            except ConfigurationError:
                readable = False
                return None

        for column, old in row.columns.items():
            new = _settings(old, renewed) if column == "settings" else _value(old, renewed)
            if new != old:
                made.append(_Change(row.table, column, row.id, old, new))
        return made, readable


def _value(old: str | bytes, renewed: Callable[[bytes], bytes | None]) -> str | bytes:
    mark = _MARK.encode()
    raw = old if isinstance(old, bytes) else old.encode("utf-8", "replace")
    new = renewed(raw.removeprefix(mark))
    if new is None:
        return old
    return mark + new if isinstance(old, bytes) else (mark + new).decode("ascii")


def _settings(old: str, renewed: Callable[[bytes], bytes | None]) -> str:
    def replaced(found: re.Match[str]) -> str:
        new = renewed(found[1].encode())
        return found[0] if new is None else _MARK + new.decode("ascii")

    # In the text, so that nothing else of it changes, be it JSON or not.
    return _IN_SETTINGS.sub(replaced, old)


def _carry(before: Tally, now: Tally) -> None:
    """What was renewed by an earlier pass is current to this one."""
    now.renewed += before.renewed
    now.current = max(0, now.current - before.renewed)


def _agents(connection: Connection) -> list[_Row]:
    rows = []
    for row in connection.exec_driver_sql("SELECT * FROM agents ORDER BY id").mappings():
        secret, settings = row["secret"], row["settings"]
        columns: dict[str, Any] = {}
        if isinstance(secret, str) and secret.startswith(_MARK):
            columns["secret"] = secret
        if isinstance(settings, str) and _IN_SETTINGS.search(settings):
            columns["settings"] = settings
        if columns:
            rows.append(_Row("agents", row["id"], record_from_row(row).id, columns))
    return rows


def _last(connection: Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT max(id) FROM {table}").scalar() or 0)  # noqa: S608 - names of ours


def _texts(connection: Connection, table: str, after: int, last: int) -> list[_Row]:
    """The next rows that hold something encrypted."""
    found = connection.exec_driver_sql(
        f"SELECT {table}.id, agent_id, body, error FROM {table} JOIN agent_keys ON key = agent_key "  # noqa: S608 - same
        f"WHERE {table}.id > ? AND {table}.id <= ? AND (substr(body, 1, 7) = ? OR substr(error, 1, 7) = ?) "
        f"ORDER BY {table}.id LIMIT ?",
        (after, last, _MARK.encode(), _MARK, _SLICE),
    )
    rows = []
    for number, agent_id, body, error in found:
        columns: dict[str, Any] = {}
        if isinstance(body, bytes) and body.startswith(_MARK.encode()):
            columns["body"] = body
        if isinstance(error, str) and error.startswith(_MARK):
            columns["error"] = error
        rows.append(_Row(table, number, agent_id, columns))
    return rows


def _swap(connection: Connection, changed: Sequence[Sequence[_Change]]) -> list[bool]:
    """Put each new value where the old one still is; of each row whether all were."""
    return [all(_swapped(connection, change) for change in changes) for changes in changed]


def _swapped(connection: Connection, change: _Change) -> bool:
    statement = f"UPDATE {change.table} SET {change.column} = ? WHERE id = ? AND {change.column} = ?"  # noqa: S608 - same
    return connection.exec_driver_sql(statement, (change.new, change.id, change.old)).rowcount > 0
