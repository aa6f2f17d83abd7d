"""Agents that answer each other are stopped; people never are (docs/faults.md#r17)."""

from __future__ import annotations

from supervisor.messages.loop_guard import PAUSE_SECONDS, WARNING_SECONDS, LoopGuard
from supervisor.protocol import InboundMessage
from tests.support.clock import ManualClock


def message(role: str = "assistant", conversation: str = "c", agent: str | None = None) -> InboundMessage:
    return InboundMessage(conversation_id=conversation, role=role, content="x", sender_agent_id=agent)


class Guarded:
    def __init__(self, clock: ManualClock, limit: int = 20) -> None:
        self.warnings: list[str] = []
        self.limit = limit
        self.guard = LoopGuard(clock, lambda: self.limit, self.warnings.append)

    def passed(self, count: int, one: InboundMessage) -> int:
        return sum(not self.guard.blocks(one) for _ in range(count))


async def test_twenty_a_minute_then_a_pause_of_a_minute_and_one_warning(clock: ManualClock) -> None:
    guarded = Guarded(clock)
    assert guarded.passed(50, message()) == 20
    await clock.advance(PAUSE_SECONDS - 0.1)
    assert guarded.passed(50, message()) == 0
    await clock.advance(0.2)
    assert guarded.passed(50, message()) == 20
    assert guarded.warnings == ["c"]
    await clock.advance(WARNING_SECONDS)
    assert guarded.passed(50, message()) == 20
    assert guarded.warnings == ["c", "c"]


async def test_a_slow_exchange_goes_on_for_ever(clock: ManualClock) -> None:
    guarded = Guarded(clock)
    for _ in range(100):
        assert not guarded.guard.blocks(message())
        await clock.advance(3.01)
    assert guarded.warnings == []


def test_people_are_never_stopped(clock: ManualClock) -> None:
    assert Guarded(clock).passed(1000, message("user")) == 1000


def test_an_agent_that_speaks_as_a_user_is_known_by_its_id(clock: ManualClock) -> None:
    assert Guarded(clock).passed(50, message("user", agent="b" * 24)) == 20


def test_conversations_are_counted_apart_and_forgotten(clock: ManualClock) -> None:
    guarded = Guarded(clock, limit=1)
    assert sum(guarded.passed(2, message(conversation=str(number))) for number in range(3000)) == 3000


def test_the_limit_may_be_changed_or_taken_away(clock: ManualClock) -> None:
    guarded = Guarded(clock, limit=0)
    assert guarded.passed(100, message()) == 100
    guarded.limit = 3
    assert guarded.passed(10, message()) == 3
