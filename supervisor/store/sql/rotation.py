"""Encrypts what a registry holds anew under the first key, so that older keys can be dropped.

Every ciphertext is replaced by compare and set, in short transactions: a supervisor that runs on the registry goes on,
and a crash leaves each of them under one key or the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from supervisor.core.errors import ConfigurationError, RegistryError
from supervisor.settings.secrets import SecretBox
from supervisor.store.dialect import Rotation
from supervisor.store.dialect.codec import SEALED
from supervisor.store.dialect.rotation import Tally
from supervisor.store.sql import sealed
from supervisor.store.sql.sealed import IN_SETTINGS, SealedChange, SealedRow
from supervisor.store.sql.sessions import Sessions

_MARK: Final = SEALED.decode()
#: The columns that hold one ciphertext and nothing else; in the others it stands somewhere in a text.
_WHOLE: Final = frozenset({"secret", "body", "error"})
#: A row that somebody changes at every attempt is left for another time.
_PASSES: Final = 5


async def rotate(sessions: Sessions, box: SecretBox, *, dry_run: bool) -> Rotation:
    """Encrypt everything under the first key of ``box``; what is so already stays.

    Raises:
        RegistryError: the registry cannot be read or written; what was done until then stays done.
    """
    rotation = Rotation()
    for _ in range(_PASSES):
        work = _Pass(sessions, box, rotation, dry_run=dry_run)
        await work.agents()
        for table in sealed.COLUMNS:
            await work.journal(table)
        work.carry()
        rotation = work.found
        if not work.lost:
            break
    else:
        raise RegistryError("Somebody keeps changing what is to be encrypted anew; try again")
    if not dry_run:
        # The log holds what was encrypted under the old key.
        await sessions.empty_log()
    return rotation


class _Pass:
    """Looks at everything once. What an earlier pass has renewed is counted as renewed by this one too."""

    def __init__(self, sessions: Sessions, box: SecretBox, before: Rotation, *, dry_run: bool) -> None:
        self._sessions = sessions
        self._box = box
        self._dry_run = dry_run
        self.found = Rotation()
        self._before = before
        #: Rows that somebody else changed or removed meanwhile.
        self.lost = 0

    async def agents(self) -> None:
        """Every agent's row, and those that were removed and can come back."""
        rows = [*await self._sessions.read(sealed.agents), *await self._sessions.read(sealed.removed)]
        for start in range(0, len(rows), sealed.SLICE):
            await self._renew(rows[start : start + sealed.SLICE], self.found.agents)
        _carry(self._before.agents, self.found.agents)

    async def journal(self, table: str) -> None:
        """Every row of a table of the journal; one that comes meanwhile is under the first key."""
        last, position = await self._sessions.read(partial(sealed.last, table=table)), 0
        while rows := await self._sessions.read(partial(sealed.texts, table=table, after=position, last_id=last)):
            await self._renew(rows, self.found.messages)
            position = rows[-1].id

    def carry(self) -> None:
        """What an earlier pass has renewed of the journal is no news to this one."""
        _carry(self._before.messages, self.found.messages)

    async def _renew(self, rows: Sequence[SealedRow], tally: Tally) -> None:
        changed: list[tuple[list[SealedChange], bool]] = []
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
            work = partial(sealed.swap, changed=[changes for changes, _ in changed])
            won = await self._sessions.alter(work)
        # One that is unreadable in part is counted as that.
        tally.renewed += sum(all_of_it and readable for all_of_it, (_, readable) in zip(won, changed, strict=True))
        self.lost += won.count(False)

    def _changes(self, row: SealedRow) -> tuple[list[SealedChange], bool]:
        """What can be renewed of a row, and whether that is all of it."""
        made, readable = [], True

        def renewed(ciphertext: bytes) -> bytes | None:
            nonlocal readable
            try:
                return self._box.renew(ciphertext)
            except ConfigurationError:
                readable = False
                return None

        for column, old in row.columns.items():
            new = _value(old, renewed) if column in _WHOLE else _in_text(old, renewed)
            if new != old:
                made.append(SealedChange(row.table, column, row.id, old, new))
        return made, readable


def _value(old: str | bytes, renewed: Callable[[bytes], bytes | None]) -> str | bytes:
    raw = old if isinstance(old, bytes) else old.encode("utf-8", "replace")
    new = renewed(raw.removeprefix(SEALED))
    if new is None:
        return old
    return SEALED + new if isinstance(old, bytes) else (SEALED + new).decode("ascii")


def _in_text(old: str, renewed: Callable[[bytes], bytes | None]) -> str:
    def replaced(found: re.Match[str]) -> str:
        new = renewed(found[1].encode())
        return found[0] if new is None else _MARK + new.decode("ascii")

    # In the text, so that nothing else of it changes, be it JSON or not.
    return IN_SETTINGS.sub(replaced, old)


def _carry(before: Tally, now: Tally) -> None:
    """What was renewed by an earlier pass is current to this one."""
    now.renewed += before.renewed
    now.current = max(0, now.current - before.renewed)
