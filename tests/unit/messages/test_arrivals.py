"""Messages on their way into the journal: in order, so many at once, held back where older ones are looked for."""

from __future__ import annotations

import asyncio
from collections import deque

from supervisor.messages.arrivals import AT_ONCE, Arrival, Arrivals
from supervisor.messages.memory import Memory
from tests.support.journaling import inbound
from tests.support.virtual import VirtualLoop, run


class Desk:
    """Arrivals whose journal takes messages when the test lets it.

    Attributes:
        open: whether the journal takes a message as soon as it is given one.
        begun: keys that the journal was given, in order.
        delivered: keys of those that it took.
        refuse: keys that it does not take.
    """

    def __init__(self) -> None:
        self.memory = Memory(1_000_000)
        self.open = False
        self.begun: list[str] = []
        self.delivered: list[str] = []
        self.refuse: set[str] = set()
        self._given: deque[Arrival] = deque()
        self.arrivals = Arrivals(self.memory, write=self._write)

    def put(self, key: str, conversation: str = "c1") -> Arrival:
        arrival = Arrival(inbound(key, conversation), key, received_at=1.0, size_bytes=10)
        self.arrivals.put(arrival)
        return arrival

    def take(self) -> None:
        """Let the journal take what it was given."""
        while self._given:
            arrival = self._given.popleft()
            if arrival.key not in self.refuse:
                self.delivered.append(arrival.key)
            self.arrivals.journaled(arrival)

    def _write(self, arrival: Arrival) -> None:
        self.begun.append(arrival.key)
        self._given.append(arrival)
        if self.open:
            self.take()


def test_so_many_go_at_once_and_all_in_their_order() -> None:
    desk = Desk()
    keys = [str(number) for number in range(AT_ONCE + 3)]
    for key in keys:
        desk.put(key)
    assert (desk.begun, len(desk.arrivals)) == (keys[:AT_ONCE], AT_ONCE + 3)
    assert (desk.arrivals.journaling, desk.memory.used_bytes) == (True, 10 * len(keys))
    assert [one.key for one in desk.arrivals] == keys[AT_ONCE:]
    desk.take()
    assert desk.begun == desk.delivered == keys
    assert (len(desk.arrivals), desk.memory.used_bytes, desk.arrivals.journaling) == (0, 0, False)


def test_a_journal_that_refuses_at_once_is_asked_for_the_next() -> None:
    desk = Desk()
    desk.open, desk.refuse = True, {"1"}
    desk.put("1")
    desk.put("2")
    assert (desk.delivered, desk.memory.used_bytes) == (["2"], 0)


def test_a_long_row_that_is_taken_at_once_needs_no_deep_stack() -> None:
    desk = Desk()
    desk.open = True
    desk.arrivals.hold("c1")
    for number in range(5000):
        desk.put(str(number))
    desk.arrivals.resume(desk.arrivals.take_held_back("c1"))
    assert desk.delivered == [str(number) for number in range(5000)]


def test_a_conversation_that_is_held_back_waits_and_no_other() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk()
        desk.open = True
        desk.arrivals.hold("c1")
        desk.put("1")
        desk.put("2", "c2")
        await loop.settle()
        assert (desk.delivered, len(desk.arrivals), desk.arrivals.journaling) == (["2"], 1, False)
        held = desk.arrivals.take_held_back("c1")
        assert [one.key for one in held] == ["1"]
        desk.arrivals.resume(held)
        desk.put("3")
        await loop.settle()
        assert desk.delivered == ["2", "1", "3"]
        assert desk.arrivals.take_held_back("c1") == []

    run(main)


def test_what_is_held_back_can_be_waited_for_and_forgotten() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk()
        desk.open = True
        desk.arrivals.hold("c1")
        await loop.complete(desk.arrivals.until_none_is_held_back())
        desk.put("1")
        desk.arrivals.hold("c2")
        desk.put("2", "c2")
        waiting = asyncio.create_task(desk.arrivals.until_none_is_held_back())
        desk.arrivals.resume(desk.arrivals.take_held_back("c1"))
        await loop.settle()
        assert (desk.delivered, waiting.done()) == (["1"], False)
        assert [one.key for one in desk.arrivals.drop_held_back()] == ["2"]
        await loop.settle()
        assert waiting.done()
        desk.put("3", "c2")
        await loop.settle()
        assert (desk.delivered, desk.memory.used_bytes, len(desk.arrivals)) == (["1", "3"], 0, 0)

    run(main)


def test_a_close_waits_for_the_journal_and_tells_how_many_it_has_not() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk()
        desk.arrivals.hold("c2")
        desk.put("held", "c2")
        desk.put("1")
        desk.put("2")
        began = loop.time()
        assert await loop.complete(desk.arrivals.close(3)) == 3
        assert loop.time() - began == 3
        assert desk.memory.used_bytes == 30, "the journal has them in hand"
        desk.take()
        assert desk.memory.used_bytes == 0
        well = Desk()
        well.open = True
        well.put("1")
        assert await loop.complete(well.arrivals.close(3)) == 0
        assert well.delivered == ["1"]

    run(main)
