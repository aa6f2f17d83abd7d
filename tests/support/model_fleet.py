"""Several replicas over one database and one platform: what happens to them, and what must hold all the while."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from supervisor.core.states import MessageState
from tests.support.model_agent import Life
from tests.support.model_database import LEASE_SECONDS, Database, Release, Statement
from tests.support.model_flaws import BrokenPromiseError, Flaw
from tests.support.model_platform import Platform
from tests.support.model_replica import STEPS, Replica

AGENTS = ("ada", "bob", "cleo")
CONVERSATIONS = ("one", "two")
#: In so many seconds without a fault everybody is buried who has to be; a message more takes four.
QUIET_SECONDS = int(10 * LEASE_SECONDS)

#: How often the server comes to the end of a statement between two steps of anybody's, and how often that is a commit.
SERVER_ENDS, SERVER_COMMITS = 0.3, 0.8


@dataclass
class Fleet:
    """The world of one schedule.

    Args:
        history: whether the platform tells what was missed.
        one_socket: whether it refuses a second socket of an agent.
        flaws: guards that are left out.
    """

    history: bool
    one_socket: bool = False
    flaws: frozenset[Flaw] = frozenset()
    replicas: list[Replica] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = Database(AGENTS, self.flaws)
        self.platform = Platform(self.history, self.one_socket)

    @property
    def living(self) -> list[Replica]:
        return [one for one in self.replicas if one.alive]

    def join(self, skew: float = 0.0) -> None:
        self.replicas.append(Replica(self.database, self.platform, self.flaws, skew))

    def drain(self, replica: Replica) -> None:
        """It is asked to end: its agents go to others first."""
        replica.draining = True
        if replica.number in self.database.replicas:
            self.database.replicas[replica.number].draining = True

    def kill(self, replica: Replica) -> None:
        """Its process is gone; what the server has of it goes on there until it notices."""
        replica.life, replica.harmed = Life.ENDED, True
        self.database.lose(replica.number)
        self.platform.forget(replica.number)

    def cut_platform(self, replica: Replica) -> None:
        replica.no_platform = replica.harmed = True
        self.platform.cut(replica.number)

    def cut_database(self, replica: Replica) -> None:
        replica.no_database = True
        replica.disconnect()

    def restart_database(self) -> None:
        self.database.restart()
        for replica in self.living:
            replica.disconnect()

    def settle(self, statement: Statement, *, commits: bool = True) -> None:
        """The server comes to the end of a statement."""
        if not commits:
            self.database.abort(statement)
            return
        owners = {agent: lease.owner for agent, lease in self.database.leases.items()}
        self.database.commit(statement)
        for one in statement.operations:
            if isinstance(one, Release) and owners[one.agent] == statement.replica:
                self._check_no_gap(one)

    def _check_no_gap(self, release: Release) -> None:
        """Whoever gets an agent and was waited for listens, unless something has befallen it since it said so."""
        lease = self.database.leases[release.agent]
        to = next((one for one in self.replicas if one.number == lease.owner), None)
        if to is None or release.move != lease.move or to.harmed or to.life is not Life.RUNS:
            return
        if not self.platform.listens(release.agent, to.number):
            raise BrokenPromiseError(f"{release.agent} was given to replica {to.number}, which does not listen")

    def second(self) -> None:
        """A second in which all who can take every step, and the server ends what they wait for, and nothing else."""
        self.database.now += 1.0
        for replica in self.living:
            for name in STEPS:
                replica.step(name)
                if name == "begin" and not replica.frozen:
                    self.settle_all(replica)

    def hectic_second(self, chance: random.Random) -> None:
        """A second in which all take their steps in any order, twice, and the server ends statements when it likes."""
        self.database.now += 1.0
        steps = [(replica, name) for replica in self.living for name in STEPS] * 2
        chance.shuffle(steps)
        for replica, name in steps:
            replica.step(name)
            if self.database.under_way and chance.random() < SERVER_ENDS:
                self.settle(chance.choice(self.database.under_way), commits=chance.random() < SERVER_COMMITS)

    def settle_all(self, replica: Replica) -> None:
        """The server comes to the end of what a replica has under way."""
        for statement in [one for one in self.database.under_way if one.replica == replica.number]:
            self.settle(statement)

    def heal(self) -> None:
        """Nothing is wrong any more, and somebody is there."""
        for replica in self.replicas:
            self.settle_all(replica)
        for replica in self.living:
            replica.frozen = replica.no_database = replica.no_platform = False
        if not any(not one.draining and one.life is Life.RUNS for one in self.living):
            self.join()

    def quiesce(self) -> None:
        """Without further faults all comes to rest; then nothing is lost, doubled or left over."""
        self.heal()
        for _ in range(QUIET_SECONDS + 4 * len(self.platform.said)):
            self.second()
            if not any(one.life is Life.RUNS and not one.draining for one in self.living):
                self.join()
        self._check_owners()
        self._check_messages()

    def _check_owners(self) -> None:
        living = {one.number for one in self.living}
        for agent, lease in self.database.leases.items():
            listening = [replica for name, replica in self.platform.sockets if name == agent]
            if lease.owner not in living or lease.next is not None or listening != [lease.owner]:
                raise BrokenPromiseError(f"{agent} came to no rest: {lease}, {listening} listen, {living} live")

    def _check_messages(self) -> None:
        open_rows = [row for row in self.database.rows.values() if row.state is not MessageState.DONE]
        replies = self.database.replies.values()
        unsent = [one for one in replies if not one.acked or not self.platform.answers[one.key]]
        if open_rows or unsent:
            raise BrokenPromiseError(f"not answered in the end: {open_rows}, {unsent}")
        for message in self.platform.said:
            rows = [row for row in self.database.rows.values() if row.message == message]
            heard = bool(self.platform.holders[message.number]) or (self.history and message.key)
            if heard and not rows:
                raise BrokenPromiseError(f"{message} was heard and is not in the journal")
            if len(rows) > 1 and (message.key or not self.database.graves):
                raise BrokenPromiseError(f"{message} is in the journal more than once: {rows}")
