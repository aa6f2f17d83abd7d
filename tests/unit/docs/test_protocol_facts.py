"""The table of the platform's facts: each names its source, and a test of the sandbox that exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "protocol-facts.md").read_text(encoding="utf-8")
TESTS = ROOT / "tests" / "sandbox"
_ROW = re.compile(r"^\| ([\d.]+) \| (.+?) \| ([GOL](?:, [GOL])*) \| `(\w+\.py)::(\w+)` \|$")


def lines() -> list[str]:
    """The table's rows as they stand in the page."""
    return [line for line in PAGE.splitlines() if re.match(r"\| *\d", line)]


@pytest.mark.parametrize("line", lines())
def test_a_fact_has_a_number_a_source_and_a_test(line: str) -> None:
    assert _ROW.match(line), line


def test_every_test_that_is_named_exists() -> None:
    for line in lines():
        match = _ROW.match(line)
        assert match is not None
        *_, file, name = match.groups()
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in found, f"{file} has no {name}"


def test_every_finding_and_every_point_of_the_third_generation_is_there() -> None:
    told = {line.split("|")[1].strip() for line in lines()}
    wanted = {f"7.{number}" for number in range(1, 14)} | {f"8.{number}" for number in range(1, 11)} | {"9"}
    assert wanted <= told
