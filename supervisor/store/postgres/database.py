"""A registry in one database of PostgreSQL, open."""

# ruff: noqa: S608 - the texts are put together from names of our own

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.core.owners import own_context
from supervisor.core.tasks import cancel_all, kept
from supervisor.store.dialect import AgentTable, JournalChanges, JournalQuestions, LockInfo, StorageError
from supervisor.store.dialect.face import Done
from supervisor.store.dialect.history import HistoryTable
from supervisor.store.dialect.holder import FailedRun
from supervisor.store.dialect.operations import Operation
from supervisor.store.dialect.replicas import ReplicaTable
from supervisor.store.postgres.asking import PostgresQuestions
from supervisor.store.postgres.beats import boot_seconds
from supervisor.store.postgres.changes import ChangeNotice
from supervisor.store.postgres.holding import Hold
from supervisor.store.postgres.journaling import PostgresChanges
from supervisor.store.postgres.placing import Placement
from supervisor.store.postgres.replicas import Replicas
from supervisor.store.postgres.sessions import PostgresSessions
from supervisor.store.postgres.writer import Writer
from supervisor.store.sql import SqlAgents, SqlHistory

#: How long closing waits for the batch under way to be given up.
_LAST_SECONDS: Final = 5.0

_NUMBERED: Final = {
    "agent_keys": "key",
    "inbox_bodies": "id",
    "outbox_bodies": "id",
    "conversation_summaries": "id",
    "agent_events": "id",
}
#: Statements by which the numbers of rows go on behind those that were copied.
RENUMBER: Final = tuple(
    f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), coalesce(max({column}), 0) + 1, false) FROM {table}"
    for table, column in _NUMBERED.items()
)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a database said of itself when it was opened; as :class:`~supervisor.store.dialect.face.Database` has it."""

    uuid: str
    revision: str
    lives_since: float


class PostgresDatabase:
    """The connections to one database, as :class:`~supervisor.store.dialect.face.Database` describes them.

    Args:
        hold: given up with the last connection; None: it is not held.
        placement: gives agents to the replicas, this one among them; None: it runs no agents.

    Attributes:
        sessions: the connections that read and alter.
        lost: that another supervisor has taken it over; None while none has.
    """

    def __init__(
        self,
        sessions: PostgresSessions,
        writer: Writer,
        opened: Opened,
        notice: ChangeNotice,
        hold: Hold | None,
        placement: Placement | None,
    ) -> None:
        self.where = sessions.where
        self.uuid = opened.uuid
        self.revision = opened.revision
        self.lives_since = opened.lives_since
        self.sessions = sessions
        #: What a copy of rows leaves to be done: numbers go on behind theirs.
        self.renumber = RENUMBER
        self.agents: AgentTable = SqlAgents(sessions)
        self.history: HistoryTable = SqlHistory(sessions)
        number = None if hold is None else hold.number
        self.questions: JournalQuestions = PostgresQuestions(sessions, number)
        self.changes: JournalChanges = PostgresChanges(sessions, number)
        self.replicas: ReplicaTable = Replicas(sessions.where, sessions, hold, placement)
        self.lost: str | None = None
        self.taken_over = False
        self._writer = writer
        self._notice = notice
        self._hold = hold
        self._committing: asyncio.Task[None] | None = None
        self._closing = False
        #: Since when something is to be committed and was not, in seconds since the machine was started.
        self._waiting_since: float | None = None
        self._placing: asyncio.Task[None] | None = None
        if hold is not None:
            hold.stuck = self._is_stuck
        if placement is not None:
            self._placing = asyncio.create_task(kept(placement.run), name="placement", context=own_context())

    @property
    def sure(self) -> bool:
        return self._hold is not None and self._hold.sure and self._writer.lost is None

    def _is_stuck(self, seconds: float) -> bool:
        return self._waiting_since is not None and boot_seconds() - self._waiting_since > seconds

    def begin_commit(self, operations: Sequence[Operation], done: Done) -> None:
        if self._waiting_since is None:
            self._waiting_since = boot_seconds()
        loop = asyncio.get_running_loop()
        self._committing = loop.create_task(self._commit(operations, done), context=own_context())

    async def _commit(self, operations: Sequence[Operation], done: Done) -> None:
        try:
            outcomes = await self._writer.commit(operations)
        except asyncio.CancelledError:
            if not self._closing:
                # By foreign code: what was written is found at the next attempt.
                done(None, StorageError(f"The registry {self.where} cannot be used now: a commit was interrupted"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits is told
            if not isinstance(error, StorageError):
                self._waiting_since = None
            done(None, error)
        else:
            self._waiting_since = None
            done(outcomes, None)

    async def changed(self) -> bool:
        return await self._notice.changed()

    async def wait_for_change(self, seconds: float) -> None:
        if self._hold is None:
            await asyncio.sleep(seconds)
        else:
            await self._hold.wait_for_change(seconds)

    def announce(self, info: LockInfo) -> None:
        if self._hold is None:
            raise RegistryError("The registry was opened without a lock; there is nothing to announce")
        self._hold.announce(info)

    def take_failed_run(self) -> FailedRun | None:
        return None if self._hold is None else self._hold.take_failed_run()

    @property
    def last_words(self) -> int | None:
        return None

    async def look(self) -> str | None:
        if self._hold is not None:
            self.lost = self._hold.lost or self._writer.lost
            self.taken_over = self.lost is not None
        return self.lost

    async def save(self, now: float) -> str:  # noqa: ARG002 - as every database has it
        raise RegistryError("it is where it was, and another supervisor's")

    async def space(self) -> None:
        return None

    async def scarce_room(self) -> str | None:
        return None

    async def forget_copies(self, before: float) -> list[str]:  # noqa: ARG002 - there are none
        return []

    async def kept_copies(self) -> list[str]:
        return []

    async def close(self) -> None:
        self._closing = True
        try:
            await cancel_all([task for task in (self._placing, self._committing) if task is not None], _LAST_SECONDS)
            await self._writer.close()
            await self.sessions.close()
        finally:
            if self._hold is not None:
                await self._hold.release()
