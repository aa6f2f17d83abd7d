"""``supervisor agents new``: what it writes works as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from supervisor.cli.templates import Kind
from supervisor.handlers import HandlerLoader
from tests.support.command import Command, InProcess, one_line
from tests.support.paths import ROOT, STRICT_MYPY

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return InProcess(tmp_path)


def python(folder: Path, *args: str) -> str:
    """Run a module of Python in a folder; its output, once it succeeded."""
    done = subprocess.run(
        [sys.executable, "-m", *args], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_written_passes_as_it_is(command: Command, tmp_path: Path) -> None:
    kinds = get_args(Kind)
    for kind in kinds:
        said = command.ok("agents", "new", f"my_{kind}", "--template", kind)
        assert f"tests/test_my_{kind}.py" in said
        assert f"supervisor dev agents/my_{kind}.py" in said
        # Both are installed here.
        assert "pip install" not in said
    assert "supervisor agents add ID --handler my_llm" in said
    # A folder of one's own hides no bundled handler.
    command.ok("agents", "add", f"{1:024x}", "--handler", "echo", "--secret-env", "AGENT_SECRET")
    assert "9 passed" in python(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "tests")
    # As the author's own project is checked: what comes with the supervisor is an installed package like any other.
    (tmp_path / "imports.py").write_text("from supervisor_bundled import assistant, command, echo, tour, webhook\n")
    python(tmp_path, *STRICT_MYPY, *(f"agents/my_{kind}.py" for kind in kinds), "imports.py", "tests")
    python(tmp_path, *STRICT_MYPY, *map(str, (ROOT / "examples").rglob("*.py")))
    loader = HandlerLoader(tmp_path / "agents")
    assert [loader.load(f"my_{kind}").notes for kind in kinds] == [()] * len(kinds)
    loader.close()


def test_a_name_that_others_have_is_spoken_of(command: Command) -> None:
    for name, said in (
        ("echo", "echo is a bundled handler, whose place"),
        ("json", "json is a module of this Python too"),
    ):
        done = command("agents", "new", name)
        assert done.returncode == 0
        assert said in one_line(done.stderr)
    assert command("agents", "new", "my_own").stderr == ""


def test_what_its_test_needs_and_is_not_there_is_said(tmp_path: Path) -> None:
    """In a Python that has neither pytest nor the extra."""
    without = "import sys\nsys.modules.update(dict.fromkeys(['pytest', 'pydantic_ai']))\n"
    command = "sys.argv = ['supervisor', 'agents', 'new', 'clever', '--template', 'llm']\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{without}{command}from supervisor.cli import main\nmain()"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    first = lines.index("Next:") + 1
    clone = os.path.relpath(ROOT, tmp_path)
    assert lines[first : first + 3] == [
        f"  python -m pip install -c {clone}/constraints.txt -e '{clone}[llm]'",
        "  python -m pip install pytest",
        "  python -m pytest tests/test_clever.py",
    ]


def test_in_a_clone_its_test_needs_nothing_of_what_the_clones_own_need(tmp_path: Path) -> None:
    for folder in ("supervisor", "agents"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = ['--no-such-option']\n")
    said = python(tmp_path, "supervisor", "agents", "new", "weather")
    [line] = [line for line in said.splitlines() if "tests/test_weather.py" in line and "python -m" in line]
    assert "passed" in python(tmp_path, *line.split()[2:], "-p", "no:cacheprovider")


def test_another_folder_is_named_in_the_test_and_in_what_to_do_next(command: Command, tmp_path: Path) -> None:
    said = command.ok("agents", "new", "weather", "--dir", "bots")
    assert (tmp_path / "bots" / "weather.py").is_file()
    assert '/ "bots"' in (tmp_path / "tests" / "test_weather.py").read_text()
    assert "SUPERVISOR_AGENTS_DIR=bots supervisor run" in said
    # Else the handler would be looked for among the bundled ones.
    assert "SUPERVISOR_AGENTS_DIR=bots supervisor agents add ID --handler weather" in said


@pytest.mark.parametrize("there", ["agents/weather.py", "agents/weather", "tests/test_weather.py"])
def test_nothing_is_overwritten(command: Command, tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir()
    path.write_text("mine")
    refused = command("agents", "new", "weather")
    assert refused.returncode == 2
    assert f"{there} is there already" in one_line(refused.stderr)
    assert path.read_text() == "mine"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("my-bot", "my_bot"), ("7up", "7up"), ("class", "class_agent"), ("_private", "private"), ("🤖", "use letters")],
)
def test_a_name_that_is_no_module_is_refused_with_a_hint(
    command: Command, tmp_path: Path, name: str, hint: str
) -> None:
    refused = command("agents", "new", name)
    assert refused.returncode == 2
    assert hint in one_line(refused.stderr)
    assert list(tmp_path.iterdir()) == []
