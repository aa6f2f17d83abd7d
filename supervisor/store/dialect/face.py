"""What differs between databases, as the store asks for it: one interface, implemented by each of them.

The store above knows no SQL, no driver and no error of a database. What every database does alike stays there: the
transitions, the codec of texts, batches and their second attempts, what becomes of rows that cannot be read.

A :class:`Dialect` opens a registry by its URL and tells who holds it. A :class:`Database` is an open registry:

- ``begin_commit`` is the hot path: one batch of operations in one transaction, each compared and set. Row numbers are
  given here, ascending in the order of the operations.
- ``questions`` are reads; what they see is committed.
- ``changes`` are writes outside of batches, each a transaction of its own that is tried again while the database is
  busy.
- ``agents`` is the public table of agents.

To check, to copy and to encrypt anew a registry is each dialect's own affair (:mod:`supervisor.store.opening`).

Every method raises :class:`~supervisor.core.errors.RegistryError` with one readable line, :class:`StorageError` where
another attempt may succeed. The conformance suite in ``tests/unit/store/conformance`` holds every implementation to
what the engine relies on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentLife, JournaledMessage, Reply, UsageRecord
from supervisor.core.states import MessageState
from supervisor.store.dialect.history import HistoryTable, Origin
from supervisor.store.dialect.holder import FailedRun, LockInfo
from supervisor.store.dialect.operations import Operation
from supervisor.store.dialect.replicas import ReplicaTable
from supervisor.store.dialect.stored import MessageFilter, Spoken, StoredMessage, StoredReply, StoredSummary

#: What an operation comes to: whether it won, or why the database refuses it.
Outcome = bool | RegistryError
#: Called once, on the loop: with the outcomes of a batch, in its order, and None, or with None and why none of it is
#: committed.
Done: TypeAlias = Callable[[Sequence[Outcome] | None, BaseException | None], object]
#: A row of the table ``agents`` as somebody wrote it: column names and values of any type.
AgentRow = Mapping[str, Any]
#: Column values of a row of the table ``agents``, checked.
AgentValues = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """What may be done to a registry for it to be opened.

    Args:
        reading: nothing is written, and an older schema will do.
        create: an upgrade makes a registry where there is none.
        migration_copy: an upgrade copies what is older before it changes it.
    """

    reading: bool = False
    create: bool = True
    migration_copy: bool = True


class Space(NamedTuple):
    """What a registry takes on its disk, and what the disk has, in bytes."""

    used_bytes: int
    free_bytes: int
    disk_bytes: int


#: Whatever the opening asks for.
ANY_ACCESS: Final = Access()
READING: Final = Access(reading=True)


class StorageError(RegistryError):
    """The database cannot write or read just now, through no fault of the operation: another attempt may succeed."""


class DamagedError(StorageError):
    """What the database wrote is damaged; only a copy helps."""


@dataclass(frozen=True, slots=True)
class AgentChanges:
    """What is to be done to the table ``agents`` at once: first remove, then change, then add."""

    add: Sequence[tuple[str, AgentValues]] = ()
    change: Sequence[tuple[str, AgentValues]] = ()
    remove: Sequence[str] = ()


class AgentTable(Protocol):
    """The public table ``agents``; times are texts such as ``2026-01-31 12:00:00`` (UTC).

    Each change is noted in the history with its origin, in the same transaction.
    """

    async def rows(self, agent_id: str | None = None) -> Sequence[AgentRow]:
        """Every row, in order of ids, or the one of that id where there is one."""
        ...

    async def write(self, changes: AgentChanges, origin: Origin) -> None:
        """Make some changes in one transaction.

        Raises:
            AgentNotFoundError: one that is to be changed or removed does not exist.
            AgentExistsError: one that is to be added does.
        """
        ...

    async def alter(
        self, agent_ids: Sequence[str], change: Callable[[AgentRow], AgentValues], origin: Origin
    ) -> list[AgentRow]:
        """Change some rows by what they are, in one transaction; the rows that they then are.

        Args:
            change: what changes of a row given, perhaps nothing; may run again, and in another thread. What it raises
                leaves all of them as they were.

        Raises:
            AgentNotFoundError: there is none of one of the ids.
        """
        ...

    async def restore(self, agent_id: str, since: float, origin: Origin) -> None:
        """Add the row that was removed last, at or after ``since`` (seconds since the epoch), as it was.

        Raises:
            AgentNotFoundError: there is none.
            AgentExistsError: there is one of that id again.
        """
        ...


class JournalQuestions(Protocol):
    """What is read of the journal and of what was used."""

    async def load(self, ids: Sequence[int]) -> list[StoredMessage]:
        """Some messages, in any order."""
        ...

    async def unsettled(self, agent_id: str, after_id: int, limit: int) -> list[StoredMessage]:
        """An agent's messages that are available or retryable, in order of their ids."""
        ...

    async def replayed(self) -> list[StoredMessage]:
        """Messages of any agent that were replayed and are available, in order of their ids."""
        ...

    async def messages(self, wanted: MessageFilter, limit: int) -> list[StoredMessage]:
        """The newest messages that meet every condition, the newest first."""
        ...

    async def counts(self) -> dict[str, dict[MessageState, int]]:
        """How many messages are available, retryable, running and dead, for each agent that has any."""
        ...

    async def known_keys(self, agent_id: str, keys: Sequence[str]) -> set[str]:
        """Which of some message keys are in an agent's inbox."""
        ...

    async def conversations(self, agent_id: str, since: float, limit: int) -> list[tuple[str, float]]:
        """An agent's conversations seen at or after ``since``, and when, the most recently active first."""
        ...

    async def left_conversations(self, agent_id: str, limit: int) -> list[tuple[str, float]]:
        """The conversations that an agent left, and when, the one left last at the end."""
        ...

    async def conversation(
        self, agent_id: str, conversation_id: str, limit: int, up_to_id: int
    ) -> tuple[list[Spoken], list[Spoken]]:
        """The newest messages, and the newest replies that are acked or on their way, each the newest first.

        Without messages with an id above ``up_to_id``, and the replies to them.
        """
        ...

    async def summary(self, agent_id: str, conversation_id: str) -> StoredSummary | None:
        """What stands for the beginning of a conversation."""
        ...

    async def replies_of(self, inbox_id: int) -> list[StoredReply]:
        """Every reply to one message, in order of their ids."""
        ...

    async def unsent(self, agent_id: str | None) -> list[StoredReply]:
        """An agent's replies that are pending or sent, None: every agent's, in order of their ids."""
        ...

    async def own_replies(
        self, agent_id: str, conversation_id: str, *, since: float, before_id: int, limit: int
    ) -> list[StoredReply]:
        """The newest replies of a conversation that are on their way or were settled since, the oldest first."""
        ...

    async def dead_replies(self, inbox_ids: Sequence[int]) -> list[StoredReply]:
        """The dead replies to some messages that no later replay has replaced, in order of their ids."""
        ...

    async def replayed_replies(self) -> list[StoredReply]:
        """Replies of any agent that were replayed and not moved since, in order of their ids."""
        ...

    async def usage(self, agent_id: str | None, since_day: str | None) -> list[UsageRecord]:
        """What agents used of language models, by day, agent and model."""
        ...

    async def lives(self, agent_id: str | None) -> list[AgentLife]:
        """What is remembered of one agent, or of all, in order of ids; nothing of one of which nothing was noted."""
        ...


