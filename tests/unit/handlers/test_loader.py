"""Handlers from files that people write: found, loaded, reloaded, and told apart."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.errors import ConfigurationError, HandlerError
from supervisor.handlers import HandlerLoader, find_agents_dir
from tests.support.mounted import Write, answers


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


async def test_a_handler_loads_objects_by_name_under_the_rules_of_handlers(
    loader: HandlerLoader, write: Write, installed: Path
) -> None:
    write("words.py", "from pathlib import Path\nWORDS = ['a', 'b']\n")
    write("mine.py", "async def on_message(message, ctx): return None")
    handler = loader.load("mine")
    assert await handler.load("words:WORDS") == ["a", "b"]
    assert callable(await handler.load("installed_handlers.echo:answer"))
    assert handler.loaded == {"words", "installed_handlers.echo"}
    for reference, said in (
        ("words", "names no object of its module; write words:name"),
        ("words:Path", "'Path' is not the module's own"),
        ("wrds:WORDS", "did you mean words"),
        ("os.path:join", "add it to SUPERVISOR_HANDLER_PACKAGES"),
        ("../words:WORDS", "is no handler"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            await handler.load(reference)


async def test_no_handler_loads_a_bundled_one(beside: HandlerLoader, write: Write) -> None:
    write("mine.py", "async def on_message(message, ctx): return None")
    with pytest.raises(ConfigurationError, match="There is no handler 'echo'"):
        await beside.load("mine").load("echo:on_message")


@pytest.fixture
def beside(folder: Path) -> Iterator[HandlerLoader]:
    """A loader of the folder, with the bundled handlers beside it."""
    with closing(HandlerLoader(folder)) as made:
        yield made


async def test_bundled_handlers_run_beside_own_ones_and_share_nothing_with_them(
    beside: HandlerLoader, write: Write
) -> None:
    """What authors call by the name of a part of a bundled handler is theirs: an old copy, or something else."""
    write("_exchange.py", "raise RuntimeError('not what a webhook needs')\n")
    write("mine.py", "async def on_message(message, ctx): return 'mine'\n")
    assert await answers(beside.load("mine")) == ["mine"]
    assert type(beside.load("webhook").target).__module__ == "supervisor_bundled.webhook"
    assert await answers(beside.load("echo", fresh=True)) == ["Echo: hi"]


async def test_an_own_handler_takes_the_place_of_the_bundled_one(beside: HandlerLoader, write: Write) -> None:
    write("echo.py", "async def on_message(message, ctx): return 'mine'\n")
    assert await answers(beside.load("echo")) == ["mine"]


async def test_an_own_handler_builds_on_a_bundled_one(beside: HandlerLoader, write: Write) -> None:
    write(
        "loud.py",
        """
        from supervisor_bundled import echo
        async def on_message(message, ctx): return (await echo.on_message(message, ctx)).upper()
        """,
    )
    assert await answers(beside.load("loud")) == ["ECHO: HI"]
    write("lost.py", "from .assistant import Assistant\n")
    with pytest.raises(HandlerError, match=r"not in .*; the bundled one is supervisor_bundled\.assistant"):
        beside.load("lost")


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
