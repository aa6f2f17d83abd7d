"""What is wrong with a handler is said as it is loaded, with file and line; what worked before goes on working."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from supervisor.core.errors import HandlerError
from supervisor.handler import Context
from supervisor.handlers import HandlerLoader
from supervisor.handlers.folder import handler_names
from supervisor.handlers.review import HOOKS
from tests.support.mounted import MESSAGE, Write, answers
from tests.support.paths import ROOT

#: What can never answer, and how it is said.
HOPELESS = {
    "too little": (
        "async def on_message(message):\n    return 'x'\n",
        r"on_message\(message\) is called with \(message, ctx\), which it does not take \(bad.py, line 1\)",
    ),
    "too much": ("def on_message(message, ctx, more): ...\n", r"on_message\(message, ctx, more\) is called with"),
    "named only": ("def on_message(*, message, ctx): ...\n", r"which it does not take"),
    "a method without self": (
        "class Bad:\n    async def on_message(message, ctx): ...\n\nhandler = Bad()\n",
        r"on_message\(ctx\) is called with .*; a method's first parameter is self \(bad.py, line 2\)",
    ),
    "no on_message": (
        "from supervisor.handler import Handler\n\nclass Bad(Handler):\n    def on_mesage(self, message, ctx): ...\n",
        r"Bad has no on_message: on_mesage is no hook \(bad.py, line 3\)",
    ),
    "on_start that cannot be called": (
        "class Bad:\n    def on_message(self, message, ctx): ...\n    def on_start(self): ...\n\nhandler = Bad()\n",
        r"on_start\(\) is called with \(ctx\), which it does not take \(bad.py, line 3\)",
    ),
    "a slip for on_message": (
        "async def onMessage(message, ctx): ...\n",
        r"neither .* nor an on_message; did you mean on_message by onMessage\? \(bad.py, line 1\)",
    ),
    "a class that is not named": (
        "class Desk:\n    def on_message(self, message, ctx): ...\n",
        r"nor an on_message; name the class: bad:Desk",
    ),
    "a constructor that wants more": (
        "from supervisor.handler import Handler\n\nclass Bad(Handler):\n    def __init__(self):\n        self.x = y\n"
        "    def on_message(self, message, ctx): ...\n",
        r"cannot be made: NameError: name 'y' is not defined \(bad.py, line 5\)",
    ),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_what_could_never_answer_is_refused_with_its_place(loader: HandlerLoader, write: Write, name: str) -> None:
    code, said = HOPELESS[name]
    write("bad.py", code)
    with pytest.raises(HandlerError, match=said):
        loader.load("bad:handler" if "handler = " in code else "bad")


#: What answers, and what is said of it all the same.
DOUBTFUL = {
    "a misspelt hook": (
        "    def on_strat(self, ctx): ...\n",
        "on_strat is no hook, and nobody calls it; did you mean on_start? (desk.py, line 5)",
    ),
    "a hook in camel case": (
        "    async def onTyping(self, typing, ctx): ...\n",
        "onTyping is no hook, and nobody calls it; did you mean on_typing? (desk.py, line 5)",
    ),
    "a hook that cannot be called": (
        "    def on_read(self, ctx): ...\n",
        "on_read(ctx) is called with (receipt, ctx), which it does not take (desk.py, line 5)",
    ),
    "a call that nobody awaits": (
        "    async def tell(self, ctx):\n        ctx.send('x')\n        await ctx.send('y')\n",
        "ctx.send(…) is not awaited, so it does nothing: await ctx.send(…) (desk.py, line 6)",
    ),
    "a value that nobody awaits": (
        "    async def look(self, ctx):\n        return f'{ctx.history(5)}'\n",
        "ctx.history(…) is not awaited, so it does nothing: await ctx.history(…) (desk.py, line 6)",
    ),
    "a setting that is a slip": (
        "    def look(self, ctx):\n        return ctx.settings['citty']\nSETTINGS = ('city',)\n",
        "the setting citty is read, and SETTINGS has none; did you mean city? (desk.py, line 6)",
    ),
    "settings in another form": (
        "SETTINGS = 'city'\n",
        'SETTINGS is neither a tuple of names nor a dict of schemas; write ("city",) for one (desk.py, line 5)',
    ),
}
DESK = """from supervisor.handler import Handler
class Desk(Handler):
    def on_message(self, message, ctx):
        return "hello"
