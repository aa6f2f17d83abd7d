"""Draws a dashboard from what its queries brought, laid out and coloured as Grafana does it in its dark theme.

There is no Grafana in the test run; this shows what its users see, and makes the pictures of README.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from PIL import Image

from grafana.picture import figures, graphs, theme
from grafana.picture.canvas import Box, Canvas
from grafana.picture.data import Answers, Series, lines, table
from grafana.picture.graphs import Range

__all__ = ["Answers", "Series", "draw", "first_row"]

#: Grafana's grid in pixels: a column, a row of it, and the gap that both include.
COLUMN, CELL, GAP = 55, 34, 8
MARGIN: Final = 14
HEADER: Final = 84
TITLE: Final = 28
_OVER_TIME: Final = {"timeseries": graphs.graph, "heatmap": graphs.heat, "state-timeline": graphs.timeline}
_NOW: Final = {"stat": figures.stat, "bargauge": figures.bars}


def draw(
    dashboard: Mapping[str, Any],
    answers: Answers,
    shown: Range,
    path: Path,
    *,
    chosen: Mapping[str, str] | None = None,
) -> None:
    """Draw a dashboard into a PNG.

    Args:
        dashboard: as its JSON file has it.
        answers: what each query of each panel brought.
        shown: the range, seconds since the epoch.
        chosen: values of variables; the others are All.

    Raises:
        ValueError: a panel is of a kind that is not known here, or has nothing to show.
    """
    # A row that is closed has nothing to show.
    open_ones = [panel for panel in dashboard["panels"] if not panel.get("collapsed")]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in open_ones)
    canvas = Canvas(24 * COLUMN + 2 * MARGIN - GAP, HEADER + bottom * CELL + MARGIN)
    _header(canvas, dashboard, shown, chosen or {})
    for panel in open_ones:
        place = panel["gridPos"]
        box = Box(
            MARGIN + place["x"] * COLUMN, HEADER + place["y"] * CELL, place["w"] * COLUMN - GAP, place["h"] * CELL - GAP
        )
        if panel["type"] == "row":
            canvas.text(box.x + 4, box.y + box.h / 2, f"⌄  {panel['title']}", size=15, bold=True)
        else:
            _panel(canvas, box, panel, answers, shown)
    canvas.save(path)


def first_row(dashboard: Mapping[str, Any], path: Path, part: Path) -> None:
    """Cut the part above a dashboard's second row out of its picture: small enough to be read inside of a text."""
    second = [panel["gridPos"]["y"] for panel in dashboard["panels"] if panel["type"] == "row"][1]
    with Image.open(path) as whole:
        whole.crop((0, 0, whole.width, HEADER + second * CELL)).save(part, optimize=True)


def _header(canvas: Canvas, dashboard: Mapping[str, Any], shown: Range, chosen: Mapping[str, str]) -> None:
    start, end = (datetime.fromtimestamp(at, UTC) for at in shown)
    canvas.text(MARGIN + 2, 24, dashboard["title"], size=18, bold=True)
    times = f"{start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC"
    canvas.text(canvas.width - MARGIN, 24, times, size=12, color=theme.DIM, align="right")
    x = float(MARGIN)
    for variable in dashboard["templating"]["list"]:
        value = "Prometheus" if variable["type"] == "datasource" else chosen.get(variable["name"], "All")
        x = _choice(canvas, x, variable["label"], value) + 14
    x = canvas.width - float(MARGIN)
    for link in reversed(dashboard["links"]):
        width = canvas.measure(link["title"]) + 24
        canvas.rectangle(Box(x - width, 46, width, 26), theme.PANEL, edge=theme.EDGE, radius=3)
        canvas.text(x - width / 2, 59, link["title"], color=theme.LINK, align="center")
        x -= width + 8


def _choice(canvas: Canvas, x: float, label: str, value: str) -> float:
    name, words = canvas.measure(label, bold=True) + 16, canvas.measure(value) + 18
    canvas.rectangle(Box(x, 46, name, 26), theme.PANEL, edge=theme.EDGE, radius=3)
    canvas.rectangle(Box(x + name, 46, words, 26), theme.BACKGROUND, edge=theme.EDGE, radius=3)
    canvas.text(x + 8, 59, label, bold=True)
    canvas.text(x + name + 9, 59, value)
    return x + name + words


def _panel(canvas: Canvas, box: Box, panel: Mapping[str, Any], answers: Answers, shown: Range) -> None:
    kind = panel["type"]
    canvas.rectangle(box, theme.PANEL, edge=theme.EDGE, radius=3)
    canvas.text(
        box.x + 10, box.y + 15, canvas.fitted(panel["title"], box.w - 20, 12.5, bold=True), size=12.5, bold=True
    )
    body = Box(box.x, box.y + TITLE, box.w, box.h - TITLE - 4)
    if kind == "text":
        figures.words(canvas, body, panel)
    elif kind == "table":
        figures.table(canvas, body, panel, *table(panel, answers))
    else:
        found = lines(panel, answers)
        if not found:
            raise ValueError(f"the panel {panel['title']!r} has nothing to show")
        if kind in _OVER_TIME:
            _OVER_TIME[kind](canvas, body, panel, found, shown)
        elif kind in _NOW:
            _NOW[kind](canvas, body, panel, found)
        else:
            raise ValueError(f"the panel {panel['title']!r} is of an unknown kind: {kind}")
