"""Text that the platform sends, made safe to read."""

from __future__ import annotations

import json

import pytest

from supervisor.protocol.text import replace_lone_surrogates


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb'"cut \ud83d"', "cut \ufffd"),
        (rb'"\udc00x"', "\ufffdx"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        # An escaped backslash is no escape's beginning.
        (rb'"\\ud83d"', r"\ud83d"),
        (rb'"\n\u00e9"', "\n\xe9"),
    ],
)
def test_half_a_surrogate_pair_is_mended_and_nothing_else(raw: bytes, text: str) -> None:
    assert json.loads(replace_lone_surrogates(raw)) == text
