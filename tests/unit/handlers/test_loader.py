"""Handlers of every form, from files that people write: loaded, reloaded, and never able to end the process."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import pytest

from supervisor.core.errors import ConfigurationError, HandlerError
from supervisor.handler import Context, Message, Part
from supervisor.handlers import DaemonThreads, HandlerLoader, MountedHandler, ThreadShare, TimeLimit, find_agents_dir

MESSAGE = Message(conversation_id="c" * 24, role="user", content="hi")
NO_CONTEXT = cast("Context", None)
Write = Callable[[str, str], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    agents = tmp_path / "agents"
    agents.mkdir()
    return agents


@pytest.fixture
def write(folder: Path) -> Write:
    def to(name: str, code: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(code), encoding="utf-8")

    return to


@pytest.fixture
def loader(folder: Path) -> Iterator[HandlerLoader]:
    made = HandlerLoader(folder, packages=["installed_handlers"], threads=8)
    yield made
    made.close()


async def answers(handler: MountedHandler) -> list[Part]:
    return [part async for part in handler.parts(MESSAGE, NO_CONTEXT)]


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


async def test_loaders_of_several_folders_each_load_their_own(
    loader: HandlerLoader, write: Write, tmp_path: Path
) -> None:
    write("here.py", "from .words import WORD\nasync def on_message(message, ctx): return WORD\n")
    write("words.py", "WORD = 'ours'\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "there.py").write_text("from .words import WORD\nasync def on_message(message, ctx): return WORD\n")
    (elsewhere / "words.py").write_text("WORD = 'theirs'\n")
    with closing(HandlerLoader(elsewhere)) as other:
        for _ in range(2):
            assert await answers(loader.load("here")) == ["ours"]
            assert await answers(other.load("there")) == ["theirs"]


def test_names_are_the_handlers_of_the_folder(loader: HandlerLoader, write: Write) -> None:
    for name in ("b.py", "a/__init__.py", "_shared.py", "not-a-name.py", "notes.txt", "empty/readme.md", ".hidden.py"):
        write(name, "")
    assert loader.names() == ["a", "b"]


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(loader: HandlerLoader, write: Write) -> None:
    write("support.py", "")
    with pytest.raises(HandlerError, match=r"There is no handler 'suport' in .*; did you mean support\?"):
        loader.load("suport")
    with pytest.raises(HandlerError, match=r"'xyz' .*; there are: support"):
        loader.load("xyz")


@pytest.mark.parametrize("reference", ["", ":x", "../etc", "a b", "a/b", "a..b", ".a", "a-b", "1a"])
def test_what_is_no_reference(loader: HandlerLoader, reference: str) -> None:
    with pytest.raises(HandlerError, match="is no handler; write echo"):
        loader.load(reference)


async def test_an_attribute_chooses(loader: HandlerLoader, write: Write) -> None:
    write(
        "many.py",
        """
        from supervisor.handler import Handler
        class One(Handler):
            async def on_message(self, message, ctx): return "one"
        class Two(Handler):
            async def on_message(self, message, ctx): return "two"
            @staticmethod
            async def other(message, ctx): return "other"
        other = Two.other
        """,
    )
    assert await answers(loader.load("many:Two")) == ["two"]
    assert await answers(loader.load("many:other")) == ["other"]
    with pytest.raises(HandlerError, match=r"several classes \(One, Two\); name one: many:One"):
        loader.load("many")
    with pytest.raises(HandlerError, match="its module has no 'Three'"):
        loader.load("many:Three")


async def test_an_imported_handler_class_is_not_the_modules_own(loader: HandlerLoader, write: Write) -> None:
    write("base.py", "from supervisor.handler import Handler\nclass Base(Handler):\n    pass\n")
    write(
        "mine.py",
        "from .base import Base\nclass Mine(Base):\n    async def on_message(self, message, ctx): return 'mine'\n",
    )
    assert await answers(loader.load("mine")) == ["mine"]


@pytest.mark.parametrize(
    ("code", "reference", "said"),
    [
        ("x = 1", "mine", "neither a Handler class nor an on_message"),
        ("x = 1", "mine:x", "has no on_message"),
        ("def broken(:", "mine", "fails to load: SyntaxError"),
        ("raise SystemExit(1)", "mine", "fails to load: SystemExit"),
        ("1 / 0", "mine", "fails to load: ZeroDivisionError"),
        ("import no_such_package_here", "mine", "needs the package 'no_such_package_here', which is not installed"),
        ("import supervisor.no_such", "mine", "needs the package 'supervisor.no_such'"),
        ("import s", "mine", "needs the package 's', which is not installed"),
        ("from . import missing", "mine", "fails to load: ImportError"),
        ("from .missing import x", "mine", "needs the module 'missing', which is not in"),
        ("raise ModuleNotFoundError('by hand')", "mine", "needs by hand"),
        ("class M:\n    def __init__(self): 1 / 0", "mine:M", "cannot be made: ZeroDivisionError"),
        ("class M:\n    def __init__(self): raise SystemExit(2)", "mine:M", "cannot be made: SystemExit"),
        ("class M:\n    def __init__(self, x): pass", "mine:M", "cannot be made: TypeError"),
    ],
)
def test_code_that_does_not_load_is_the_agents_trouble_alone(
    loader: HandlerLoader, write: Write, code: str, reference: str, said: str
) -> None:
    write("mine.py", code)
    with pytest.raises(HandlerError, match="mine") as caught:
        loader.load(reference)
    assert said in str(caught.value)
    write("mine.py", "async def on_message(message, ctx): return 'mended'")
    assert loader.load("mine", fresh=True)


def test_a_failed_load_keeps_the_cause_for_the_traceback(loader: HandlerLoader, write: Write) -> None:
    write("mine.py", "1 / 0")
    with pytest.raises(HandlerError) as caught:
        loader.load("mine")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_folder_that_went_away_is_a_handler_error(loader: HandlerLoader, folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(HandlerError, match="cannot be read"):
        loader.load("mine")


async def test_a_package_may_import_its_own_modules(loader: HandlerLoader, write: Write) -> None:
    write("team/__init__.py", "from .answer import on_message\n")
    write("team/answer.py", "from . import words\nasync def on_message(message, ctx): return words.HI\n")
    write("team/words.py", "HI = 'hi'\n")
    assert await answers(loader.load("team")) == ["hi"]


async def test_fresh_reads_changed_code_and_what_it_shares(
    loader: HandlerLoader, write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when both edits fall into one second and have one length, which bytecode cannot tell apart."""
    write("_shared.py", "WORD = 'a'\n")
    write("team/__init__.py", "from .answer import on_message\n")
    answer = "from .._shared import WORD\nasync def on_message(message, ctx): return WORD + '{}'\n"
    write("team/answer.py", answer.format("1"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    times = {path: path.stat().st_mtime for path in (folder / "_shared.py", folder / "team" / "answer.py")}
    first = loader.load("team")
    write("_shared.py", "WORD = 'b'\n")
    write("team/answer.py", answer.format("2"))
    for path, at in times.items():
        os.utime(path, (at, at))
    assert await answers(loader.load("team")) == ["a1"]
    assert await answers(loader.load("team", fresh=True)) == ["b2"]
    assert await answers(first) == ["a1"], "messages under way end with the code that began them"


async def test_each_load_of_a_class_is_an_instance_of_its_own(loader: HandlerLoader, write: Write) -> None:
    write(
        "counting.py",
        """
        from supervisor.handler import Handler
        class Counting(Handler):
            def __init__(self): self.count = 0
            async def on_message(self, message, ctx):
                self.count += 1
                return str(self.count)
        """,
    )
    one, other = loader.load("counting"), loader.load("counting")
    assert await answers(one) + await answers(one) + await answers(other) == ["1", "2", "1"]


def test_classes_of_handlers_can_be_pickled(loader: HandlerLoader, write: Write) -> None:
    write(
        "mine.py",
        """
        from dataclasses import dataclass
        @dataclass
        class Note:
            text: str
        async def on_message(message, ctx): return None
        """,
    )
    loader.load("mine")
    note = sys.modules["supervisor_agents.mine"].Note("hi")
    assert pickle.loads(pickle.dumps(note)) == note


async def test_the_import_name_agents_stays_what_it_was(
    loader: HandlerLoader, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openai-agents' import name is ``agents``: a handler must reach it, not our folder."""
    site = tmp_path / "site"
    (site / "agents").mkdir(parents=True)
    (site / "agents" / "__init__.py").write_text("WHOSE = 'the package of others'\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "agents", raising=False)
    path = list(sys.path)
    write("mine.py", "import agents\nasync def on_message(message, ctx): return agents.WHOSE\n")
    assert await answers(loader.load("mine")) == ["the package of others"]
    assert sys.path == path
    monkeypatch.delitem(sys.modules, "agents")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    site = tmp_path / "site"
    for package in ("installed_handlers", "installed_handlers_evil"):
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text("")
        (site / package / "echo.py").write_text("async def answer(message, ctx): return 'installed'\n")
    (site / "installed_handlers" / "needy.py").write_text("import install\n")
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.startswith("installed_handlers")]:
        del sys.modules[name]


async def test_installed_packages_run_where_the_deployment_allows_them(loader: HandlerLoader, installed: Path) -> None:
    assert await answers(loader.load("installed_handlers.echo:answer")) == ["installed"]
    with pytest.raises(HandlerError, match="needs an attribute"):
        loader.load("installed_handlers.echo")
    with pytest.raises(HandlerError, match=r"There is no module 'installed_handlers\.gone'"):
        loader.load("installed_handlers.gone:answer")
    with pytest.raises(HandlerError, match="needs the package 'install', which is not installed"):
        loader.load("installed_handlers.needy:answer")


@pytest.mark.parametrize("reference", ["installed_handlers_evil.echo:answer", "os.path:join", "subprocess.x:call"])
def test_no_other_package_does(loader: HandlerLoader, installed: Path, reference: str) -> None:
    with pytest.raises(HandlerError, match="not allowed; add it to SUPERVISOR_HANDLER_PACKAGES"):
        loader.load(reference)
    assert "installed_handlers_evil.echo" not in sys.modules


def test_the_agents_folder_is_the_one_that_is_set_else_here_else_the_bundled_one(tmp_path: Path) -> None:
    here = tmp_path / "agents"
    assert (find_agents_dir(None, cwd=tmp_path) / "echo.py").is_file()
    here.mkdir()
    assert find_agents_dir(None, cwd=tmp_path) == here
    other = tmp_path / "other"
    other.mkdir()
    assert find_agents_dir(other, cwd=tmp_path) == other
    with pytest.raises(ConfigurationError, match="SUPERVISOR_AGENTS_DIR"):
        find_agents_dir(tmp_path / "gone", cwd=tmp_path)


SLOW_IMPORT = """
import asyncio, time
from supervisor.handler import Handler
from ._counted import imported
imported.append(True)
time.sleep(0.2)
class Slow(Handler):
    async def on_message(self, message, ctx): return "slow"
"""


async def test_agents_that_load_one_module_at_once_share_it(loader: HandlerLoader, write: Write) -> None:
    write("_counted.py", "imported = []\n")
    write("slow.py", SLOW_IMPORT)
    handlers = await asyncio.gather(*(asyncio.to_thread(loader.load, "slow") for _ in range(4)))
    assert sys.modules["supervisor_agents._counted"].imported == [True]
    for handler in handlers:
        assert type(handler.target) is sys.modules["supervisor_agents.slow"].Slow
        assert await answers(handler) == ["slow"]


async def test_reloads_at_once_do_not_pull_modules_from_under_each_other(loader: HandlerLoader, write: Write) -> None:
    write("_counted.py", "imported = []\n")
    write("slow.py", SLOW_IMPORT)
    loads = [asyncio.to_thread(loader.load, "slow", fresh=fresh) for fresh in (False, True, True, False)]
    for handler in await asyncio.gather(*loads):
        assert await answers(handler) == ["slow"]


BLOCKING = """
import threading
release = threading.Event()
started = []
def on_message(message, ctx):
    started.append(threading.current_thread())
    release.wait(30)
    return "done"
"""


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def test_an_agent_has_a_share_of_the_threads(loader: HandlerLoader, write: Write) -> None:
    write("blocking.py", BLOCKING)
    write("plain.py", "def on_message(message, ctx): return 'plain'")
    blocked = [asyncio.ensure_future(answers(handler)) for handler in [loader.load("blocking")] * 20]
    blocking = sys.modules["supervisor_agents.blocking"]
    await until(lambda: len(blocking.started) == 4)
    assert await answers(loader.load("plain")) == ["plain"]
    assert len(blocking.started) == 4
    blocking.release.set()
    assert await asyncio.gather(*blocked) == [["done"]] * 20


@pytest.mark.parametrize(
    ("threads", "given", "share"), [(1, None, 1), (2, None, 1), (3, None, 1), (32, None, 16), (8, 3, 3), (8, 99, 7)]
)
def test_a_share_is_half_of_the_threads_or_as_given_and_never_all(
    folder: Path, write: Write, threads: int, given: int | None, share: int
) -> None:
    write("plain.py", "def on_message(message, ctx): return 'plain'")
    loader = HandlerLoader(folder, threads=threads, threads_per_agent=given)
    assert loader.load("plain").threads.size == share
    loader.close()


async def test_who_stops_waiting_for_a_thread_takes_none(folder: Path, write: Write) -> None:
    write("blocking.py", BLOCKING)
    loader = HandlerLoader(folder, threads=2)
    handler = loader.load("blocking")
    blocking = sys.modules["supervisor_agents.blocking"]
    first = asyncio.ensure_future(answers(handler))
    await until(lambda: blocking.started)
    waiting = [asyncio.ensure_future(answers(handler)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting[:9]:
        task.cancel()
    await asyncio.wait(waiting[:9])
    assert all(task.cancelled() for task in waiting[:9])
    blocking.release.set()
    assert await first + await waiting[9] == ["done", "done"]
    assert len(blocking.started) == 2
    assert await answers(handler) == ["done"]
    loader.close()


async def test_a_thread_counts_for_its_agent_until_its_end_also_when_nobody_waits(folder: Path, write: Write) -> None:
    write("blocking.py", BLOCKING)
    loader = HandlerLoader(folder, threads=2)
    handler = loader.load("blocking")
    blocking = sys.modules["supervisor_agents.blocking"]
    left = asyncio.ensure_future(answers(handler))
    await until(lambda: blocking.started)
    left.cancel()
    await asyncio.wait([left])
    second = asyncio.ensure_future(answers(handler))
    done, _ = await asyncio.wait([second], timeout=0.1)
    assert not done
    assert len(blocking.started) == 1
    blocking.release.set()
    assert await second == ["done"]
    loader.close()


async def test_time_stands_still_while_a_handler_waits_for_a_thread() -> None:
    pool = DaemonThreads(1, "limited")
    share, release = ThreadShare(pool, 1), threading.Event()
    first, second = TimeLimit(60), TimeLimit(0.05)
    blocked = asyncio.ensure_future(share.run(first, release.wait, 30))
    await until(lambda: first.thread and first.thread.running())
    waiting = asyncio.ensure_future(share.run(second, time.sleep, 0.3))
    done, _ = await asyncio.wait([waiting, second.reached], timeout=0.3)
    assert not done
    assert 0 < second.left <= 0.05
    release.set()
    await asyncio.wait([waiting, second.reached], return_when=asyncio.FIRST_COMPLETED)
    assert second.reached.done()
    assert not waiting.done()
    await asyncio.gather(blocked, waiting)
    assert not first.reached.done()
    for limit in (first, second):
        limit.close()
        limit.go()
        limit.close()
    pool.shutdown()


def test_an_abandoned_thread_is_replaced_until_it_is_back() -> None:
    pool, release = DaemonThreads(1, "replaced", replaced=2), threading.Event()
    stuck: list[Future[Any]] = []
    for abandoned in range(3):
        stuck.append(pool.submit(release.wait, 30))
        assert wait_until(stuck[-1].running)
        assert pool.alive == abandoned + 1
        if abandoned < 2:
            pool.abandon(stuck[-1])
    assert pool.limit == 3
    waiting = pool.submit(int)
    pool.abandon(stuck[2])
    assert pool.limit == 3, "the bound"
    assert not waiting.done()
    release.set()
    assert waiting.result(5) == 0
    assert wait_until(lambda: pool.alive == 1)
    assert pool.limit == 1
    assert pool.submit(int).result(5) == 0
    pool.shutdown()


def test_what_waits_is_taken_at_once_when_a_thread_is_abandoned() -> None:
    pool, release = DaemonThreads(1, "replaced"), threading.Event()
    stuck = pool.submit(release.wait, 30)
    assert wait_until(stuck.running)
    waiting = [pool.submit(int) for _ in range(5)]
    pool.abandon(stuck)
    assert [future.result(5) for future in waiting] == [0] * 5
    release.set()
    assert wait_until(lambda: pool.alive == 1)
    pool.shutdown()


def test_abandoning_what_never_ran_or_is_done_changes_nothing() -> None:
    pool, release = DaemonThreads(1, "replaced"), threading.Event()
    running, queued = pool.submit(release.wait, 30), pool.submit(int)
    pool.abandon(queued)
    assert queued.cancelled()
    release.set()
    assert running.result(5)
    pool.abandon(running)
    assert pool.limit == 1
    assert pool.submit(int).result(5) == 0
    pool.shutdown()


def test_a_system_without_threads_to_spare_does_with_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, release = DaemonThreads(2, "scarce"), threading.Event()
    running = pool.submit(release.wait, 30)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        waiting = pool.submit(int)
        with pytest.raises(RuntimeError, match="new thread"):
            DaemonThreads(1, "none").submit(int)
    release.set()
    assert running.result(5)
    assert waiting.result(5) == 0
    pool.shutdown()


def test_what_waits_for_a_thread_is_cancelled_when_they_are_let_go() -> None:
    pool, release = DaemonThreads(1, "closing"), threading.Event()
    running, waiting = pool.submit(release.wait, 30), pool.submit(int)
    assert wait_until(running.running)
    pool.shutdown()
    assert waiting.cancelled()
    release.set()
    assert running.result(5)
    assert wait_until(lambda: pool.alive == 0)


def test_many_callers_at_once_lose_no_call() -> None:
    """Calls, abandonments and ends in every order: each call runs once, and the pool is what it was."""
    pool = DaemonThreads(3, "busy", replaced=4)
    ran: list[int] = []

    def call(number: int) -> int:
        time.sleep(0.0005 * (number % 3))
        ran.append(number)
        return number

    def caller(start: int) -> None:
        futures = [pool.submit(call, number) for number in range(start, start + 50)]
        for future in futures[::7]:
            if future.running():
                pool.abandon(future)
        assert [future.result(10) for future in futures] == list(range(start, start + 50))

    callers = ThreadPoolExecutor(8)
    list(callers.map(caller, range(0, 400, 50)))
    callers.shutdown()
    assert sorted(ran) == list(range(400))
    assert wait_until(lambda: pool.limit == 3 and pool.alive <= 3)
    pool.shutdown()
    assert wait_until(lambda: pool.alive == 0)


def wait_until(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.002)
    return condition()


def test_a_handler_that_blocks_does_not_keep_the_process_from_ending() -> None:
    code = """
    import threading
    from supervisor.handlers import DaemonThreads
    threads, running = DaemonThreads(2, "handler"), threading.Event()
    def block():
        running.set()
        threading.Event().wait()
    threads.submit(block)
    running.wait()
    threads.shutdown()
    """
    subprocess.run([sys.executable, "-c", dedent(code)], check=True, timeout=30)


def test_threads_are_reused_and_end_when_let_go() -> None:
    threads = DaemonThreads(3, "reused")
    names = {threads.submit(lambda: threading.current_thread().name).result(5) for _ in range(20)}
    assert len(names) <= 3
    with pytest.raises(LookupError):
        threads.submit({}.__getitem__, "x").result(5)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="closed"):
        threads.submit(print)
    for thread in [t for t in threading.enumerate() if t.name.startswith("reused")]:
        thread.join(5)
        assert not thread.is_alive()
