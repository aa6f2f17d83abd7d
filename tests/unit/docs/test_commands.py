"""The command lines that the documentation shows exist, with the options that they are shown with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from supervisor.cli.app import app
from tests.support.paths import ROOT
from tests.support.prometheus_tools import alerts

DOCS = sorted((ROOT / "docs").rglob("*.md"))
_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`(supervisor [^`]+)`(?!`)")
#: Where the shell's own business begins.
_SHELL = re.compile(r"[<>|&;]|\$\(.*\)")
#: In front of a command: a folder, variables for it alone.
_IN_FRONT = re.compile(r"^(?:\w+=\S*\s+)*(?:\S*/)?(?=supervisor\s)")
_ROOT_COMMAND = typer.main.get_command(app)


def _blocks(text: str) -> Iterator[str]:
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                command = _IN_FRONT.sub("", part.strip())
                if command.startswith("supervisor "):
                    yield command


def _shown() -> Iterator[tuple[str, str]]:
    for path in [*DOCS, ROOT / "README.md"]:
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        lines = list(_blocks(text))
        if path.name != "README.md":
            lines += [" ".join(span.split()) for span in _SPAN.findall(_BLOCK.sub("", text))]
        for line in lines:
            yield name, line


SHOWN = sorted(set(_shown()))


def complaint(line: str) -> str:
    """What is wrong with a command line; empty when it could be one."""
    words = shlex.split(_SHELL.split(shlex.join(shlex.split(line, comments=True)).replace("'", ""))[0])
    command, words = _find(words[1:])
    if words and getattr(command, "commands", None):
        return f"no such command: {words[0]}"
    options = {name: param for param in command.params for name in (*param.opts, *param.secondary_opts)}
    room: float = sum(
        float("inf") if param.nargs < 0 else param.nargs
        for param in command.params
        if param.param_type_name == "argument"
    )
    while words:
        word, _, value = words.pop(0).partition("=")
        if not word.startswith("-") or word == "-":
            room -= 1
        elif word in ("-h", "--help"):
            continue
        elif word not in options:
            return f"no such option: {word}"
        elif not getattr(options[word], "is_flag", False) and not value:
            if not words or words[0].startswith("--"):
                return f"no value: {word}"
            words.pop(0)
    return "too many words" if room < 0 else ""


def _find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words begin with, and the words behind it."""
    command: Any = _ROOT_COMMAND
    words = list(words)
    while words and (found := getattr(command, "commands", {}).get(words[0])) is not None:
        command = found
        del words[0]
    return command, words


def test_the_documentation_shows_commands() -> None:
    assert {"README.md", "docs/operate.md", "docs/runbook.md"} <= {name for name, _ in SHOWN}
    assert len(SHOWN) > 40


@pytest.mark.parametrize(("name", "line"), SHOWN, ids=[f"{name}: {line}" for name, line in SHOWN])
def test_a_command_that_is_shown_exists(name: str, line: str) -> None:
    assert complaint(line) == ""


@pytest.mark.parametrize(
    "line",
    [
        "supervisor agnets list",
        "supervisor agents lst",
        "supervisor agents list --jsn",
        "supervisor db backup a.db b.db",
        "supervisor messages list --agent",
        "supervisor agents pause ID --set a=1",
    ],
)
def test_a_command_that_does_not_exist_is_found_out(line: str) -> None:
    assert complaint(line)


def test_alerts_name_commands_that_exist() -> None:
    found = 0
    for name, alert in alerts().items():
        for one in re.findall(r"supervisor [a-z]+(?: [a-z]+)?", alert["annotations"]["description"]):
            command, _ = _find(one.split()[1:])
            assert not getattr(command, "commands", None), f"{name}: {one}"
            found += 1
    assert found > 10


def test_what_log_lines_carry_is_documented() -> None:
    section = (ROOT / "docs/operate.md").read_text().split("## Logs")[1].split("\n## ")[0]
    source = "".join(path.read_text() for path in sorted((ROOT / "supervisor").rglob("*.py")))
    # By these one finds whom and what a line is about, and why.
    for name in ("agent", "conversation", "message_id", "reason"):
        assert re.search(rf"log\.\w+\([^)]*\b{name}=|\bbind\([^)]*\b{name}=", source), name
        assert f"`{name}`" in section, name
