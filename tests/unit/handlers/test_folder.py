"""The folder of handlers: a bundled handler that is hidden is named, and what a module needs is read from its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.handlers.folder import bundled_dir, handler_names, missing_requirements, unknown_handler


def test_a_bundled_handler_that_a_folder_hides_is_said_to_be_hidden(tmp_path: Path) -> None:
    bundled = bundled_dir()
    assert bundled is not None
    for name, source in (("echo", "echo.py"), ("assistant", "assistant")):
        error = str(unknown_handler(name, tmp_path, ["weather"]))
        assert error.startswith(f"There is no handler {name!r} in {tmp_path}; this folder replaces the bundled one")
        assert f"copy {bundled / source} into it" in error
    # Nothing replaces the bundled folder itself.
    assert "did you mean echo?" in str(unknown_handler("ecco", bundled, handler_names(bundled)))


def test_near_names_are_shown_else_all(tmp_path: Path) -> None:
    assert str(unknown_handler("wether", tmp_path, ["rain", "weather"])).endswith("; did you mean weather?")
    assert str(unknown_handler("xyz", tmp_path, ["other", "weather"])).endswith("; there are: other, weather")
    assert str(unknown_handler("xyz", tmp_path, [])).endswith("; there are: none")


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
