"""The table of the platform's facts: each has its source, a test of the sandbox, and what the supervisor does."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "protocol-facts.md").read_text(encoding="utf-8")
TESTS = ROOT / "tests"
_ROW = re.compile(
    r"^\| ([\d.]+) \| (.+?) \| ([GOL](?:, [GOL])*) \| `(\w+\.py)::(\w+)` \| "
    r"(?P<does>[^|]+?)(?:<br>`(?P<file>[\w/]+\.py)::(?P<test>\w+)`)? \|$"
)
#: Where nothing is to be done, or nothing can be shown: it is left alone.
_NOTHING = re.compile(r"^(\u2013|never|sends none|relies on neither|does not rest on)")


def lines() -> list[str]:
    """The table's rows as they stand in the page."""
    return [line for line in PAGE.splitlines() if re.match(r"\| *\d", line)]


@pytest.mark.parametrize("line", lines())
def test_a_fact_has_a_number_a_source_a_test_and_what_is_done(line: str) -> None:
    match = _ROW.match(line)
    assert match, line
    assert match["file"] or _NOTHING.match(match["does"]), "what is done is shown by a test"


@functools.cache
def names_in(file: str) -> set[str]:
    """The tests of a file, by its path under ``tests``."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    for line in lines():
        match = _ROW.match(line)
        assert match is not None
        named = [(f"sandbox/{match[4]}", match[5])]
        named += [(match["file"], match["test"])] if match["file"] else []
        for file, name in named:
            assert name in names_in(file), f"{file} has no {name}"


def test_every_finding_and_every_point_of_the_third_generation_is_there() -> None:
    told = {line.split("|")[1].strip() for line in lines()}
    wanted = {f"7.{number}" for number in range(1, 14)} | {f"8.{number}" for number in range(1, 11)} | {"9"}
    assert wanted <= told
