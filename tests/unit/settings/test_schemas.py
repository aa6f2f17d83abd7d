"""Which values of a row's settings its handler's schemas take, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.settings.schemas import as_written, misfits


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "Rome"),
        ({"type": "integer"}, 3),
        ({"type": "integer"}, 3.0),
        ({"type": "number"}, 3),
        ({"type": "number", "minimum": 0, "maximum": 2}, 0.5),
        ({"type": "boolean"}, False),
        ({"type": ["string", "null"]}, "x"),
        ({"type": "object"}, {"a": 1}),
        ({"type": "array", "items": {"type": "string"}}, ["a", "b"]),
        ({"enum": ["metric", "imperial"]}, "metric"),
        ({"enum": [True, "high"]}, True),
        ({"anyOf": [{"type": "array"}, {"type": "string"}]}, "a"),
        # None is as if it was not set.
        ({"type": "integer"}, None),
        # What cannot be read refuses nothing.
        ({}, object()),
        ({"type": "decimal"}, "x"),
        ({"type": 5, "enum": "ab", "minimum": "0"}, 1),
        ({"type": "array", "items": "string"}, [1]),
    ],
)
def test_what_fits_is_taken(schema: dict[str, Any], value: Any) -> None:
    assert misfits({"key": value, "other": object()}, {"key": schema, "absent": {"type": "integer"}}) == ()


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"type": "integer"}, "five", "must be a whole number, and is text"),
        ({"type": "integer"}, 2.5, "must be a whole number, and is a number"),
        ({"type": "integer"}, True, "must be a whole number, and is true or false"),
        ({"type": "boolean"}, 1, "must be true or false, and is a whole number"),
        ({"type": ["string", "array"]}, {}, "must be text or a list, and is a mapping"),
        ({"enum": ["metric", "imperial"]}, "kelvin", "must be metric or imperial"),
        ({"enum": [True, "low", "high"]}, 1, "must be true, low or high, and is a whole number"),
        ({"const": "on"}, [], "must be on, and is a list"),
        ({"type": "number", "maximum": 2}, 3, "must be 2 or less, and is a whole number"),
        ({"type": "number", "minimum": 0.5}, 0, "must be 0.5 or more, and is a whole number"),
        ({"anyOf": [{"type": "array"}, {"type": "string"}]}, 1, "must be a list, and is a whole number"),
    ],
)
def test_what_does_not_fit_is_named_with_its_kind(schema: dict[str, Any], value: Any, said: str) -> None:
    assert misfits({"key": value}, {"key": schema}) == (f"settings: key {said}",)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("0.5", 0.5),
        ("7", 7),
        ("true", True),
        ("warm", "warm"),
        ("", ""),
        ('"x"', '"x"'),
        ("[1]", "[1]"),
        (["1", "x"], [1, "x"]),
    ],
)
def test_what_quotes_made_a_text_is_read_as_it_was_meant(value: Any, read: Any) -> None:
    assert as_written(value) == read


def test_the_item_of_a_list_is_named_and_no_value_is_told() -> None:
    schema = {"type": "array", "items": {"type": "string", "format": "password"}}
    [said] = misfits({"keys": ["sk-secret", 77]}, {"keys": schema})
    assert said == "settings: keys: item 2 must be text, and is a whole number"
