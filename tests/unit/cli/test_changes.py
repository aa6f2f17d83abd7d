"""A change as people read it: what was, and what is."""

from __future__ import annotations

from supervisor.cli.changes import shown, told

BEFORE = {"handler": "echo", "name": "Ada", "settings": {"model": "a", "kept": 1, "gone": True}, "labels": {}}
AFTER = {"handler": "tour", "name": "Ada", "settings": {"model": "b", "kept": 1, "new": {"x": None}}, "labels": {}}


def test_what_is_different_is_told_field_by_field_and_key_by_key() -> None:
    assert list(told(BEFORE, AFTER)) == [
        "handler: echo → tour",
        "settings.gone: true → -",
        "settings.model: a → b",
        'settings.new: - → {"x": null}',
    ]
    assert list(told({}, {"name": ""})) == ['name: - → ""']


def test_what_is_masked_looks_the_same_and_is_told_where_that_is_asked_for() -> None:
    masked = {"settings": {"api_key": "***"}}
    assert list(told(masked, masked)) == []
    assert list(told(masked, masked, all_of_it=True)) == ["settings.api_key: *** → ***"]


def test_a_long_value_is_cut() -> None:
    assert shown("x" * 60) == "x" * 60
    assert shown("x" * 61) == "x" * 59 + "…"
