"""Random schedules of faults against the protocol by which several replicas share one registry.

What holds in each: an agent has one owner at every commit, nothing is written after a burial, nothing runs out of
order, no reply leaves before its commit; and once all is quiet, every message that was heard is answered once.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.support.model_flaws import BrokenPromiseError, Flaw
from tests.support.model_fleet import AGENTS, CONVERSATIONS, Fleet
from tests.support.model_replica import STEPS, Replica
from tests.support.model_schedules import SCHEDULES, WITH_HISTORY, new_fleet

MOST_REPLICAS = 4
#: So many schedules are played each time.
FEW = 200
HOUR = 3600.0
#: Which replica, of those that are there.
which = st.integers(0, MOST_REPLICAS - 1)
skews = st.sampled_from([0.0, HOUR, -HOUR])


class Schedule(RuleBasedStateMachine):
    """A fleet, and whatever befalls it."""

    flaws: frozenset[Flaw] = frozenset()
    fleet: Fleet

    @initialize(history=st.booleans(), one_socket=st.sampled_from([False, False, True]), skew=skews)
    def start(self, history: bool, one_socket: bool, skew: float) -> None:
        self.fleet = Fleet(history, one_socket, self.flaws)
        self.fleet.join(skew)
        self.fleet.join()
        self.seconds(3)

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            self.fleet.quiesce()

    def _one(self, number: int) -> Replica:
        """One of those that live; a new one where nobody does."""
        if not self.fleet.living:
            self.fleet.join()
        return self.fleet.living[number % len(self.fleet.living)]

    @rule(
        said=st.lists(
            st.tuples(st.sampled_from(AGENTS), st.sampled_from(CONVERSATIONS), st.booleans()), min_size=1, max_size=5
        )
    )
    def people_say(self, said: list[tuple[str, str, bool]]) -> None:
        for agent, conversation, named in said:
            self.fleet.platform.say(agent, conversation, named=named)

    @rule(number=st.integers(1, 8))
    def seconds(self, number: int) -> None:
        for _ in range(number):
            self.fleet.second()

    @rule(number=st.integers(1, 4), seed=st.integers(0, 2**32))
    def hectic_seconds(self, number: int, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(number):
            self.fleet.hectic_second(chance)

    @rule(number=which, taken=st.lists(st.sampled_from(STEPS), min_size=1))
    def steps_of_one(self, number: int, taken: list[str]) -> None:
        replica = self._one(number)
        for name in taken:
            replica.step(name)

    @precondition(lambda self: self.fleet.database.under_way)
    @rule(number=which, commits=st.booleans())
    def server_ends_a_statement(self, number: int, commits: bool) -> None:
        under_way = self.fleet.database.under_way
        self.fleet.settle(under_way[number % len(under_way)], commits=commits)

    @rule(number=which, what=st.sampled_from(["freeze", "freeze", "kill", "database", "platform", "restart", "drain"]))
    def fault(self, number: int, what: str) -> None:
        replica = self._one(number)
        match what:
            case "freeze":
                replica.frozen = True
            case "kill":
                self.fleet.kill(replica)
            case "database":
                self.fleet.cut_database(replica)
            case "platform":
                self.fleet.cut_platform(replica)
            case "restart":
                self.fleet.restart_database()
            case "drain":
                self.fleet.drain(replica)

    @rule(number=which, what=st.sampled_from(["freeze", "database"]), seed=st.integers(0, 2**32))
    def fault_beyond_the_lease(self, number: int, what: str, seed: int) -> None:
        replica = self._one(number)
        self.fault(number, what)
        self.seconds(9)
        replica.frozen = replica.no_database = False
        self.fleet.hectic_second(random.Random(seed))

    @rule(number=which)
    def mended(self, number: int) -> None:
        replica = self._one(number)
        replica.frozen = replica.no_database = replica.no_platform = False

    @precondition(lambda self: len(self.fleet.living) < MOST_REPLICAS)
    @rule(skew=skews)
    def replica_joins(self, skew: float) -> None:
        self.fleet.join(skew)


def play(schedules: int, *flaws: Flaw) -> None:
    """Play so many schedules, with some guards left out; the same ones each time, where they are few."""

    class Flawed(Schedule):
        pass

    Flawed.flaws = frozenset(flaws)
    few = schedules <= FEW
    # Where a guard is missing the first break is enough, however long its schedule is.
    phases = [Phase.generate] if flaws else [Phase.generate, Phase.shrink]
    of_a_run = settings(max_examples=schedules, stateful_step_count=30, derandomize=few, phases=phases, database=None)
    run_state_machine_as_test(Flawed, settings=of_a_run)


def play_out(flaw: Flaw, *flaws: Flaw) -> None:
    """The schedule in which one guard is missed, until all is quiet."""
    fleet = new_fleet(*flaws, history=flaw in WITH_HISTORY)
    SCHEDULES[flaw](fleet)
    fleet.quiesce()


def test_any_schedule_keeps_every_promise() -> None:
    play(FEW)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_schedules_keep_every_promise() -> None:
    play(5000)


@pytest.mark.parametrize("flaw", Flaw)
def test_each_guard_is_missed_where_it_is_left_out(flaw: Flaw) -> None:
    play_out(flaw)
    with pytest.raises(BrokenPromiseError):
        play_out(flaw, flaw)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flaw", Flaw)
def test_chance_finds_each_guard_that_is_left_out(flaw: Flaw) -> None:
    with pytest.raises(BrokenPromiseError):
        play(10_000, flaw)
