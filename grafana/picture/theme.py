"""Grafana's dark colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

BACKGROUND, PANEL, EDGE = "#111217", "#181b1f", "#2b2e34"
TEXT, DIM, GRID = "#ccccdc", "#8e929c", "#2a2d33"
LINK: Final = "#6e9fff"
_NAMED: Final = {
    "green": "#73bf69",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
    "dark-red": "#c4162a",
    "dark-orange": "#fa6400",
    "light-blue": "#8ab8ff",
    "super-light-blue": "#c0d8ff",
    "text": TEXT,
}
#: The colours of series without one of their own, in this order.
PALETTE: Final = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#ff9830", "#37872d", "#96d98d"),
    *("#fade2a", "#e02f44", "#c0d8ff", "#a352cc"),
)
#: From few to many.
HEAT: Final = ("#4a2409", "#a04000", "#e6550d", "#fd8d3c", "#fdd0a2", "#fff5eb")

#: What every picture holds.
EXACT: Final = tuple(dict.fromkeys([BACKGROUND, PANEL, EDGE, TEXT, DIM, GRID, LINK, *_NAMED.values(), *PALETTE, *HEAT]))


def color(name: str) -> str:
    """A colour by Grafana's name for it, or as it is written."""
    return name if name.startswith("#") else _NAMED[name]


def of_value(value: float, steps: Sequence[dict[str, Any]]) -> str:
    """The colour that thresholds give a value."""
    chosen = steps[0]["color"]
    for step in steps[1:]:
        if value >= step["value"]:
            chosen = step["color"]
    return color(chosen)
