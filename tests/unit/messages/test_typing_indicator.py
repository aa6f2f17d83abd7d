""" "typing …" is shown on request, taken back at the end, and never shown after it."""

from __future__ import annotations

import asyncio

from supervisor.messages.typing_indicator import TypingIndicator
from tests.support.clock import ManualClock


async def test_it_is_taken_back_when_the_handler_is_over(clock: ManualClock) -> None:
    shown: list[bool] = []
    typing = TypingIndicator(shown.append)
    typing.show(True)
    typing.end()
    typing.end()
    await clock.settle()
    assert shown == [True, False]


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
