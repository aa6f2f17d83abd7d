"""Reads Prometheus rules, their tests, and the metrics that expressions name."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from supervisor.telemetry.metrics import Description

FOLDER = Path(__file__).parents[2] / "prometheus"
RULES = FOLDER / "alerts.yaml"
TESTS = tuple(sorted(FOLDER.glob("*_test.yaml")))

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*\()(?![\w:(])")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_OPERATORS = frozenset({"and", "or", "unless", "offset", "bool"})
_DURATION = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")


@dataclass(frozen=True, slots=True)
class Selector:
    """What an expression reads: a metric, and what it asks of its labels."""

    name: str
    matchers: tuple[tuple[str, str], ...] = ()


def selectors(expression: str) -> list[Selector]:
    """Every metric of a PromQL expression with its matchers."""
    text = _DURATION.sub(" ", _GROUPING.sub(" ", expression))
    return [
        Selector(match[1], tuple(_MATCHER.findall(match[2] or "")))
        for match in _SELECTOR.finditer(_outside_strings(text))
        if match[1] not in _OPERATORS
    ]


def _outside_strings(text: str) -> str:
    """The text where braces within strings cannot be mistaken for the end of a selector."""
    return _STRINGS.sub(lambda found: found[0].replace("{", "(").replace("}", ")"), text)


def series_of(description: Description) -> dict[str, frozenset[str]]:
    """The names under which a metric is queried, each with the labels it has there."""
    labels = frozenset(description.labels)
    if description.kind != "histogram":
        return {description.name: labels}
    name = description.name
    return {f"{name}_bucket": labels | {"le"}, f"{name}_count": labels, f"{name}_sum": labels}


@functools.cache
def groups() -> list[dict[str, Any]]:
    """The groups of rules."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return found


@functools.cache
def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"] if "alert" in rule}


@functools.cache
def recordings() -> dict[str, str]:
    """The expressions of recorded series by name."""
    return {rule["record"]: rule["expr"] for group in groups() for rule in group["rules"] if "record" in rule}


@functools.cache
def cases() -> list[dict[str, Any]]:
    """The cases of all test files."""
    return [case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"]]
