"""Who is dead is told by beats alone, as one sees them who looked all the time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from supervisor.store.postgres.beats import Beat, BeatWatch, boot_seconds, pause_of


@dataclass
class Looking:
    """A watch whose time is set by hand."""

    lease_seconds: float = 6.0
    at: float = 100.0
    watch: BeatWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = BeatWatch(self.lease_seconds, lambda: self.at)

    def look(self, *counts: int, after: float = 1.0, lease_seconds: float = 6.0) -> list[int]:
        """The numbers of the dead, after so many seconds; replica n has the n-th count."""
        self.at += after
        return [one.number for one in self.watch.look(beats(counts, lease_seconds))]

    def looks(self, seconds: int, *counts: int) -> Iterator[list[int]]:
        """What is found at a look in each second."""
        return (self.look(*counts) for _ in range(seconds))


def beats(counts: Iterable[int], lease_seconds: float) -> list[Beat]:
    return [Beat(number, count, lease_seconds) for number, count in enumerate(counts, start=1)]


@pytest.fixture
def looking() -> Looking:
    return Looking()


def test_who_moves_lives_and_who_stands_for_a_lease_is_dead(looking: Looking) -> None:
    found = [looking.look(second, 5) for second in range(10)]
    assert found == [[]] * 7 + [[2]] * 3


def test_one_that_moved_once_has_a_whole_lease_again(looking: Looking) -> None:
    assert list(looking.looks(6, 1)) == [[]] * 6
    assert looking.look(2) == []
    assert list(looking.looks(6, 2)) == [[]] * 6
    assert looking.look(2) == [1]


def test_who_did_not_look_all_the_time_knows_nothing(looking: Looking) -> None:
    assert list(looking.looks(6, 1)) == [[]] * 6
    assert looking.look(1, after=3.1) == [], "half a lease without a look"
    assert list(looking.looks(6, 1)) == [[]] * 6
    assert looking.look(1) == [1]


def test_a_look_that_failed_begins_the_time_anew(looking: Looking) -> None:
    assert list(looking.looks(6, 1)) == [[]] * 6
    looking.watch.interrupt()
    assert list(looking.looks(7, 1)) == [[]] * 7
    assert looking.look(1) == [1]


def test_one_that_asks_for_longer_gets_longer_and_nobody_gets_less_than_the_observer_gives(looking: Looking) -> None:
    found = [looking.look(1, lease_seconds=8.0) for _ in range(10)]
    assert found == [[]] * 9 + [[1]]
    hasty = Looking()
    found = [hasty.look(1, lease_seconds=1.0) for _ in range(8)]
    assert found == [[]] * 7 + [[1]]


def test_who_came_later_is_counted_from_when_it_came(looking: Looking) -> None:
    assert list(looking.looks(5, 1)) == [[]] * 5
    assert looking.look(1, 7) == []
    assert [looking.look(1, 7) for _ in range(6)] == [[]] + [[1]] * 5
    assert looking.look(1, 7) == [1, 2]


def test_there_are_several_beats_in_a_lease_and_one_a_second_at_the_most() -> None:
    assert pause_of(15.0) == 1.0
    assert pause_of(1.0) == 0.2


def test_the_time_goes_on() -> None:
    before = boot_seconds()
    assert 0 <= boot_seconds() - before < 60
