"""Agents that nobody has go to whoever has least, as fast as they can be connected."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.store.postgres.planning import Load, give

AGENTS = [f"a{number:03}" for number in range(100)]
LOADS = st.lists(st.tuples(st.sampled_from((0.5, 1.0, 2.0, 3.0)), st.integers(0, 50)), min_size=1, max_size=8).map(
    lambda found: [Load(number, *one) for number, one in enumerate(found, start=1)]
)


def test_the_least_loaded_gets_the_next_one() -> None:
    assert give(AGENTS[:5], [Load(1, 1.0, 3), Load(2, 1.0, 0)], 10) == {
        1: ["a003"],
        2: ["a000", "a001", "a002", "a004"],
    }


def test_who_has_twice_the_capacity_gets_twice_as_many() -> None:
    given_ = give(AGENTS[:30], [Load(1, 2.0, 0), Load(2, 1.0, 0)], 100)
    assert {number: len(got) for number, got in given_.items()} == {1: 20, 2: 10}


def test_one_alone_gets_no_more_at_once_than_it_may() -> None:
    assert give(AGENTS, [Load(1, 1.0, 0)], 7) == {1: AGENTS[:7]}


def test_where_nobody_is_there_nobody_gets_any() -> None:
    assert give(AGENTS, [], 7) == {}
    assert give([], [Load(1, 1.0, 0)], 7) == {}


@settings(max_examples=100)
@given(LOADS, st.integers(0, 100), st.integers(1, 30))
def test_each_is_given_once_and_nobody_ends_more_than_one_ahead(loads: list[Load], waiting: int, most: int) -> None:
    orphans = AGENTS[:waiting]
    got = give(orphans, loads, most)
    every = [one for some in got.values() for one in some]
    assert sorted(every) == orphans[: len(every)], "the first are given, each once"
    assert len(every) == min(waiting, most * len(loads))
    assert all(len(some) <= most for some in got.values())
    for one in loads:
        mine = len(got.get(one.number, ()))
        for other in loads:
            theirs = len(got.get(other.number, ()))
            if mine and theirs < most:
                # Before it got its last one it had no more than the other would have had with one.
                assert (one.agents + mine) / one.capacity <= (other.agents + theirs + 1) / other.capacity
