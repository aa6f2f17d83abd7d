"""The registry: agents as people want them, and the journal of what they were sent and answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import AgentNotFoundError, RegistryError
from supervisor.core.records import AgentRecord, UsageRecord
from supervisor.core.turns import Turns
from supervisor.settings.secrets import SecretBox
from supervisor.store.committer import JournalLimits
from supervisor.store.dialect import Database, LockInfo, StorageError, TextCodec
from supervisor.store.dialect.face import ANY_ACCESS, Access, AgentChanges, AgentRow, AgentValues, Space
from supervisor.store.dialect.holder import FailedRun
from supervisor.store.dialect.rows import checked_values, record_from_row, record_values
from supervisor.store.history import UNDO_SECONDS, AgentHistory
from supervisor.store.journal import Journal
from supervisor.store.opening import dialect_of


class Registry:
    """A registry over an open database. Made by :meth:`open`, as a rule; :meth:`close` it.

    Attributes:
        database: what it stands on.
        uuid: made with the database; tells whether two programs look at the same one.
        where: how the database is named to people.
        journal: inbox and outbox.
        history: who changed what.
        replicas: the supervisors that run it, and which of them has which agent.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        *,
        texts: TextCodec | None = None,
        limits: JournalLimits | None = None,
    ) -> None:
        self.database = database
        self.uuid = database.uuid
        self.where = database.where
        self._clock = clock or SystemClock()
        # Thousands of rows are read in the event loop, each with up to a megabyte of settings.
        self._turns = Turns()
        self.journal = Journal(database, self._clock, texts or TextCodec(), limits or JournalLimits())
        self.history = AgentHistory(database.history, self._clock)
        self.replicas = database.replicas
        # Whether agents were changed through this object since changed() was last asked.
        self._touched = False
        self._closed = False

    @classmethod
    async def open(  # noqa: PLR0913 - the one way in, whose options have names
        cls,
        url: str,
        *,
        synchronous: str = "NORMAL",
        upgrade: bool = False,
        access: Access = ANY_ACCESS,
        lock: LockInfo | None = None,
        clock: Clock | None = None,
        cipher: SecretBox | None = None,
        encrypt: bool = False,
    ) -> Registry:
        """Open the registry at ``url``.

        Args:
            url: ``sqlite+aiosqlite:///path`` or ``postgresql://…``.
            synchronous: NORMAL (power loss may take the last commits; a server keeps to its own setting) or FULL.
            upgrade: create or bring up to date the schema, in one transaction.
            access: what may be done to it for that.
            lock: take the supervisor's lock in this name, and look for damage.
            cipher: opens journaled text that is encrypted; None when there are no keys.
            encrypt: encrypt the text that is journaled from now on with it.

        Raises:
            RegistryLockedError: another supervisor holds the lock.
            RegistryError: it cannot be opened; one line says why and what to do.
        """
        clock = clock or SystemClock()
        texts = TextCodec(cipher, encrypt=encrypt)
        database = await dialect_of(url).open(
            url,
            clock=clock,
            synchronous=synchronous,
            upgrade=upgrade,
            access=access,
            lock=lock,
        )
        return cls(database, clock, texts=texts)

    async def close(self, timeout: float | None = None) -> None:
        """Commit what the journal holds, close every connection, give the lock up. Idempotent.

        Args:
            timeout: seconds that the journal gets for it.
        """
        if self._closed:
            return
        self._closed = True
        try:
            await self.journal.close(timeout)
        finally:
            await self.database.close()

    def announce(self, info: LockInfo) -> None:
        """Change what the lock says about its holder, once the admin API's port is known.

        Raises:
            RegistryError: this registry was opened without a lock.
        """
        self.database.announce(info)

    def take_failed_run(self) -> FailedRun | None:
        """The run that held the registry before and did not end as it was told to; told once."""
        return self.database.take_failed_run()

    async def agents(self) -> list[AgentRecord]:
        """Every agent, in order of ids; a row that cannot be used has its ``problem`` set."""
        return [record_from_row(row) async for row in self._turns.each(await self.database.agents.rows())]

    async def agent(self, agent_id: str) -> AgentRecord:
        """One agent.

        Raises:
            AgentNotFoundError: there is none of that id.
        """
        found = await self.database.agents.rows(agent_id)
        if not found:
            raise AgentNotFoundError(agent_id)
        return record_from_row(found[0])

    async def add_agent(self, record: AgentRecord) -> None:
        """Add an agent; its times are set here.

        Raises:
            AgentExistsError: there is one of that id.
            RegistryError: a field must not be stored, such as a secret in the clear.
        """
        await self.apply(add=[record])

    async def update_agent(self, agent_id: str, **changes: Any) -> AgentRecord:
        """Change some fields of an agent, leaving the others as they are, even where they are nonsense.

        Args:
            changes: name, handler, secret, settings, labels, paused.

        Raises:
            AgentNotFoundError: there is none of that id.
            RegistryError: a field is unknown, or its value must not be stored.
        """
        [record] = await self.alter_agents([agent_id], lambda _: changes)
        return record

    async def alter_agents(
        self, agent_ids: Sequence[str], change: Callable[[AgentRecord], Mapping[str, Any]], *, action: str | None = None
    ) -> list[AgentRecord]:
        """Change agents by what they are, all of them or none: nobody else's change comes in between.

        Args:
            action: what the history calls it; else ``changed``.
            change: what changes of a record given, as :meth:`update_agent` takes it; may run in another thread, and
                again when the database was busy. What it raises leaves all rows as they were.

        Raises:
            AgentNotFoundError, RegistryError: as :meth:`update_agent`.
        """

        def values(row: AgentRow) -> AgentValues:
            record = record_from_row(row)
            return checked_values(record.id, change(record))

        self._require_here()
        rows = await self.database.agents.alter(agent_ids, values, self.history.origin(action))
        self._touched = True
        return [record_from_row(row) for row in rows]

    async def remove_agent(self, agent_id: str) -> None:
        """Remove an agent's row; what the journal holds of it stays.

        Raises:
            AgentNotFoundError: there is none of that id.
        """
        await self.apply(remove=[agent_id])

    async def restore_agent(self, agent_id: str) -> AgentRecord:
        """Undo an agent's removal, within a day of it; messages that were cancelled with it stay so.

        Raises:
            AgentNotFoundError: none of that id was removed in that time.
            AgentExistsError: there is one of that id again.
        """
        self._require_here()
        since = self._clock.now() - UNDO_SECONDS
        await self.database.agents.restore(agent_id, since, self.history.origin("restored"))
        self._touched = True
        return await self.agent(agent_id)

    async def apply(
        self,
        *,
        add: Sequence[AgentRecord] = (),
        change: Sequence[AgentRecord] = (),
        remove: Sequence[str] = (),
    ) -> None:
        """Add, change (every field) and remove agents in one transaction: all of it or nothing.

        Raises:
            AgentExistsError, AgentNotFoundError: the registry is not as the caller thought.
            RegistryError: a field must not be stored.
        """
        changes = AgentChanges(
            add=[(record.id, record_values(record)) for record in add],
            change=[(record.id, record_values(record)) for record in change],
            remove=list(remove),
        )
        self._require_here()
        await self.database.agents.write(changes, self.history.origin())
        self._touched = True

    async def usage(self, agent_id: str | None = None, *, since_day: str | None = None) -> list[UsageRecord]:
        """What agents used of language models, by day, agent and model, removed agents included.

        Args:
            agent_id: of this one only.
            since_day: from this UTC day on, ``2026-01-31``.
        """
        return await self.database.questions.usage(agent_id, since_day)

    @property
    def lost(self) -> str | None:
        """What became of the database while it was open, as :meth:`look` has found; None while all is well."""
        return self.database.lost

    @property
    def taken_over(self) -> bool:
        """Whether another supervisor has it for good, as :meth:`look` has found; nothing is written here any more."""
        return self.database.taken_over

    async def look(self) -> str | None:
        """See whether the open database is still the one that others find, where this process holds it; else why not.

        What is lost takes no change of an agent any more. The journal goes on in what is open, where that is whole.
        """
        return await self.database.look()

    async def save(self) -> str:
        """Copy what is open, because it is lost; where. Closing does so once more, when all is committed.

        Raises:
            RegistryError: it cannot be copied.
        """
        return await self.database.save(self._clock.now())

    async def space(self) -> Space | None:
        """How large it is, and how much room is left for it; None where nobody can tell."""
        return await self.database.space()

    async def scarce_room(self) -> str | None:
        """What to say where the disk is nearly full; None while there is room."""
        return await self.database.scarce_room()

    async def forget_copies(self, before: float) -> list[str]:
        """Delete the copies that were made before migrations, of the times before ``before``; their names.

        Raises:
            RegistryError: one cannot be deleted.
        """
        return await self.database.forget_copies(before)

    async def kept_copies(self) -> list[str]:
        """The names of copies that were saved when the registry was lost: they hold what was said, and are kept."""
        return await self.database.kept_copies()

    async def changed(self) -> bool:
        """Whether an agent may have changed since this was last asked: cheap, so it may be asked often.

        True when anybody else, raw SQL included, may have changed one, and once after each change made through this
        object. The journal's own commits do not count. False while the database cannot tell; it is asked again.
        """
        touched, self._touched = self._touched, False
        try:
            return await self.database.changed() or touched
        except StorageError:
            return touched

    async def wait_for_change(self, seconds: float) -> None:
        """Wait before :meth:`changed` is asked again: so long, or until the database sees that somebody writes."""
        await self.database.wait_for_change(seconds)

    def _require_here(self) -> None:
        if self.lost:
            raise RegistryError(f"The registry is lost: {self.lost}; nothing was changed, see the supervisor's log")
