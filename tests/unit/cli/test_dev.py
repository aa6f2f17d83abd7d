"""Which handler is meant by a file, a folder or a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.cli.dev import handler_at
from supervisor.cli.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "agents" / "bundle").mkdir(parents=True)
    (tmp_path / "agents" / "empty").mkdir()
    for name in ("shout.py", "my-bot.py", "notes.txt", "bundle/__init__.py"):
        (tmp_path / "agents" / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "agents"


@pytest.mark.parametrize(
    ("file", "handler"),
    [
        ("agents/shout.py", "shout"),
        ("agents/shout.py:Shout", "shout:Shout"),
        ("agents/bundle", "bundle"),
        ("agents/bundle/:Desk", "bundle:Desk"),
    ],
)
def test_a_file_or_a_folder_is_a_handler_of_its_folder(folder: Path, file: str, handler: str) -> None:
    assert handler_at(file) == (handler, folder)


@pytest.mark.parametrize("name", ["echo", "echo:Echo", "package.module:Handler"])
def test_a_name_is_looked_for_where_handlers_are(folder: Path, name: str) -> None:
    assert handler_at(name) == (name, None)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("agents/shuot.py", "There is no agents/shuot.py; supervisor agents new shuot"),
        ("shout.py", "There is no shout.py"),
        ("agents/notes.txt", "a handler is a Python file, or a folder with an __init__.py"),
        ("agents/empty", "a handler is a Python file, or a folder with an __init__.py"),
        ("agents/my-bot.py", "its name becomes a Python module's"),
    ],
)
def test_what_can_be_no_handler_is_refused(folder: Path, file: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        handler_at(file)
