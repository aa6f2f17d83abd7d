"""Durations as options take them."""

from __future__ import annotations

import pytest
import typer

from supervisor.cli.durations import duration
from supervisor.settings.kinds import duration as of_settings


@pytest.mark.parametrize("text", ["90", "0", "1.5", "90s", "15m", "2h", "7d", "2w", " 5 m "])
def test_they_are_written_as_in_settings(text: str) -> None:
    wanted = of_settings(text)
    assert duration(text) == (float(wanted) if isinstance(wanted, str) else wanted)


def test_a_default_is_one_already() -> None:
    assert duration(120) == 120.0


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "nan", "inf", "5 minutes", "1h30m", "9" * 400])
def test_what_is_none_is_named_with_what_would_do(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="say 90s, 15m, 2h or 7d, or a number of seconds") as refused:
        duration(text)
    assert len(str(refused.value)) < 120
