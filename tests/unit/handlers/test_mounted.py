"""Handlers of every form give their parts from where they should run, and never end the process."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import aclosing
from typing import Any

import pytest

from supervisor.handlers import HandlerLoader
from tests.support.mounted import MESSAGE, NO_CONTEXT, Write, answers

CLASS = "class Mine(Handler):\n    {}def on_message(self, message, ctx):\n        {}\n"
FORMS = {
    "async function": ("async def on_message(message, ctx): return [*here('hi')][0]", ["hi"], False, True),
    "function": ("def on_message(message, ctx): return [*here('hi')][0]", ["hi"], False, False),
    "async generator": (
        "async def on_message(message, ctx):\n    for part in here('a', 'b'): yield part",
        ["a", "b"],
        True,
        True,
    ),
    "generator": ("def on_message(message, ctx):\n    yield from here('a', 'b')", ["a", "b"], True, False),
    "class, async": (CLASS.format("async ", "return [*here('hi')][0]"), ["hi"], False, True),
    "class, plain": (CLASS.format("", "return [*here('hi')][0]"), ["hi"], False, False),
    "class, async generator": (
        CLASS.format("async ", "for part in here('a', 'b'): yield part"),
        ["a", "b"],
        True,
        True,
    ),
    "class, generator": (CLASS.format("", "yield from here('a', 'b')"), ["a", "b"], True, False),
    "class of its own": (
        "class Mine:\n    async def on_message(self, message, ctx): return 'hi'\non_message = Mine()",
        ["hi"],
        False,
        None,
    ),
    "callable object, async": (
        "class Call:\n    async def __call__(self, message, ctx): return [*here('hi')][0]\non_message = Call()",
        ["hi"],
        False,
        True,
    ),
    "callable object, plain": (
        "class Call:\n    def __call__(self, message, ctx): return [*here('hi')][0]\non_message = Call()",
        ["hi"],
        False,
        False,
    ),
    "callable object, async generator": (
        "class Call:\n    async def __call__(self, m, c):\n        for part in here('a', 'b'): yield part\n"
        "on_message = Call()",
        ["a", "b"],
        True,
        True,
    ),
    "partial of an async function": (
        "async def answer(text, message, ctx): return [*here(text)][0]\non_message = functools.partial(answer, 'hi')",
        ["hi"],
        False,
        True,
    ),
    "partial of a function": (
        "def answer(text, message, ctx): return [*here(text)][0]\non_message = functools.partial(answer, 'hi')",
        ["hi"],
        False,
        False,
    ),
    "partial of an async generator": (
        "async def answer(text, message, ctx):\n    for part in here(text, 'b'): yield part\n"
        "on_message = functools.partial(answer, 'a')",
        ["a", "b"],
        True,
        True,
    ),
    "decorated async function": (
        "def keep(f):\n    @functools.wraps(f)\n    def g(*args): return f(*args)\n    return g\n"
        "@keep\nasync def on_message(message, ctx): return [*here('hi')][0]",
        ["hi"],
        False,
        True,
    ),
    "decorated async generator": (
        "def keep(f):\n    @functools.wraps(f)\n    def g(*args): return f(*args)\n    return g\n"
        "@keep\nasync def on_message(message, ctx):\n    for part in here('a', 'b'): yield part",
        ["a", "b"],
        True,
        True,
    ),
    "function that returns an async generator": (
        "async def parts():\n    for part in here('a', 'b'): yield part\ndef on_message(message, ctx): return parts()",
        ["a", "b"],
        False,
        True,
    ),
    "async function that returns an iterator": (
        "async def on_message(message, ctx): return iter(['a', 'b'])",
        ["a", "b"],
        False,
        None,
    ),
    "function that returns a coroutine": (
        "async def later(): return [*here('hi')][0]\ndef on_message(message, ctx): return later()",
        ["hi"],
        False,
        True,
    ),
    "nothing": ("async def on_message(message, ctx): return None", [], False, None),
}
PRELUDE = """\
import functools, threading
from supervisor.handler import Handler
threads = set()
def here(*parts):
    for part in parts:
        threads.add(threading.current_thread())
        yield part
