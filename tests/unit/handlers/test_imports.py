"""What a handler's import brings along is kept out of the garbage collector's way, once."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.handlers import HandlerLoader
from supervisor.handlers.loader import HEAVY_IMPORT_MODULES

HEAVY = f"""
import sys, types

sys.modules.update({{f"brought_along_{{n}}": types.ModuleType("x") for n in range({HEAVY_IMPORT_MODULES})}})

def on_message(message, ctx):
    return "hi"
"""
LIGHT = """
def on_message(message, ctx):
    return "hi"
"""


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[HandlerLoader]:
    (tmp_path / "heavy.py").write_text(HEAVY)
    (tmp_path / "light.py").write_text(LIGHT)
    made = HandlerLoader(tmp_path)
    yield made
    made.close()
    for name in [name for name in sys.modules if name.startswith("brought_along_")]:
        del sys.modules[name]


def test_what_a_library_brings_along_is_left_out_of_every_later_collection(loader: HandlerLoader) -> None:
    before = gc.get_freeze_count()
    loader.load("heavy")
    assert gc.get_freeze_count() > before + HEAVY_IMPORT_MODULES
    assert not any(getattr(one, "__name__", "") == "brought_along_0" for one in gc.get_objects())


def test_code_that_is_read_anew_again_and_again_stays_collectable(loader: HandlerLoader) -> None:
    before = gc.get_freeze_count()
    loader.load("light")
    assert gc.get_freeze_count() <= before
    loader.load("heavy")
    frozen = gc.get_freeze_count()
    for _ in range(3):
        loader.load("heavy", fresh=True)
        loader.load("light", fresh=True)
    assert gc.get_freeze_count() <= frozen