class JournalChanges(Protocol):
    """What is written outside of batches; each call is one transaction, but for pruning. Times: seconds since 1970."""

    async def replay(self, rows: Sequence[JournaledMessage]) -> list[bool]:
        """Dead letters become available with no attempt made, their replay counted; whether each did."""
        ...

    async def replay_replies(self, replies: Sequence[Reply]) -> list[bool]:
        """Dead replies become pending with no attempt made; when they were settled stays. Whether each did."""
        ...

    async def discard(self, row: JournaledMessage, now: float) -> bool:
        """A dead letter is cancelled; whether it was the one that ``row`` says."""
        ...

    async def rescue(self, agent_id: str | None) -> int:
        """Running messages, of one agent or of all, become available; how many. Those of all get CRASHED as error."""
        ...

    async def cancel(self, agent_id: str | None, now: float) -> int:
        """Cancel the unsettled messages and give up the replies of one agent, or of all that are not registered.

        What was remembered of their lives is forgotten.
        """
        ...

    async def purge(self, agent_id: str, conversation_id: str | None, now: float) -> int:
        """Erase the messages and replies of an agent or of one conversation, which begins anew at ``now``; how many.

        What sums them up goes with them. As far as the database can, on the disk too.
        """
        ...

    async def erase(self, ids: Sequence[int], now: float) -> int:
        """Erase some messages and the replies to them, as :meth:`purge` does; how many rows.

        What sums up the conversations in which they were goes with them, and these begin anew at ``now``.
        """
        ...

    def prune(self, before: float) -> AsyncGenerator[int]:
        """Delete what was settled before ``before`` slice by slice; yields the messages and replies of each slice.

        What sums up any of them goes first.
        """
        ...

    async def prune_usage(self, before_day: str) -> int:
        """Delete what was used before a day; how many rows."""
        ...


