"""An answer is measured once, by its last part, when that is with the platform and no other can come."""

from __future__ import annotations

import pytest

from supervisor.messages.answer_time import AnswerTime
from tests.support.clock import ManualClock


class Measured:
    """A message that came two seconds before its handler began."""

    def __init__(self, clock: ManualClock) -> None:
        self.told: list[tuple[float, float]] = []
        self.time = AnswerTime(clock, clock.now() - 2.0, lambda latency, send: self.told.append((latency, send)))


@pytest.fixture
def answer(clock: ManualClock) -> Measured:
    return Measured(clock)


async def test_one_answer_is_measured_when_it_is_acknowledged(answer: Measured, clock: ManualClock) -> None:
    answer.time.ready(0)
    answer.time.finished()
    await clock.advance(0.5)
    assert answer.told == []
    answer.time.acked(0)
    assert answer.told == [pytest.approx((2.5, 0.5))]


async def test_what_comes_before_the_last_part_does_not_count(answer: Measured, clock: ManualClock) -> None:
    answer.time.ready(0)
    await clock.advance(1.0)
    answer.time.acked(0)
    answer.time.ready(2)
    # The first was late, and thinking is no answer.
    for part in (0, 1):
        answer.time.acked(part)
    await clock.advance(0.25)
    answer.time.acked(2)
    await clock.advance(5.0)
    assert answer.told == [], "another part may come"
    answer.time.finished()
    assert answer.told == [pytest.approx((3.25, 0.25))]


async def test_silence_and_failure_are_no_answers(answer: Measured) -> None:
    answer.time.finished()
    assert answer.told == []
    answer.time.acked(0)
    assert answer.told == []


async def test_an_acknowledgement_twice_is_one(answer: Measured) -> None:
    answer.time.ready(0)
    answer.time.finished()
    for _ in range(2):
        answer.time.acked(0)
    assert len(answer.told) == 1
