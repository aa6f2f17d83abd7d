"""A replica: what one incarnation of a supervisor knows, and its steps, between which anything may happen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from supervisor.store.postgres.beats import Beat, BeatWatch
from tests.support.model_agent import Agent, Batch, Entry, Life
from tests.support.model_database import (
    LEASE_SECONDS,
    Ack,
    Add,
    Answer,
    Claim,
    Database,
    FencedError,
    Lease,
    Message,
    Operation,
    Release,
    Reply,
    Settle,
)
from tests.support.model_decisions import CallOff, Give, Move, Order, plan
from tests.support.model_flaws import BrokenPromiseError, Flaw
from tests.support.model_platform import Platform

#: So many operations are committed together at most.
BATCH = 4
#: So long who drains waits for the one that is to have its agent.
PATIENCE_SECONDS = 8.0


class Replica:
    """One incarnation. Every public method of :data:`STEPS` is a step."""

    def __init__(self, database: Database, platform: Platform, flaws: frozenset[Flaw], skew: float) -> None:
        self.database = database
        self.platform = platform
        self.flaws = flaws
        self.skew = skew
        self.number = database.register()
        self.life = Life.RUNS
        self.frozen = self.no_database = self.no_platform = self.draining = self.harmed = False
        self.deadline = self._deadline(database.now)
        self.agents: dict[str, Agent] = {}
        self.queue: list[Operation] = []
        self.batch: Batch | None = None
        self.wire: list[Reply] = []
        self._batches = 0
        self._watch = BeatWatch(LEASE_SECONDS, now=lambda: database.now)
        self._beat: tuple[float, int | None] | None = None
        self._view: dict[str, Lease] | None = None
        self._orders: list[Order] | None = None

    @property
    def alive(self) -> bool:
        return self.life is not Life.ENDED

    def step(self, name: str) -> None:
        """Take one step, where it can take any."""
        if not self.alive or self.frozen:
            return
        if self.life is Life.FENCED:
            self._hand_in()
        elif name in _LOCAL or not self.no_database:
            _STEPS[name](self)

    # Its lease.

    def beat(self) -> None:
        if self.number not in self.database.burials:
            now = self.database.now
            self._beat = now, self.database.beat(self.number, now + self.skew)

    def beaten(self) -> None:
        """The answer to the last beat."""
        if self._beat is None:
            return
        (sent_at, count), self._beat = self._beat, None
        if count is None:
            self.life = Life.FENCED
        else:
            self.deadline = self._deadline(self.database.now if Flaw.LATE_DEADLINE in self.flaws else sent_at)

    def _deadline(self, since: float) -> float:
        return since + LEASE_SECONDS * 2 / 3

    def watch(self) -> None:
        rows, now = self.database.replicas, self.database.now
        still = self._watch.look(Beat(number, row.beat, LEASE_SECONDS) for number, row in rows.items())
        dead = {one.number: one.beats for one in still}
        if Flaw.CLOCK_DECIDES in self.flaws:
            late = now + self.skew - LEASE_SECONDS
            dead = {number: row.beat for number, row in rows.items() if row.said_at < late}
        for number, beat in dead.items():
            if number != self.number:
                self.database.begin_burial(number, self.number, beat)

    def bury(self) -> None:
        self.database.end_burial(self.number)

    def look(self) -> None:
        """Become the one who plans, and look at all there is."""
        if self.database.planner is None:
            self.database.planner = self.number
            self._orders = plan(self.database.replicas, self.database.leases, self.database.now)

    def order(self) -> None:
        """What follows from the look, each as far as it still holds."""
        if self.database.planner != self.number or self._orders is None:
            return
        for one in self._orders:
            match one:
                case Give(agent, to):
                    self.database.give(agent, to)
                case Move(agent, _, to) if Flaw.PLANNER_TAKES in self.flaws:
                    self.database.give(agent, to)
                case Move(agent, owner, to):
                    self.database.point(agent, owner, to)
                case CallOff(agent, to):
                    self.database.unpoint(agent, to)
        self.database.planner = self._orders = None

    # Its agents.

    def view(self) -> None:
        try:
            self._view = self.database.leases_of(self.number)
        except FencedError:
            self.life = Life.FENCED
            return
        for agent in self._owned():
            for row in self.database.take_strays(self.number, agent.name):
                self._wait(agent, Entry(row.message, row.key, row.id, row.attempts))

    def follow(self) -> None:
        """Run what the leases say, as they were when they were looked at."""
        if self._view is None or self.no_database:
            return
        view, self._view = self._view, None
        for name, lease in view.items():
            agent = self.agents.setdefault(name, Agent(name))
            self._listen(agent)
            if lease.owner == self.number:
                self._own(agent, lease)
            elif self.platform.listens(name, self.number):
                agent.announced = True
                self.database.mark_ready(name, self.number)
            if self.life is not Life.RUNS:
                return
        for name in [name for name, one in self.agents.items() if name not in view and not one.owned]:
            self._close(self.agents[name])
        done = not view and not self.agents and not self.queue and self.batch is None
        # Whoever buries it has its row.
        if self.draining and done and self.number not in self.database.burials:
            self.database.leave(self.number)
            self._end()

    def _listen(self, agent: Agent) -> None:
        if self.no_platform or agent.released or self.platform.listens(agent.name, self.number):
            return
        if not self.platform.open(agent.name, self.number):
            self.database.refuse(agent.name, self.number)
        elif agent.owned:
            self._look_back(agent)
        else:
            agent.missed = agent.announced and Flaw.BLIND_NEWCOMER not in self.flaws

    def _look_back(self, agent: Agent) -> None:
        """Ask the platform for what was said while nobody may have listened."""
        for message in self.platform.tell(agent.name, self.number):
            self._hear(agent, message)

    def _own(self, agent: Agent, lease: Lease) -> None:
        past = lease.epoch <= agent.lost_epoch and Flaw.STALE_VIEW not in self.flaws
        if not agent.owned and not past:
            self._take_over(agent, lease)
        if not agent.owned or agent.leaving is not None or lease.next in (None, self.number) or past:
            return
        # Who ends does not wait for ever for one that cannot come, nor where the platform takes one socket only.
        late = self.database.now - lease.next_at > PATIENCE_SECONDS
        awaited = lease.ready or Flaw.BREAK_BEFORE_MAKE in self.flaws
        if awaited or (self.draining and (late or lease.refused)):
            agent.leaving, agent.move = lease.next, lease.move if awaited else None
            agent.drained = Flaw.DEAF_RELEASE in self.flaws

    def _take_over(self, agent: Agent, lease: Lease) -> None:
        try:
            found = self.database.take_over(self.number, agent.name)
        except FencedError:
            self.life = Life.FENCED
            return
        if found is None:
            return
        waiting, agent.unsent = found
        agent.owned, agent.epoch, agent.leaving, agent.drained, agent.released = True, lease.epoch, None, False, False
        agent.lanes.clear()
        for row in waiting:
            agent.lanes[row.message.conversation].append(Entry(row.message, row.key, row.id, row.attempts))
        for lane in agent.lanes.values():
            self._next(lane)
        missed, agent.missed, agent.announced = agent.missed, False, False
        if not self.platform.listens(agent.name, self.number):
            # The next socket looks back; what the one before it heard is to come as what somebody else has.
            self._entrust(agent, [])
            return
        heard, agent.buffer = agent.buffer, []
        # What has no name was heard by both since this one listens, and the old owner has written it down.
        agent.known = {row.message for row in self.database.rows.values() if not row.message.key}
        if missed or not lease.heard_all:
            self._look_back(agent)
        for message in heard:
            self._hear(agent, message)
        if Flaw.EARLY_NEWS in self.flaws:
            agent.known.clear()

    def _close(self, agent: Agent) -> None:
        """End what another one runs now; what this one heard of it last is handed in, should the other be gone."""
        self._entrust(agent, self.platform.close(agent.name, self.number))
        del self.agents[agent.name]

    def _entrust(self, agent: Agent, unread: Iterable[Message]) -> None:
        """Hand in what was heard beside its owner; what has no name the owner has, or nobody."""
        late, agent.buffer = [*agent.buffer, *unread], []
        if Flaw.MUTE_NEWCOMER not in self.flaws:
            self.database.hand_in(self.number, [(one, one.key) for one in late if one.key])
        for message in late:
            if not message.key:
                self.platform.entrust(message, self.number)

    # Messages.

    def read(self) -> None:
        """A frame of each socket. An empty one is read up to a moment after the agent came, or was told to leave."""
        for agent in list(self.agents.values()):
            message = self.platform.read(agent.name, self.number)
            if message is not None:
                self._hear(agent, message)
            else:
                agent.drained = agent.leaving is not None
                agent.heard_all = agent.move is not None and self.platform.listens(agent.name, self.number)
                if agent.owned:
                    agent.known.clear()

    def _hear(self, agent: Agent, message: Message) -> None:
        if not agent.owned:
            agent.buffer.append(message)
            return
        if message in agent.known:
            return
        entry = Entry(message, message.key or f"{self.number}/{message.number}")
        lane = agent.lanes[message.conversation]
        entry.running = not lane
        lane.append(entry)
        self.queue.append(Add(message, entry.key, claimed=entry.running))

    def _wait(self, agent: Agent, entry: Entry) -> None:
        lane = agent.lanes[entry.message.conversation]
        lane.append(entry)
        self._next(lane)

    def _next(self, lane: deque[Entry]) -> None:
        if lane and lane[0].row and not lane[0].running and not lane[0].asked:
            lane[0].asked = True
            self.queue.append(Claim(lane[0].row, lane[0].attempts))

    def work(self) -> None:
        """Each handler that runs comes to its end."""
        for agent in self._owned():
            for lane in agent.lanes.values():
                if lane and lane[0].running and lane[0].row and not lane[0].asked:
                    lane[0].asked = True
                    self.queue.append(Settle(lane[0].row, lane[0].attempts))
                    if Flaw.SEND_FIRST in self.flaws:
                        self.wire.append(Reply(lane[0].row, f"reply to {lane[0].key}", agent.name))

    def release(self) -> None:
        """Give away what is drained: the last thing that is written for it, once it hears nothing more."""
        for agent in self._owned():
            if agent.leaving is not None and agent.drained:
                agent.released = True
                for message in self.platform.close(agent.name, self.number):
                    self.platform.entrust(message, self.number, relied_on=agent.move is not None)
                last = Release(agent.name, agent.move, agent.heard_all or Flaw.TRUSTED_OWNER in self.flaws)
                self.queue.insert(0 if Flaw.EARLY_RELEASE in self.flaws else len(self.queue), last)

    def _owned(self) -> Iterable[Agent]:
        return [agent for agent in self.agents.values() if agent.owned and not agent.released]

    # What is committed.

    def begin(self) -> None:
        if self.batch is None and self.queue:
            self._batches += 1
            self.batch = Batch(self._batches, self.queue[:BATCH])
            del self.queue[:BATCH]
        if self.batch is None or self.batch.statement is not None:
            return
        if (self.number, self.batch.number) in self.database.commits:
            # The connection before this one lost the answer.
            self._told()
            return
        try:
            self.batch.statement = self.database.begin(self.number, self.batch.number, self.batch.operations)
        except FencedError:
            self.life = Life.FENCED

    def told(self) -> None:
        """The answer to the batch, or that the server knows nothing of it."""
        if self.batch is None or self.batch.statement in self.database.under_way:
            return
        if (self.number, self.batch.number) in self.database.commits:
            self._told()
        else:
            self.batch.statement = None

    def disconnect(self) -> None:
        """Connections to the database break; what becomes of a batch that was under way, nobody here learns."""
        self.database.lose(self.number)
        self._orders = self._beat = self._view = None
        if self.batch is not None:
            self.batch.statement = None
            if Flaw.NEW_NUMBER in self.flaws:
                self._batches += 1
                self.batch.number = self._batches

    def _told(self) -> None:
        assert self.batch is not None
        batch, self.batch = self.batch, None
        answer: Answer = self.database.commits[self.number, batch.number]
        for operation, result in zip(batch.operations, answer, strict=True):
            self._learn(operation, result)

    def _learn(self, operation: Operation, result: int | bool) -> None:
        match operation:
            case Release(name):
                agent = self.agents[name]
                agent.lost_epoch = agent.epoch if result else agent.lost_epoch
                # Where it was called off meanwhile, the next look takes it over once more.
                agent.owned, agent.leaving, agent.drained, agent.released = False, None, False, False
            case Ack(row):
                for agent in self.agents.values():
                    agent.unsent = [one for one in agent.unsent if one.row != row]
            case Add(message, key):
                self._moved(self.agents[message.agent], lambda one: one.key == key and not one.row, operation, result)
            case Claim(row) | Settle(row):
                agent = self.agents[self.database.rows[row].message.agent]
                self._moved(agent, lambda one: one.row == row, operation, result)

    def _moved(self, agent: Agent, is_it: Callable[[Entry], bool], operation: Operation, result: int | bool) -> None:
        for lane in agent.lanes.values():
            for entry in [entry for entry in lane if is_it(entry)]:
                entry.asked = False
                match operation:
                    case Add() if result:
                        entry.row, entry.attempts = int(result), int(entry.running)
                    case Claim() if result:
                        entry.running, entry.attempts = True, entry.attempts + 1
                    case _:
                        lane.remove(entry)
                        if isinstance(operation, Settle) and result:
                            agent.unsent.append(Reply(entry.row, f"reply to {entry.key}", agent.name))
            if not agent.released:
                self._next(lane)

    # Replies.

    def send(self) -> None:
        """Decide to send what waits, while the lease is beyond doubt."""
        if self.database.now >= self.deadline or self.no_platform:
            return
        for agent in self._owned():
            fresh = [one for one in agent.unsent if one not in self.wire]
            if fresh and self.number in self.database.graves:
                raise BrokenPromiseError(f"replica {self.number} decided to send after its burial")
            self.wire += fresh

    def deliver(self) -> None:
        """What was decided arrives; the acknowledgement is written down by whoever still may."""
        if self.no_platform:
            return
        for reply in self.wire:
            if reply.row not in self.database.replies:
                raise BrokenPromiseError(f"{reply} was sent before it was committed")
            self.platform.answers[reply.key] += 1
            agent = self.agents.get(reply.agent)
            if agent is not None and agent.owned and not agent.released and self.life is Life.RUNS:
                self.queue.append(Ack(reply.row))
        self.wire.clear()

    def _hand_in(self) -> None:
        """The end of a fenced replica: what it heard is kept, whoever owns the agent now."""
        if self.no_database:
            return
        waiting = [*(self.batch.operations if self.batch else ()), *self.queue]
        heard = [(one.message, one.key) for one in waiting if isinstance(one, Add)]
        for agent in self.agents.values():
            late = agent.buffer + self.platform.close(agent.name, self.number)
            heard += [(one, one.key or f"{self.number}/{one.number}") for one in late]
        if Flaw.NO_HAND_IN not in self.flaws:
            self.database.hand_in(self.number, heard)
        self._end()

    def _end(self) -> None:
        self.life = Life.ENDED
        self.database.lose(self.number)


#: What touches neither the database nor waits for it.
_LOCAL = frozenset({"read", "work", "release", "send", "deliver"})
_STEPS: dict[str, Callable[[Replica], None]] = {
    one.__name__: one
    for one in (
        Replica.beat,
        Replica.beaten,
        Replica.watch,
        Replica.bury,
        Replica.look,
        Replica.order,
        Replica.view,
        Replica.follow,
        Replica.read,
        Replica.work,
        Replica.release,
        Replica.begin,
        Replica.told,
        Replica.send,
        Replica.deliver,
    )
}
#: Every step by its name, in the order in which a replica takes them when nothing comes between.
STEPS = tuple(_STEPS)
