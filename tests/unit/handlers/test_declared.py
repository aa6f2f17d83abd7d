"""What a module says of itself is read from its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.handlers import HandlerLoader
from supervisor.handlers.declared import declared_schema, declared_settings, missing_requirements
from tests.support.mounted import Write


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        (
            "REQUIRES = {'json': 'never', 'not_there_1': 'pip install it'}",
            {"not_there_1": "pip install it"},
        ),
        ("from typing import Final\nREQUIRES: Final = {'not_there_1': 'x'}\nraise SystemExit", {"not_there_1": "x"}),
        ("def on_message(message, ctx): ...", {}),
        # Another form says nothing, and is no error: the name was free before.
        ("REQUIRES = ['not_there_1']", {}),
        ("REQUIRES = dict(not_there_1='x')", {}),
        ("REQUIRES = {'not_there_1': 1, 2: 'x', 'a.b': 'x', '': 'x'}", {}),
        ("REQUIRES: dict", {}),
        ("no python", {}),
    ],
)
def test_what_a_module_needs_is_read_and_not_run(tmp_path: Path, source: str, missing: dict[str, str]) -> None:
    (tmp_path / "one.py").write_text(source)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "__init__.py").write_text(source)
    assert missing_requirements("one", tmp_path) == missing_requirements("two", tmp_path) == missing
    assert missing_requirements("gone", tmp_path) == {}


@pytest.mark.parametrize(
    ("source", "declared"),
    [
        ("SETTINGS = ('city', 'units')", ("city", "units")),
        ("from typing import Final\nSETTINGS: Final = ['city']\nraise SystemExit", ("city",)),
        ("SETTINGS = ()", ()),
        ("def on_message(message, ctx): ...", None),
        ("SETTINGS = {'city': {'type': 'string'}, 'units': {}}", ("city", "units")),
        ("SETTINGS = {'city': 'Rome'}", None),
        ("SETTINGS = ('city', 1)", None),
        ("SETTINGS = names()", None),
        ("no python", None),
    ],
)
def test_what_a_row_may_set_is_read_and_not_run(tmp_path: Path, source: str, declared: object) -> None:
    (tmp_path / "one.py").write_text(source)
    assert declared_settings("one", tmp_path) == declared


def test_what_values_settings_take_is_read_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("SETTINGS = {'city': {'type': 'string'}, 'units': {}}\nraise SystemExit")
    (tmp_path / "two.py").write_text("SETTINGS = ('city', 'units')")
    (tmp_path / "three.py").write_text("SETTINGS = {'city': {'type': 'string'}, 'units': 'metric'}")
    assert declared_schema("one", tmp_path) == {"city": {"type": "string"}, "units": {}}
    assert declared_schema("two", tmp_path) == declared_schema("three", tmp_path) == {}


def test_a_loaded_handler_has_the_settings_that_its_module_says(loader: HandlerLoader, write: Write) -> None:
    answers = "async def on_message(message, ctx): ...\n"
    write("says.py", f"SETTINGS = ['city']\n{answers}")
    write("silent.py", answers)
    assert loader.load("says").settings == ("city",)
    assert loader.load("silent").settings is None
