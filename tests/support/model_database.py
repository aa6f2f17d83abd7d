"""The database of several replicas, as their protocol meets it: rows that lock, and statements whose answers get lost.

A replica is one incarnation of a supervisor, with a number that is never given again. ``leases`` says who runs each
agent. Every statement of the journal holds the row of its replica in ``fences`` until it commits; a burial deletes that
row, so it waits for what is under way, and after it nothing of the dead one is written. Each step here is one that a
real server makes at once; between any two of them anything else may happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from supervisor.core.states import MessageState
from tests.support.model_flaws import BrokenPromiseError, Flaw

#: Seconds after which a replica whose row does not move is buried; it beats once a second.
LEASE_SECONDS = 6.0


@dataclass(frozen=True)
class Message:
    """What a person said. ``key`` is what the platform calls it; empty where it has no name for it."""

    number: int
    agent: str
    conversation: str
    key: str


@dataclass
class Row:
    """A message in the journal.

    Attributes:
        handed_in: by a replica that was not its agent's owner, so that it may come after what was said later.
        stray: the owner has still to notice it.
    """

    id: int
    key: str
    message: Message
    state: MessageState
    attempts: int
    writer: int
    handed_in: bool = False
    stray: bool = False


@dataclass
class Reply:
    """The answer to a row; its name at the platform comes from the message alone."""

    row: int
    key: str
    agent: str
    acked: bool = False


@dataclass
class Lease:
    """Who runs an agent, and who is to run it next.

    Attributes:
        ready: the next one listens.
        next_at: since when it is to be the next.
        move: a number that is never given again, each time that somebody is to be the next.
        refused: it cannot listen, for the platform takes one socket of an agent only.
        rests: that was so once: it goes nowhere any more, unless its owner ends.
        heard_all: the last owner has written everything that was said before this one listened.
    """

    owner: int | None = None
    next: int | None = None
    ready: bool = False
    epoch: int = 0
    next_at: float = 0.0
    move: int = 0
    refused: bool = False
    rests: bool = False
    heard_all: bool = False


@dataclass
class ReplicaRow:
    """A living replica: how often it beat, when by all the world's time and when by its own clock."""

    beat: int
    beaten_at: float
    said_at: float
    draining: bool = False


@dataclass(frozen=True)
class Add:
    message: Message
    key: str
    claimed: bool


@dataclass(frozen=True)
class Claim:
    row: int
    attempts: int


@dataclass(frozen=True)
class Settle:
    row: int
    attempts: int


@dataclass(frozen=True)
class Ack:
    row: int


@dataclass(frozen=True)
class Release:
    """The end of what is written for an agent.

    Attributes:
        move: the one that is waited for: who is to be the next listens; None: nobody does, as far as is known.
        heard_all: all that was said before that one listened is written.
    """

    agent: str
    move: int | None
    heard_all: bool


Operation: TypeAlias = Add | Claim | Settle | Ack | Release
#: What became of each operation: a row's number, or whether it won.
Answer: TypeAlias = Sequence[int | bool]


@dataclass(eq=False)
class Statement:
    """A batch of the journal under way at the server."""

    replica: int
    number: int
    operations: Sequence[Operation]


class FencedError(Exception):
    """The replica is buried."""


