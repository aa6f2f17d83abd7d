"""What a row may name in a module: what its author made or offers there, and nothing that it happens to import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from supervisor.core.errors import HandlerError
from supervisor.handlers import HandlerLoader
from supervisor.handlers.folder import split_reference

SHARED = """
from supervisor.handler import Handler

class Base(Handler):
    async def on_message(self, message, ctx): return "base"

base = Base()

def helper(message, ctx): return "helper"

def bare(function):
    def wrapper(*args): return function(*args)
    return wrapper
"""
MINE = """
import os
import subprocess as processes
from functools import lru_cache, partial
from os import system
from os.path import *
from subprocess import run as execute

from . import _shared
from ._shared import Base, bare, base, helper
from ._shared import helper as offered

__all__ = ["offered", "Answers"]

def answer(message, ctx): return "answer"

class Answers:
    def on_message(self, message, ctx): return "Answers"

class Caller:
    def __call__(self, message, ctx): return "Caller"

bound = Answers().on_message
made = partial(helper)
called = Caller()
alias = answer
shell = os.system
opened = open

@bare
def decorated(message, ctx): return "decorated"

@lru_cache
def cached(message, ctx): return "cached"

if True:
    def conditional(message, ctx):
        hidden = answer
        return "conditional"

async def on_message(message, ctx): return "default"
"""


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[HandlerLoader]:
    (tmp_path / "_shared.py").write_text(dedent(SHARED))
    (tmp_path / "mine.py").write_text(dedent(MINE))
    made = HandlerLoader(tmp_path)
    yield made
    made.close()


OWN = ["answer", "Answers", "called", "bound", "made", "alias", "decorated", "cached", "conditional", "on_message"]
HANDLERS = ["Base", "base"]


@pytest.mark.parametrize("name", [*OWN, *HANDLERS, "offered"])
def test_what_a_module_makes_or_offers_may_be_named(loader: HandlerLoader, name: str) -> None:
    assert loader.load(f"mine:{name}").reference == f"mine:{name}"


IMPORTED = ["system", "execute", "helper", "bare", "os", "processes", "join", "_shared", "partial", "lru_cache"]
ALIASES = ["shell", "opened"]
OF_THE_MODULE_ITSELF = ["__class__", "__delattr__", "__init__", "__loader__", "__builtins__"]


@pytest.mark.parametrize("name", [*IMPORTED, *ALIASES, *OF_THE_MODULE_ITSELF])
def test_what_it_imports_or_is_may_not(loader: HandlerLoader, name: str) -> None:
    with pytest.raises(HandlerError, match="is not the module's own; where it is meant, name it in its __all__"):
        loader.load(f"mine:{name}")


@pytest.mark.parametrize("name", ["hidden", "wrapper", "nothing"])
def test_what_is_not_there_is_said_so(loader: HandlerLoader, name: str) -> None:
    with pytest.raises(HandlerError, match=f"its module has no '{name}'"):
        loader.load(f"mine:{name}")


@pytest.mark.parametrize(
    "reference", ["mine:os.system", "mine:Answers.on_message", "mine:a:b", "mine: answer", "mine:1"]
)
def test_a_path_is_no_reference(loader: HandlerLoader, reference: str) -> None:
    with pytest.raises(HandlerError, match="after the colon stands one name of the module"):
        loader.load(reference)
    with pytest.raises(HandlerError, match="is no handler"):
        split_reference(reference)


def test_without_its_source_a_module_is_judged_by_what_it_holds(
    tmp_path: Path, loader: HandlerLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that was installed as bytecode alone."""
    import py_compile  # noqa: PLC0415  this test alone compiles

    package = tmp_path / "site" / "bytecode_handlers"
    package.mkdir(parents=True)
    (package / "source.py").write_text("from os import system\ndef answer(message, ctx): return 'hi'\n")
    py_compile.compile(str(package / "source.py"), cfile=str(package / "__init__.pyc"), doraise=True)
    (package / "source.py").unlink()
    monkeypatch.syspath_prepend(str(package.parent))
    allowed = HandlerLoader(tmp_path, packages=["bytecode_handlers"])
    try:
        # A package's own module is asked by a dotted name.
        (package / "bots.pyc").write_bytes((package / "__init__.pyc").read_bytes())
        assert allowed.load("bytecode_handlers.bots:answer")
        with pytest.raises(HandlerError, match="is not the module's own"):
            allowed.load("bytecode_handlers.bots:system")
    finally:
        allowed.close()
