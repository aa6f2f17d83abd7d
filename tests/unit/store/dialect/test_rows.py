"""Rows that anybody may have written, as records; and what may be stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.store.dialect.rows import (
    MAX_DEPTH,
    MAX_ID_CHARS,
    MAX_TEXT_BYTES,
    Unread,
    check_id,
    checked_values,
    record_from_row,
    record_values,
)

ROW: dict[str, Any] = {
    "id": "a1",
    "handler": "echo",
    "secret": "env:AGENT_A1",
    "name": None,
    "settings": '{"mood": "good"}',
    "labels": '{"team": "x"}',
    "paused": 0,
    "created_at": "2026-01-31 12:00:00",
    "updated_at": "2026-01-31T12:00:00Z",
}


def nested(levels: int) -> dict[str, Any]:
    """Objects within objects, so many of them."""
    made: dict[str, Any] = {}
    for _ in range(levels - 1):
        made = {"hunter2": made}
    return made


def test_a_row_is_a_record_and_back() -> None:
    record = record_from_row(ROW)
    assert (record.id, record.name, record.settings, record.labels) == ("a1", "", {"mood": "good"}, {"team": "x"})
    assert (record.paused, record.problem) == (False, None)
    assert record.created_at.endswith("Z")
    again = record_from_row({**ROW, **record_values(record)})
    assert again.same_content(record)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("id", b"a1", "id is not text"),
        ("id", "a b", "id: "),
        ("handler", " ", "handler is empty"),
        ("handler", None, "handler is empty"),
        ("handler", 5, "handler is not text"),
        ("secret", "hunter2-in-the-clear", "secret is not a reference"),
        ("settings", "[]", "settings is not a JSON object"),
        ("settings", "no json", "settings is not JSON"),
        ("labels", '{"a": 5}', "labels: a is not text"),
        ("paused", "maybe", "paused is neither 0 nor 1"),
        ("settings", Unread(2**30), "settings is too long to be read (1,073,741,824; at most 1,048,576 bytes)"),
        ("settings", json.dumps({"a": "x" * 2**20}), "settings is too long to be read"),
        ("settings", json.dumps({"a": "ü" * 2**19}, ensure_ascii=False), "settings is too long to be read"),
        ("settings", b" " * (2**20 + 1), "settings is too long to be read"),
        ("labels", Unread(2**21), "labels is too long to be read"),
        ("handler", Unread(2**21), "handler is too long to be read"),
        ("secret", "env:" + "x" * 2**20, "secret is too long to be read"),
        ("name", Unread(2**21), "name is too long to be read"),
        ("settings", '{"a": ' * 65 + "1" + "}" * 65, "settings is nested more than 64 deep"),
        ("settings", '{"a": ' * 5000 + "1" + "}" * 5000, "settings is not JSON"),
        ("labels", '{"a":' + "[" * 70 + "]" * 70 + "}", "labels is nested more than 64 deep"),
    ],
)
def test_what_cannot_be_used_is_named_and_left_out(column: str, value: object, problem: str) -> None:
    record = record_from_row({**ROW, column: value})
    assert record.problem is not None
    assert record.problem.startswith(problem)
    assert "hunter2" not in repr(record)


@pytest.mark.parametrize("agent_id", ["", " ", "a/b", "a b", "x" * (MAX_ID_CHARS + 1)])
def test_an_id_that_names_no_agent_is_refused(agent_id: str) -> None:
    with pytest.raises(RegistryError):
        check_id(agent_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "hunter2-in-the-clear"},
        {"id": "b"},
        {"nonsense": 1},
        {"settings": {"a": float("nan")}},
        {"settings": {"a": "hunter2-in-the-clear" * 2**16}},
        {"labels": {"a": "ü" * 2**19}},
        {"name": "hunter2" * 2_000},
        {"handler": "hunter2" * 2_000},
        {"secret": "fernet:" + "hunter2" * 2_000},
        {"settings": nested(5_000)},
    ],
)
def test_what_must_not_be_stored_is_refused_without_its_secret(changes: dict[str, Any]) -> None:
    with pytest.raises(RegistryError) as caught:
        checked_values("a1", changes)
    assert "hunter2" not in str(caught.value)


def test_a_record_with_a_secret_in_the_clear_is_not_stored() -> None:
    with pytest.raises(RegistryError) as caught:
        record_values(AgentRecord("a1", "echo", "hunter2-in-the-clear"))
    assert "hunter2" not in str(caught.value)


def test_settings_of_exactly_a_mebibyte_are_stored_and_read() -> None:
    settings = {"a": "x" * (MAX_TEXT_BYTES - len('{"a": ""}'))}
    stored = checked_values("a1", {"settings": settings})
    assert len(stored["settings"]) == MAX_TEXT_BYTES
    assert record_from_row({**ROW, **stored}).settings == settings


def test_settings_of_so_many_levels_are_stored_and_read() -> None:
    stored = checked_values("a1", {"settings": nested(MAX_DEPTH)})
    assert record_from_row({**ROW, **stored}).settings == nested(MAX_DEPTH)
    with pytest.raises(RegistryError, match="nested more than 64 deep"):
        checked_values("a1", {"settings": nested(MAX_DEPTH + 1)})
