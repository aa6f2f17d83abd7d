"""Agents that nobody has go to whoever has least, as fast as they can be connected."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.store.postgres.planning import Load, Move, give, move

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


def test_who_drains_gives_all_of_its_agents_to_the_others() -> None:
    moves = move([Load(1, 1.0, 10, draining=True), Load(2, 1.0, 4), Load(3, 1.0, 8)], 100)
    assert moves == [Move(1, 2, 7), Move(1, 3, 3)]


def test_a_newcomer_gets_its_part_and_what_is_nearly_even_stays() -> None:
    assert move([Load(1, 1.0, 10), Load(2, 1.0, 10), Load(3, 1.0, 0)], 100) == [Move(1, 3, 3), Move(2, 3, 3)]
    assert move([Load(1, 1.0, 10), Load(2, 1.0, 9)], 100) == []
    assert move([Load(1, 1.0, 100), Load(2, 1.0, 95)], 100) == []
    assert move([Load(1, 1.0, 20), Load(2, 1.0, 0)], 100, even_out=False) == []


def test_no_more_go_at_once_than_may_be_on_their_way() -> None:
    assert move([Load(1, 1.0, 10, draining=True), Load(2, 1.0, 0)], 3) == [Move(1, 2, 3)]
    assert move([Load(1, 1.0, 10, draining=True), Load(2, 1.0, 0)], -1) == []


def test_where_all_drain_nobody_can_take_any() -> None:
    assert move([Load(1, 1.0, 10, draining=True)], 100) == []


@settings(max_examples=100)
@given(LOADS, st.sets(st.integers(1, 8)))
def test_after_enough_moves_nobody_moves_any_more(loads: list[Load], draining: set[int]) -> None:
    loads = [one._replace(draining=one.number in draining) for one in loads]
    if all(one.draining for one in loads):
        return
    for _ in range(20):
        moves = move(loads, 1000)
        assert all(target not in draining for _, target, _ in moves)
        for origin, target, number in moves:
            change = {origin: -number, target: number}
            loads = [one._replace(agents=one.agents + change.get(one.number, 0)) for one in loads]
        if not moves:
            break
    assert moves == []
    assert all(not one.agents for one in loads if one.draining)