@dataclass
class Database:
    """What is committed, and what is under way.

    Attributes:
        now: all the world's time, in seconds.
    """

    agents: Sequence[str]
    flaws: frozenset[Flaw] = frozenset()
    now: float = 0.0
    replicas: dict[int, ReplicaRow] = field(default_factory=dict)
    fences: set[int] = field(default_factory=set)
    graves: set[int] = field(default_factory=set)
    rows: dict[int, Row] = field(default_factory=dict)
    replies: dict[int, Reply] = field(default_factory=dict)
    commits: dict[tuple[int, int], Answer] = field(default_factory=dict)
    under_way: list[Statement] = field(default_factory=list)
    burials: dict[int, int] = field(default_factory=dict)  # who is being buried, by whom
    planner: int | None = None
    _last_replica: int = 0

    def __post_init__(self) -> None:
        self.leases = {agent: Lease() for agent in self.agents}

    # Replicas.

    def register(self) -> int:
        self._last_replica += 1
        self.replicas[self._last_replica] = ReplicaRow(0, self.now, self.now)
        self.fences.add(self._last_replica)
        return self._last_replica

    def beat(self, replica: int, clock: float) -> int | None:
        """Move the row; the count, or None where it is gone. Not asked while a burial holds the row."""
        row = self.replicas.get(replica)
        if row is None:
            return None
        row.beat, row.beaten_at, row.said_at = row.beat + 1, self.now, clock
        return row.beat

    def leave(self, replica: int) -> None:
        """The end of a replica that owns nothing any more."""
        self.replicas.pop(replica, None)
        self.fences.discard(replica)

    def begin_burial(self, dead: int, by: int, seen: int) -> None:
        """Lock the row of a replica that has not moved since ``seen``."""
        row = self.replicas.get(dead)
        if row is not None and row.beat == seen and dead not in self.burials and by not in self.burials.values():
            self.burials[dead] = by

    def end_burial(self, by: int) -> None:
        """Delete the fence, unless something holds it, and free what the dead one had."""
        for dead in [dead for dead, digger in self.burials.items() if digger == by]:
            held = any(one.replica == dead for one in self.under_way)
            if held and not self.flaws & {Flaw.HASTY_BURIAL, Flaw.NO_FENCE}:
                return
            del self.burials[dead]
            if self.now - self.replicas[dead].beaten_at < LEASE_SECONDS:
                raise BrokenPromiseError(f"replica {dead} was buried within a lease of its last beat")
            self.graves.add(dead)
            self.leave(dead)
            for lease in self.leases.values():
                if lease.owner == dead:
                    lease.owner, lease.next, lease.ready = None, None, False

    def lose(self, replica: int) -> None:
        """The connections of a replica are gone: what it had locked by hand is given up."""
        self.burials = {dead: by for dead, by in self.burials.items() if by != replica}
        if self.planner == replica:
            self.planner = None

    def restart(self) -> None:
        """The server stops and starts: what was not committed never was."""
        self.under_way.clear()
        self.burials.clear()
        self.planner = None

    # Leases.

    def leases_of(self, replica: int) -> dict[str, Lease]:
        """The agents that a replica owns, or is to own next.

        Raises:
            FencedError: it is buried, and owns nothing for that reason.
        """
        if replica not in self.fences and Flaw.BLIND_VIEW not in self.flaws:
            raise FencedError
        return {a: replace(one) for a, one in self.leases.items() if replica in (one.owner, one.next)}

    def give(self, agent: str, to: int) -> None:
        lease = self.leases[agent]
        taking = lease.owner is None or Flaw.PLANNER_TAKES in self.flaws
        if taking and to in self.replicas and lease.owner != to:
            self.leases[agent] = Lease(to, epoch=lease.epoch + 1, move=lease.move, rests=lease.rests)

    def point(self, agent: str, owner: int, to: int) -> None:
        """Name the next owner of an agent whose owner is still this one."""
        lease = self.leases[agent]
        if lease.owner == owner and lease.next is None and to in self.replicas:
            lease.next, lease.ready, lease.next_at, lease.refused = to, False, self.now, False
            lease.move += 1

    def unpoint(self, agent: str, to: int) -> None:
        lease = self.leases[agent]
        if lease.next == to:
            lease.next, lease.ready = None, False

    def mark_ready(self, agent: str, replica: int) -> None:
        if self.leases[agent].next == replica:
            self.leases[agent].ready = True

    def refuse(self, agent: str, replica: int) -> None:
        """The platform has no second socket for whoever is to be the next."""
        if self.leases[agent].next == replica:
            self.leases[agent].refused = self.leases[agent].rests = True

    # The journal.

    def begin(self, replica: int, number: int, operations: Sequence[Operation]) -> Statement | None:
        """Let a batch begin; None while the same one is under way, sent by a connection that broke.

        Raises:
            FencedError: nothing of this replica is written any more.
        """
        if replica not in self.fences and Flaw.NO_FENCE not in self.flaws:
            raise FencedError
        if any((one.replica, one.number) == (replica, number) for one in self.under_way):
            return None
        self.under_way.append(Statement(replica, number, operations))
        return self.under_way[-1]

    def commit(self, statement: Statement) -> None:
        """The server is done with a batch; a second one of the same number fails on the first."""
        self.under_way.remove(statement)
        if (statement.replica, statement.number) not in self.commits:
            self.commits[statement.replica, statement.number] = [
                self._apply(statement.replica, one) for one in statement.operations
            ]

    def abort(self, statement: Statement) -> None:
        self.under_way.remove(statement)

    def _apply(self, writer: int, operation: Operation) -> int | bool:
        match operation:
            case Add(message, key, claimed):
                self._check_owner(writer, message.agent)
                return self._add(message, key, claimed=claimed, writer=writer)
            case Claim(number, attempts) if self._is(number, MessageState.AVAILABLE, attempts):
                self._check_owner(writer, self.rows[number].message.agent)
                self._run(self.rows[number], writer)
                return True
            case Settle(number, attempts) if self._is(number, MessageState.RUNNING, attempts):
                row = self.rows[number]
                self._check_owner(writer, row.message.agent)
                row.state = MessageState.DONE
                self.replies[number] = Reply(number, f"reply to {row.key}", row.message.agent)
                return True
            case Ack(number):
                self.replies[number].acked = True
                return True
            case Release():
                return self._release(writer, operation)
        return False

    def _release(self, writer: int, given: Release) -> bool:
        lease = self.leases[given.agent]
        if lease.owner != writer:
            return False
        for row in self.rows_of(given.agent, MessageState.RUNNING):
            row.state, row.attempts = MessageState.AVAILABLE, row.attempts - 1
        # Who is to be the next meanwhile may not listen yet.
        heard_all = given.heard_all and (given.move == lease.move or Flaw.ANOTHER_NEXT in self.flaws)
        self.leases[given.agent] = Lease(
            lease.next, epoch=lease.epoch + 1, move=lease.move, rests=lease.rests, heard_all=heard_all
        )
        return True

    def _add(self, message: Message, key: str, *, claimed: bool, writer: int, handed_in: bool = False) -> int:
        """The row's number; 0 where the journal has the message."""
        if any(row.key == key and row.message.agent == message.agent for row in self.rows.values()):
            return 0
        row = Row(len(self.rows) + 1, key, message, MessageState.AVAILABLE, 0, writer, handed_in, handed_in)
        self.rows[row.id] = row
        if claimed:
            self._run(row, writer)
        return row.id

    def _run(self, row: Row, writer: int) -> None:
        for other in self.rows.values():
            if (other.message.agent, other.message.conversation) != (row.message.agent, row.message.conversation):
                continue
            if other.state is MessageState.RUNNING:
                raise BrokenPromiseError(f"{row} runs beside {other}")
            if other.id < row.id and other.state is MessageState.AVAILABLE and not other.handed_in:
                raise BrokenPromiseError(f"{row} runs before {other}")
        row.state, row.attempts, row.writer, row.stray = MessageState.RUNNING, row.attempts + 1, writer, False

    def _is(self, number: int, state: MessageState, attempts: int) -> bool:
        row = self.rows[number]
        return row.state is state and row.attempts == attempts

    def _check_owner(self, writer: int, agent: str) -> None:
        if writer in self.graves:
            raise BrokenPromiseError(f"replica {writer} wrote after its burial")
        if self.leases[agent].owner != writer:
            raise BrokenPromiseError(f"replica {writer} wrote for {agent}, whose lease is {self.leases[agent]}")

    def take_over(self, replica: int, agent: str) -> tuple[list[Row], list[Reply]] | None:
        """What waits for an agent, in order, once what ran is given back; None where it is not this replica's.

        Raises:
            FencedError: nothing of this replica is written any more.
        """
        if replica not in self.fences and Flaw.NO_FENCE not in self.flaws:
            raise FencedError
        if self.leases[agent].owner != replica and Flaw.STALE_VIEW not in self.flaws:
            return None
        running = self.rows_of(agent, MessageState.RUNNING)
        if running and Flaw.NO_RESCUE not in self.flaws:
            self._check_owner(replica, agent)
            for row in running:
                row.state = MessageState.AVAILABLE
        waiting = self.rows_of(agent, MessageState.AVAILABLE)
        for row in waiting:
            row.stray = False
        unsent = [one for one in self.replies.values() if one.agent == agent and not one.acked]
        return [replace(row) for row in waiting], [replace(one) for one in unsent]

    def take_strays(self, replica: int, agent: str) -> list[Row]:
        """What somebody else has handed in for an agent of this replica's."""
        if self.leases[agent].owner != replica or replica not in self.fences:
            return []
        strays = [row for row in self.rows_of(agent, MessageState.AVAILABLE) if row.stray]
        for row in strays:
            row.stray = False
        return [replace(row) for row in strays]

    def hand_in(self, replica: int, heard: Iterable[tuple[Message, str]]) -> None:
        """Keep what somebody heard who is not the owner: safe without a fence, since it only adds, and once."""
        for message, key in heard:
            self._add(message, key, claimed=False, writer=replica, handed_in=True)

    def rows_of(self, agent: str, state: MessageState) -> list[Row]:
        return [row for row in self.rows.values() if row.message.agent == agent and row.state is state]
