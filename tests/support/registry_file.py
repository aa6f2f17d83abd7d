"""Reads a registry file by a connection of the test's own, whoever else has it open: what is there is committed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.core.states import MessageState, ReplyState
from supervisor.store.sql.columns import MESSAGE_STATES, REPLY_STATES, decode_key

#: How long a reader may wait for a file that is being recovered.
LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as the file has it; ``key`` is the platform's ``_id``."""

    id: int
    key: str
    state: MessageState
    attempts: int


@dataclass(frozen=True, slots=True)
class ReplyRow:
    """A reply as the file has it."""

    inbox_id: int | None
    part: int
    state: ReplyState
    attempts: int
    error: str | None


@dataclass(frozen=True, slots=True)
class RegistryFile:
    """The journal in one SQLite file."""

    path: Path

    def _select(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=LOCK_SECONDS)) as connection:
            return connection.execute(query).fetchall()

    def inbox(self) -> dict[str, MessageRow]:
        """The committed messages by key, oldest first."""
        rows = self._select("SELECT id, message_key, state, attempts FROM inbox ORDER BY id")
        messages = [
            MessageRow(number, decode_key(key), MESSAGE_STATES[state], tries) for number, key, state, tries in rows
        ]
        return {message.key: message for message in messages}

    def outbox(self) -> list[ReplyRow]:
        """The committed replies, oldest first."""
        rows = self._select("SELECT inbox_id, part, state, attempts, error FROM outbox ORDER BY id")
        return [ReplyRow(number, part, REPLY_STATES[state], tries, error) for number, part, state, tries, error in rows]
