"""Durations as options take them, which is how settings are written: ``90``, ``90s``, ``15m``, ``2h``, ``7d``."""

from __future__ import annotations

import re
from typing import Final

import typer

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s?(s|m|h|d|w)?")
_UNIT_SECONDS: Final = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def duration(text: str | float) -> float:
    """A duration in seconds; a default is one already.

    Raises:
        typer.BadParameter: it is none.
    """
    if isinstance(text, int | float):
        return float(text)
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text[:40]!r} is none; say 90s, 15m, 2h or 7d, or a number of seconds")
    return float(match[1]) * _UNIT_SECONDS[match[2]]
