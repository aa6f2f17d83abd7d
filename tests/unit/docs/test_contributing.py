"""CONTRIBUTING says what there is: the Makefile's commands, the bounds that tests enforce."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def targets() -> dict[str, list[str]]:
    """The commands of each target of the Makefile."""
    found: dict[str, list[str]] = {}
    for head, body in re.findall(r"^(\w+):.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE):
        found[head] = [line.strip().removeprefix("@") for line in body.splitlines()]
    return found


def test_every_command_of_the_makefile_is_named() -> None:
    named = set(re.findall(r"^    make (\w+)", CONTRIBUTING, re.MULTILINE))
    assert named == set(targets()) - {"help"}
    assert {"check", "test", "bench", "docs"} <= named
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) == set(targets())


def test_what_the_makefile_runs_is_there() -> None:
    paths = [
        path
        for commands in targets().values()
        for line in commands
        for path in re.findall(r"(?<=[ \t])[.\w]+/[\w/.]+", f" {line}")
    ]
    ours = [path for path in paths if not path.startswith(".venv")]
    assert ours
    assert not [path for path in ours if not (ROOT / path).exists()]