class Database(Protocol):
    """A registry that is open.

    Attributes:
        uuid: made with the database; tells whether two programs look at the same one.
        where: how it is named to people.
        revision: of its schema.
        lives_since: when a supervisor that remembers agents' lives first held it, in seconds since the epoch; the
            moment of opening where none ever has.
        lost: what became of it while it was open, as :meth:`look` has found; None while all is well.
        taken_over: whether that is for good: another supervisor has it, and nothing is written here any more.
        sure: whether nobody else can run the agents of this process by now.
    """

    uuid: str
    where: str
    revision: str
    lives_since: float
    lost: str | None
    taken_over: bool
    agents: AgentTable
    history: HistoryTable
    questions: JournalQuestions
    changes: JournalChanges
    replicas: ReplicaTable

    @property
    def sure(self) -> bool: ...

    def begin_commit(self, operations: Sequence[Operation], done: Done) -> None:
        """Begin to commit a batch; ``done`` is told, later, of each operation whether it won, or why it is refused.

        One that is refused fails alone. With a :class:`StorageError` nothing is committed, and it may be tried again.
        One batch is under way at a time; of one that is when the database is closed nobody need be told.
        """
        ...

    async def changed(self) -> bool:
        """Whether anybody else may have changed an agent since this was last asked; cheap, never a false no.

        Raises:
            StorageError: the database cannot tell; asked again, it still says so.
        """
        ...

    async def wait_for_change(self, seconds: float) -> None:
        """Return after so long, or as soon as :meth:`changed` is worth asking; it may oversee a change, unlike that."""
        ...

    def announce(self, info: LockInfo) -> None:
        """Change what is said about the holder.

        Raises:
            RegistryError: it was opened without a lock.
        """
        ...

    def take_failed_run(self) -> FailedRun | None:
        """The run that held it before and did not end well; told once, and nothing is told without a lock."""
        ...

    @property
    def last_words(self) -> int | None:
        """A descriptor for whoever can say nothing any more: what it gets stands in the next :class:`FailedRun`."""
        ...

    async def look(self) -> str | None:
        """See whether what is open is still what others would open, of a registry that is held; why not, else None."""
        ...

    async def save(self, now: float) -> str:
        """Copy what is open into a file of its own, because it is lost; where. An earlier such copy is replaced.

        Raises:
            RegistryError: it cannot be copied.
        """
        ...

    async def space(self) -> Space | None:
        """How large it is, and how much room is left for it; None where nobody can tell."""
        ...

    async def scarce_room(self) -> str | None:
        """What to say where there is hardly any room left for it; None while there is."""
        ...

    async def forget_copies(self, before: float) -> list[str]:
        """Delete the copies that were made before a migration, of the times before ``before``; their names.

        Raises:
            RegistryError: one cannot be deleted.
        """
        ...

    async def kept_copies(self) -> list[str]:
        """The names of copies that were saved when a registry was lost: they hold what was said, and are kept."""
        ...

    async def close(self) -> None:
        """Close every connection and give the lock up."""
        ...


class Dialect(Protocol):
    """One kind of database."""

    async def open(
        self,
        url: str,
        *,
        clock: Clock,
        synchronous: str = "NORMAL",
        upgrade: bool = False,
        access: Access = ANY_ACCESS,
        lock: LockInfo | None = None,
    ) -> Database:
        """Open the registry at ``url``; the arguments are those of ``Registry.open``.

        Raises:
            RegistryLockedError: another supervisor holds the lock.
            RegistryError: it cannot be opened; one line says why and what to do.
        """
        ...

    def holders(self, url: str) -> Sequence[LockInfo]:
        """Who runs the registry at ``url``; first whoever is to be asked first."""
        ...
