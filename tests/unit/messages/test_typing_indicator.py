""" "typing …" is shown on request, repeated, taken back before each answer and at the end, never shown after it."""

from __future__ import annotations

import asyncio

from supervisor.messages.typing_indicator import HELD_SECONDS, REPEAT_SECONDS, TypingIndicator
from tests.support import virtual
from tests.support.clock import ManualClock


async def test_it_is_taken_back_when_the_handler_is_over(clock: ManualClock) -> None:
    shown: list[bool] = []
    typing = TypingIndicator(shown.append)
    typing.show(True)
    typing.end()
    typing.end()
    assert shown == [True, False], "at once"


async def test_nothing_is_taken_back_that_is_not_shown(clock: ManualClock) -> None:
    shown: list[bool] = []
    typing = TypingIndicator(shown.append)
    typing.show(False)
    typing.end()
    typing.show(True)
    await clock.settle()
    assert shown == [], "and nothing is shown after the end"


async def test_calls_of_a_thread_keep_their_order(clock: ManualClock) -> None:
    shown: list[bool] = []
    typing = TypingIndicator(shown.append)

    def handler() -> None:
        typing.show(True)
        typing.show(False)
        typing.show(True)

    await asyncio.to_thread(handler)
    typing.end()
    await clock.settle()
    assert shown == [True, False, True, False]


def test_it_is_repeated_while_the_handler_works() -> None:
    """Clients show it for a few seconds only."""

    async def play(loop: virtual.VirtualLoop) -> None:
        shown: list[bool] = []
        typing = TypingIndicator(shown.append)
        typing.go_on()
        typing.show(True)
        await loop.advance(3 * REPEAT_SECONDS)
        assert shown == [True] * 4
        typing.show(False)
        await loop.advance(2 * REPEAT_SECONDS)
        assert shown == [True] * 4 + [False]
        typing.show(True)
        typing.end()
        await loop.advance(2 * REPEAT_SECONDS)
        assert shown[5:] == [True, False]

    virtual.run(play)


def test_an_answer_takes_it_back_until_the_handler_has_worked_on_for_long() -> None:
    async def play(loop: virtual.VirtualLoop) -> None:
        shown: list[bool] = []
        typing = TypingIndicator(shown.append)
        typing.go_on()
        typing.answer()
        typing.show(True)
        await loop.advance(REPEAT_SECONDS / 2)
        typing.answer()
        assert shown == [True, False], "in that very moment"
        await loop.advance(REPEAT_SECONDS * 0.9)
        assert shown == [True, False]
        await loop.advance(REPEAT_SECONDS * 0.1)
        assert shown == [True, False, True]
        typing.answer()
        typing.end()
        typing.answer()
        await loop.advance(2 * REPEAT_SECONDS)
        assert shown == [True, False, True, False], "nothing after the last answer"

    virtual.run(play)


def test_while_an_earlier_answer_is_on_its_way_nothing_is_shown() -> None:
    """Else the answer would come after it, and people would wait for another one."""

    async def play(loop: virtual.VirtualLoop) -> None:
        shown: list[bool] = []
        on_its_way = True
        typing = TypingIndicator(shown.append, held=lambda: on_its_way)
        typing.go_on()
        typing.show(True)
        await loop.advance(10 * REPEAT_SECONDS)
        assert shown == []
        on_its_way = False
        await loop.advance(HELD_SECONDS)
        assert shown == [True]
        on_its_way = True
        await loop.advance(2 * REPEAT_SECONDS)
        assert shown == [True]
        typing.show(False)
        on_its_way = False
        await loop.advance(2 * REPEAT_SECONDS)
        assert shown == [True, False]

    virtual.run(play)
