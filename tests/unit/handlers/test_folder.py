"""Where handlers are: a folder of one's own before the bundled ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.errors import HandlerNotFoundError
from supervisor.handlers.folder import Folders, bundled_dir, handler_names
from supervisor.settings.kinds import BUNDLED_HANDLERS


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / f"{name}.py").touch()
    return tmp_path


def test_what_is_said_to_be_bundled_is_what_comes_with_the_supervisor() -> None:
    bundled = bundled_dir()
    assert bundled is not None
    assert handler_names(bundled) == sorted(BUNDLED_HANDLERS)


def test_an_own_handler_comes_before_the_bundled_one_of_its_name(tmp_path: Path) -> None:
    folders = Folders(folder_of(tmp_path, "echo", "weather"))
    assert folders.names() == ["assistant", "command", "echo", "tour", "weather", "webhook"]
    assert folders.own_names() == ["echo", "weather"]
    assert folders.home("echo") == tmp_path
    assert folders.home("assistant") == bundled_dir()


@pytest.mark.parametrize("own", [True, False], ids=["beside a folder of one's own", "alone"])
def test_bundled_handlers_that_are_left_out_are_not_there(tmp_path: Path, own: bool) -> None:
    bundled = bundled_dir()
    assert bundled is not None
    folders = Folders(tmp_path if own else bundled, ("echo",))
    assert folders.names() == ["echo"]
    assert folders.home("echo") == bundled
    with pytest.raises(HandlerNotFoundError, match="SUPERVISOR_BUNDLED_HANDLERS leaves the bundled one out"):
        folders.home("command")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("wether", "did you mean weather?"), ("ecco", "did you mean echo?"), ("xyz", "there are: echo, rain, weather")],
)
def test_near_names_are_shown_else_all(tmp_path: Path, name: str, hint: str) -> None:
    folders = Folders(folder_of(tmp_path, "rain", "weather"), ("echo",))
    with pytest.raises(HandlerNotFoundError) as caught:
        folders.home(name)
    assert str(caught.value) == f"There is no handler {name!r} in {tmp_path}; {hint}"


def test_without_any_handler_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(HandlerNotFoundError, match="; there are: none"):
        Folders(tmp_path, ()).home("echoes")
