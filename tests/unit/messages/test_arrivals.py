"""Messages on their way into the journal: in their order, in batches, held back where older ones are looked for."""

from __future__ import annotations

import asyncio

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.core.turns import Turns
from supervisor.messages.arrivals import Arrival, Arrivals
from supervisor.messages.memory import Memory
from tests.support.journaling import AGENT, inbound
from tests.support.virtual import VirtualLoop, run


class Desk:
    """Arrivals whose journal takes a message when the test lets it.

    Attributes:
        begun: keys that the journal was given, in order.
        delivered: keys of those that it took.
        refuse: keys that it does not take.
        broken: keys at whose delivery a defect of ours shows.
    """

    def __init__(self) -> None:
        self.memory = Memory(1_000_000)
        self.open = asyncio.Event()
        self.begun: list[str] = []
        self.delivered: list[str] = []
        self.refuse: set[str] = set()
        self.broken: set[str] = set()
        self.arrivals = Arrivals(AGENT, self.memory, Turns(), write=self._write, deliver=self._deliver)

    def put(self, key: str, conversation: str = "c1") -> Arrival:
        arrival = Arrival(inbound(key, conversation), key, received_at=1.0, size_bytes=10)
        self.arrivals.put(arrival)
        return arrival

    async def _write(self, arrival: Arrival) -> JournaledMessage | None:
        self.begun.append(arrival.key)
        await self.open.wait()
        if arrival.key in self.refuse:
            return None
        return JournaledMessage(1, AGENT, arrival.key, arrival.message, MessageState.AVAILABLE, 0, received_at=1.0)

    async def _deliver(self, arrival: Arrival, row: JournaledMessage) -> None:
        assert row.key == arrival.key
        if arrival.key in self.broken:
            raise ZeroDivisionError
        self.delivered.append(arrival.key)


def test_what_comes_meanwhile_goes_together_and_in_its_order() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk()
        desk.put("1")
        await loop.turns(2)
        for key in "234":
            desk.put(key)
        assert (desk.begun, len(desk.arrivals), desk.memory.used_bytes) == (["1"], 4, 40)
        assert [desk.arrivals.journaling] == [True]
        assert [one.key for one in desk.arrivals] == ["2", "3", "4"]
        desk.open.set()
        await loop.settle()
        assert desk.delivered == ["1", "2", "3", "4"]
        assert (len(desk.arrivals), desk.memory.used_bytes, desk.arrivals.journaling) == (0, 0, False)
        desk.put("5")
        await loop.settle()
        assert desk.delivered[-1] == "5"

    run(main)


def test_what_the_journal_does_not_take_is_not_delivered() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk()
        desk.refuse = {"1"}
        desk.open.set()
        desk.put("1")
        desk.put("2")
        await loop.settle()
        assert (desk.delivered, desk.memory.used_bytes) == (["2"], 0)

    run(main)


def test_a_conversation_that_is_held_back_waits_and_no_other() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk()
        desk.open.set()
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
        desk.open.set()
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
        await loop.turns(2)
        desk.put("2")
        began = loop.time()
        assert await loop.complete(desk.arrivals.close(3)) == 3
        assert loop.time() - began == 3
        assert desk.memory.used_bytes == 0
        well = Desk()
        well.open.set()
        well.put("1")
        assert await loop.complete(well.arrivals.close(3)) == 0
        assert well.delivered == ["1"]

    run(main)


def test_a_defect_at_one_message_leaves_those_after_it_their_way() -> None:
    async def main(loop: VirtualLoop) -> None:
        desk = Desk()
        desk.broken = {"1", "3"}
        desk.put("1")
        await loop.turns(2)
        for key in "234":
            desk.put(key)
        complaints: list[object] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context.get("exception")))
        desk.open.set()
        await loop.settle()
        desk.put("5")
        await loop.settle()
        assert desk.begun == list("12345")
        assert desk.delivered == ["2", "4", "5"]
        assert not desk.arrivals.journaling

    run(main)
