"""Settings that are slips for others are told from those of somebody else."""

from __future__ import annotations

import pytest

from supervisor.settings.slips import slip, slips

DECLARED = ("model", "temperature", "max_output_tokens", "history_tokens", "command", "api_key", "base_url")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("histroy_tokens", "history_tokens"),
        ("max_tokens", "max_output_tokens"),
        ("concurency", "concurrency"),
        ("budget_token", "budget_tokens"),
        ("max_attempt", "max_attempts"),
        ("timeout_second", "timeout_seconds"),
        ("model", None),
        ("concurrency", None),
        ("command", None),
        ("team", None),
        ("tone", None),
        ("crm_url", None),
        # They have a word of their own.
        ("crm_api_key", None),
        ("shop_base_url", None),
        ("model_url", None),
        ("history_days", None),
        ("apikey", "api_key"),
        ("", None),
        ("_", None),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(name: str, meant: str | None) -> None:
    assert slip(name, DECLARED) == meant


def test_a_row_is_told_each_of_its_slips() -> None:
    row = {"temprature": 1, "team": "blue", "concurency": 2}
    assert slips(row, DECLARED) == (
        "settings: there is no temprature; did you mean temperature?",
        "settings: there is no concurency; did you mean concurrency?",
    )