"""


@pytest.mark.parametrize(("code", "parts", "streams", "in_loop"), FORMS.values(), ids=FORMS)
async def test_every_form_gives_its_parts_from_where_it_should_run(
    loader: HandlerLoader, write: Write, code: str, parts: list[str], streams: bool, in_loop: bool | None
) -> None:
    write("mine.py", PRELUDE + code)
    handler = loader.load("mine")
    assert await answers(handler) == parts
    assert handler.streams is streams
    if in_loop is not None:
        ran_in = sys.modules["supervisor_agents.mine"].threads
        assert (threading.current_thread() in ran_in) is in_loop
        assert len(ran_in) >= 1


async def test_parts_come_one_by_one(loader: HandlerLoader, write: Write) -> None:
    write(
        "mine.py",
        """
        made = []
        def on_message(message, ctx):
            for n in range(3):
                made.append(n)
                yield str(n)
        """,
    )
    handler = loader.load("mine")
    async with aclosing(handler.parts(MESSAGE, NO_CONTEXT)) as parts:
        assert await anext(parts) == "0"
        assert sys.modules["supervisor_agents.mine"].made == [0]


async def test_a_stream_that_is_left_is_closed(loader: HandlerLoader, write: Write) -> None:
    write(
        "mine.py",
        """
        closed = []
        async def on_message(message, ctx):
            try:
                yield "a"
                yield "b"
            finally:
                closed.append(True)
        """,
    )
    async with aclosing(loader.load("mine").parts(MESSAGE, NO_CONTEXT)) as parts:
        await anext(parts)
    assert sys.modules["supervisor_agents.mine"].closed == [True]


@pytest.mark.parametrize("form", ["async def", "def"])
@pytest.mark.parametrize("exit_call", ["sys.exit(3)", "raise SystemExit('bye')"])
async def test_a_handler_that_exits_fails_like_any_other(
    loader: HandlerLoader, write: Write, form: str, exit_call: str
) -> None:
    write("mine.py", f"import sys\n{form} on_message(message, ctx): {exit_call}\n")
    with pytest.raises(RuntimeError, match="SystemExit"):
        await answers(loader.load("mine"))


async def test_a_plain_function_that_raises_stop_iteration_fails_and_does_not_hang(
    loader: HandlerLoader, write: Write
) -> None:
    """A future cannot carry it: its waiter would wait for ever."""
    write("mine.py", "def on_message(message, ctx): return next(iter(()))")
    async with asyncio.timeout(5):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await answers(loader.load("mine"))


async def test_an_exception_comes_through_as_it_is(loader: HandlerLoader, write: Write) -> None:
    for form in ("async def", "def"):
        write("mine.py", f"{form} on_message(message, ctx): raise LookupError('gone')")
        with pytest.raises(LookupError, match="gone"):
            await answers(loader.load("mine", fresh=True))


async def test_plain_functions_run_at_once_up_to_the_agents_share_of_the_threads(
    loader: HandlerLoader, write: Write
) -> None:
    write(
        "mine.py",
        """
        import threading
        barrier = threading.Barrier(4, timeout=10)
        def on_message(message, ctx):
            barrier.wait()
            return "all were here"
        """,
    )
    handler = loader.load("mine")
    found = await asyncio.gather(*(answers(handler) for _ in range(8)))
    assert found == [["all were here"]] * 8


async def test_idle_is_told_while_no_message_is_worked_on(loader: HandlerLoader, write: Write) -> None:
    write("mine.py", "async def on_message(message, ctx): return None")
    handler = loader.load("mine")
    assert handler.idle.is_set()
    with handler.working():
        with handler.working():
            assert not handler.idle.is_set()
        assert not handler.idle.is_set()
    assert handler.idle.is_set()


async def test_hooks_run_where_they_are_defined(loader: HandlerLoader, write: Write) -> None:
    write(
        "mine.py",
        """
        import threading
        from supervisor.handler import Handler
        seen = {}
        class Mine(Handler):
            async def on_start(self, ctx): seen["on_start"] = (ctx, threading.current_thread())
            def on_stop(self, ctx): seen["on_stop"] = (ctx, threading.current_thread())
            async def on_read(self, receipt, ctx): seen["on_read"] = (receipt, ctx)
            def on_reload(self, ctx): raise SystemExit("bye")
        """,
    )
    handler = loader.load("mine")
    seen: dict[str, Any] = sys.modules["supervisor_agents.mine"].seen
    hooks = ("on_start", "on_stop", "on_reload", "on_typing", "on_read")
    assert [name for name in hooks if handler.wants(name)] == ["on_start", "on_stop", "on_reload", "on_read"]
    await handler.hook("on_read", {"message_id": "m"}, "the context")
    assert seen.pop("on_read") == ({"message_id": "m"}, "the context")
    for name in ("on_start", "on_stop", "on_typing"):
        await handler.hook(name, "the context")
    assert set(seen) == {"on_start", "on_stop"}
    assert seen["on_start"] == ("the context", threading.current_thread())
    assert seen["on_stop"][1] is not threading.current_thread()
    with pytest.raises(RuntimeError, match="raised SystemExit: bye"):
        await handler.hook("on_reload", "the context")


async def test_a_function_has_no_hooks(loader: HandlerLoader, write: Write) -> None:
    write("mine.py", "async def on_message(message, ctx): return None")
    handler = loader.load("mine")
    assert not handler.wants("on_start")
    await handler.hook("on_start", None)
