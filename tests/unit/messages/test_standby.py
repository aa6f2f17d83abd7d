"""What is heard before an agent is this process's own is kept in its order, and taken in behind what its owner left."""

from __future__ import annotations

from typing import Any, cast

import pytest

from supervisor.core.errors import RegistryError
from supervisor.messages.standby import KEPT, Standby
from supervisor.platform.connection import Connection

SOURCE = cast("Connection", object())


class Taking:
    """What is done at a take-over, in its order."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.error: RegistryError | None = None
        self.standby = Standby(
            self.restore, self.go_on, lambda _source, event, payload: self.done.append((event, payload))
        )

    async def restore(self) -> None:
        if self.error is not None:
            raise self.error
        # What comes in this moment belongs to what was heard.
        self.standby.keep(SOURCE, "message:new", "meanwhile")
        self.done.append("restored")

    def go_on(self, connection: Connection, *, missed: bool) -> None:
        self.done.append(("goes on", missed))


async def test_what_was_heard_comes_behind_what_was_left_in_its_order() -> None:
    taking = Taking()
    taking.standby.begin()
    for number in range(3):
        taking.standby.keep(SOURCE, "message:new", number)
    await taking.standby.take_over(SOURCE, missed=False)
    heard = [("message:new", one) for one in (0, 1, 2, "meanwhile")]
    assert taking.done == ["restored", ("goes on", False), *heard]
    assert not taking.standby.waits


async def test_more_than_is_kept_is_looked_for() -> None:
    taking = Taking()
    taking.standby.begin()
    for number in range(KEPT + 5):
        taking.standby.keep(SOURCE, "message:new", number)
    await taking.standby.take_over(SOURCE, missed=False)
    assert taking.done[1] == ("goes on", True)
    assert taking.done[-2:] == [("message:new", KEPT + 4), ("message:new", "meanwhile")]
    assert len(taking.done) == KEPT + 2


async def test_without_a_connection_the_next_one_looks_for_what_was_missed() -> None:
    taking = Taking()
    taking.standby.begin()
    taking.standby.keep(SOURCE, "message:new", 1)
    await taking.standby.take_over(None, missed=True)
    assert taking.done == ["restored"]
    assert not taking.standby.waits


async def test_a_journal_that_cannot_be_read_loses_nothing_of_it() -> None:
    taking = Taking()
    taking.standby.begin()
    taking.standby.keep(SOURCE, "message:new", 1)
    taking.error = RegistryError("away")
    with pytest.raises(RegistryError):
        await taking.standby.take_over(SOURCE, missed=False)
    assert taking.standby.waits
    taking.error = None
    await taking.standby.take_over(SOURCE, missed=False)
    assert ("message:new", 1) in taking.done
