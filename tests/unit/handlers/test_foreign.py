"""Foreign code is contained where it is called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.handlers import foreign
from supervisor.handlers.foreign import EscapeError, contained, is_readable


async def test_a_foreign_call_that_cancels_itself_is_an_error_and_one_that_is_cancelled_is_not_waited_for() -> None:
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    async def swallows() -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                swallowed.set()

    with pytest.raises(EscapeError, match="on_start was cancelled from within"):
        await foreign.call(cancels_itself(), "a1", "on_start")
    over, swallowed = asyncio.Event(), asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await foreign.call(swallows(), "a1", "on_start")
    async with asyncio.timeout(10):
        await swallowed.wait()
    over.set()


class Panic(BaseException):
    """What no Exception is."""


def test_what_a_future_cannot_carry_is_an_error_that_names_it() -> None:
    def fail(error: BaseException) -> Iterator[None]:
        raise error

    for error in (SystemExit(2), KeyboardInterrupt(), GeneratorExit(), Panic("rust"), StopIteration(1)):
        with pytest.raises(EscapeError, match=type(error).__name__) as caught:
            contained(fail, error)
        assert caught.value.__cause__ is error
    with pytest.raises(ValueError, match="as it is"):
        contained(fail, ValueError("as it is"))


class Untouchable(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(5)


def test_an_exception_whose_attributes_are_code_that_raises_is_not_readable() -> None:
    assert is_readable(ValueError("plain"))
    assert is_readable(SystemExit(1))
    assert not is_readable(Untouchable())