"""


@pytest.mark.parametrize("name", DOUBTFUL)
async def test_what_is_doubtful_is_told_and_answers(loader: HandlerLoader, write: Write, name: str) -> None:
    code, said = DOUBTFUL[name]
    write("desk.py", DESK + code)
    handler = loader.load("desk")
    assert handler.notes == (said,)
    assert await answers(handler) == ["hello"]


async def test_a_hook_beside_a_function_is_one_that_nobody_calls(loader: HandlerLoader, write: Write) -> None:
    write("plain.py", "def on_message(message, ctx):\n    return 'hello'\n\ndef on_start(ctx): ...\n")
    handler = loader.load("plain")
    (note,) = handler.notes
    assert note.startswith("on_start stands beside on_message, where nobody calls it")
    assert note.endswith("(plain.py, line 4)")
    assert await answers(handler) == ["hello"]


async def test_a_class_that_only_listens_goes_on_listening(loader: HandlerLoader, write: Write) -> None:
    write(
        "ears.py", "from supervisor.handler import Handler\nclass Ears(Handler):\n    def on_read(self, r, ctx): ...\n"
    )
    assert loader.load("ears").notes == ("Ears has no on_message (ears.py, line 2)",)


#: What looks odd, is called as it should be, and is nobody's slip.
FINE = {
    "any arguments": "def on_message(*args, **kwargs): return 'fine'\n",
    "more with defaults": "def on_message(m, c, limit=3): return 'fine'\n",
    "a decorator around less": (
        "import functools\n"
        "def only_text(f):\n"
        "    @functools.wraps(f)\n"
        "    def inner(message, ctx):\n        return f(message)\n"
        "    return inner\n"
        "@only_text\ndef on_message(message): return 'fine'\n"
    ),
    "a static method": (
        "from supervisor.handler import Handler\n"
        "class A(Handler):\n    @staticmethod\n    def on_message(message, ctx): return 'fine'\n"
    ),
    "a name of its own that it calls": (
        "from supervisor.handler import Handler\n"
        "class A(Handler):\n"
        "    def on_message(self, message, ctx): return self.on_messages([message])\n"
        "    def on_messages(self, messages): return 'fine'\n"
    ),
    "an attribute": (
        "from supervisor.handler import Handler\n"
        "class A(Handler):\n    def __init__(self): self.on_message = lambda message, ctx: 'fine'\n"
    ),
    "a signature that says something else": (
        "import inspect\n"
        "def on_message(message, ctx): return 'fine'\n"
        "on_message.__signature__ = inspect.signature(lambda: None)\n"
    ),
    "one that cannot be looked at": (
        "class A:\n"
        "    def on_message(self, message, ctx): return 'fine'\n"
        "    @property\n    def on_start(self): raise SystemExit\n"
        "class B(A):\n    @property\n    def __class__(self): raise KeyboardInterrupt\n"
        "handler = A()\n"
    ),
    "a hook beside a function that it calls itself": (
        "def on_start(ctx): ...\ndef on_message(message, ctx):\n    on_start(ctx)\n    return 'fine'\n"
    ),
    "settings that are the platform's": (
        "SETTINGS = ('city',)\ndef on_message(message, ctx):\n    ctx.settings.get('temperature')\n    return 'fine'\n"
    ),
}


@pytest.mark.parametrize("name", FINE)
async def test_what_works_is_left_in_peace(loader: HandlerLoader, write: Write, name: str) -> None:
    code = FINE[name]
    write("fine.py", code)
    handler = loader.load("fine:handler" if "handler = " in code else "fine")
    assert handler.notes == ()
    context = cast("Context", SimpleNamespace(settings={}))
    assert [part async for part in handler.parts(MESSAGE, context)] == ["fine"]


@pytest.mark.parametrize("folder", ["agents", "tests/fixtures/0.1.0/given/handlers"])
def test_nothing_is_said_of_handlers_that_are_there(folder: str) -> None:
    loader = HandlerLoader(ROOT / folder)
    names = handler_names(ROOT / folder)
    assert names
    for name in names:
        assert loader.load("duck:Desk" if name == "duck" else name).notes == (), name
    loader.close()


def test_the_hooks_are_those_that_authors_are_promised() -> None:
    assert HOOKS["on_message"] == ("message", "ctx")
    assert HOOKS["on_start"] == ("ctx",)
    assert HOOKS["on_read"] == ("receipt", "ctx")
