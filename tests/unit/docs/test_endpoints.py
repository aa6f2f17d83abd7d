"""The table of what was tried on which server: each row's tests run on the servers that it names, and no others."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "assistant-endpoints.md").read_text(encoding="utf-8")
#: The table's columns, as the tests name them.
SERVERS = ("openai", "vllm", "ollama", "litellm", "llama.cpp", "proxy", "anthropic", "google")
_NAMED = re.compile(r"`(test_\w+)\.py::(\w+)`")


def rows() -> list[list[str]]:
    """The cells of the rows that name tests."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and _NAMED.search(line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def texts(value: Any) -> Iterator[str]:
    """All texts in what a test is parametrised with."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts(one)


def servers_of(file: str, name: str) -> set[str]:
    """The servers that a test is parametrised with."""
    test = getattr(importlib.import_module(f"tests.integration.agents.{file}"), name)
    marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    return {text for mark in marks for text in texts(mark.args[1])} & set(SERVERS)


def test_the_columns_are_the_servers() -> None:
    header = next(line for line in PAGE.splitlines() if line.startswith("| | OpenAI | vLLM"))
    assert tuple(cell.strip().lower() for cell in header.strip("|").split("|"))[1:-1] == SERVERS
    assert len(rows()) >= 16


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_what_a_row_says_was_tried_its_tests_try(row: list[str]) -> None:
    _, *cells, named = row
    assert set(cells) <= {"yes", "\u2013"}
    tried = {server for server, cell in zip(SERVERS, cells, strict=True) if cell == "yes"}
    tests = _NAMED.findall(named)
    assert set().union(*(servers_of(file, name) for file, name in tests)) == tried
