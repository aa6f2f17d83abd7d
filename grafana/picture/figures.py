"""Panels of present values: large digits, bars, tables and words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from grafana.picture import theme
from grafana.picture.canvas import Box, Canvas
from grafana.picture.data import Line, options, override
from grafana.picture.units import written

DIGITS: Final = (34, 30, 26, 22, 18, 15)
ROW: Final = 25.0
SIZE: Final = 11.5


def stat(canvas: Canvas, box: Box, panel: Mapping[str, Any], found: Sequence[Line]) -> None:
    """A value in large digits over the line of how it came to be."""
    fields = options(panel)
    value = found[0].series.last if found else None
    words, color = fields.get("noValue", "-"), theme.DIM
    if value is not None:
        mapped = next((m["options"].get(f"{value:g}") for m in fields.get("mappings", ())), None)
        words = mapped["text"] if mapped else written(value, fields["unit"], fields.get("decimals"))
        color = theme.color(mapped["color"]) if mapped else theme.of_value(value, fields["thresholds"]["steps"])
    size = next((size for size in DIGITS if canvas.measure(words, size, bold=True) <= box.w - 20), DIGITS[-1])
    canvas.text(box.x + box.w / 2, box.y + box.h * 0.44, words, size=size, color=color, bold=True, align="center")
    if panel["options"].get("graphMode") == "area" and found and len(found[0].series.finite) > 1:
        _spark(canvas, Box(box.x + 1, box.y + box.h * 0.68, box.w - 2, box.h * 0.32 - 1), found[0], color)


def _spark(canvas: Canvas, box: Box, line: Line, color: str) -> None:
    axes = canvas.axes(box)
    values = line.series.finite
    axes.plot(values, color=color, linewidth=1)
    axes.fill_between(range(len(values)), 0, values, color=color, alpha=0.18, linewidth=0)
    axes.set_axis_off()
    axes.set_xlim(0, len(values) - 1)
    axes.set_ylim(0, max(values) * 1.1 or 1)


def bars(canvas: Canvas, box: Box, panel: Mapping[str, Any], found: Sequence[Line]) -> None:
    """A bar for each value."""
    fields = options(panel)
    room = box.inset(12, 8)
    height = min(28.0, room.h / len(found))
    longest = max(canvas.measure(line.name, SIZE) for line in found)
    most = fields.get("max") or max(line.series.last or 0 for line in found) or 1
    names, figures = min(longest, room.w * 0.5) + 10, 80.0
    for number, line in enumerate(found):
        value, y = line.series.last or 0.0, room.y + (number + 0.5) * height
        canvas.text(room.x, y, canvas.fitted(line.name, names - 10, SIZE), size=SIZE)
        track = Box(room.x + names, y - height * 0.32, room.w - names - figures, height * 0.64)
        color = theme.of_value(value, fields["thresholds"]["steps"])
        canvas.rectangle(track, theme.GRID)
        canvas.rectangle(Box(track.x, track.y, track.w * min(1.0, value / most), track.h), color, alpha=0.85)
        text = written(value, fields["unit"], fields.get("decimals"))
        canvas.text(room.x + room.w, y, text, size=SIZE, color=color, bold=True, align="right")


def table(
    canvas: Canvas, box: Box, panel: Mapping[str, Any], names: Sequence[str], rows: Sequence[dict[str, str | float]]
) -> None:
    """Rows of cells under their names."""
    room = box.inset(12, 4)
    if not rows:
        canvas.text(box.x + box.w / 2, box.y + box.h / 2, options(panel)["noValue"], color=theme.DIM, align="center")
        return
    fit = int(room.h // ROW) - 1
    cells = [[_cell(panel, name, row.get(name)) for name in names] for row in rows[:fit]]
    numbers = [override(panel, name, "unit") is not None for name in names]
    lefts, widths = _columns(canvas, names, cells, room)
    for name, left, width, is_number in zip(names, lefts, widths, numbers, strict=True):
        _write(canvas, Box(left, room.y, width, ROW), name, theme.LINK, is_number=is_number)
    for number, row in enumerate(cells):
        y = room.y + (number + 1) * ROW
        canvas.rectangle(Box(box.x + 1, y, box.w - 2, 0.8), theme.EDGE)
        for (words, color), left, width, is_number in zip(row, lefts, widths, numbers, strict=True):
            _write(canvas, Box(left, y, width, ROW), words, color, is_number=is_number)


def _cell(panel: Mapping[str, Any], name: str, value: str | float | None) -> tuple[str, str]:
    if value is None:
        return override(panel, name, "noValue") or "", theme.TEXT
    if isinstance(value, str):
        return value, theme.LINK if override(panel, name, "links") else theme.TEXT
    steps = override(panel, name, "thresholds")
    color = theme.of_value(value, steps["steps"]) if steps else theme.TEXT
    return written(value, override(panel, name, "unit"), override(panel, name, "decimals")), color


def _columns(
    canvas: Canvas, names: Sequence[str], cells: Sequence[Sequence[tuple[str, str]]], room: Box
) -> tuple[list[float], list[float]]:
    """Left edges and widths: what each needs, and the rest shared out."""
    needs = [
        max(canvas.measure(words, SIZE, bold=False) for words in (name, *(row[index][0] for row in cells))) + 16
        for index, name in enumerate(names)
    ]
    spare = room.w - sum(needs)
    widths = [need + spare / len(needs) if spare > 0 else need * room.w / sum(needs) for need in needs]
    return [room.x + sum(widths[:index]) for index in range(len(widths))], widths


def _write(canvas: Canvas, box: Box, words: str, color: str, *, is_number: bool) -> None:
    fitted = canvas.fitted(words, box.w - 6, SIZE)
    x, align = (box.x + box.w - 6, "right") if is_number else (box.x, "left")
    canvas.text(x, box.y + box.h / 2, fitted, size=SIZE, color=color, align=align)


def words(canvas: Canvas, box: Box, panel: Mapping[str, Any]) -> None:
    """Markdown without its marks, wrapped."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", panel["options"]["content"])
    plain = re.sub(r"[*`]+", "", plain)
    per_line = int((box.w - 24) / canvas.measure("n" * 100, 12) * 112)
    y = box.y + 16
    for paragraph in plain.split("\n\n"):
        for line in textwrap.wrap(paragraph, per_line):
            canvas.text(box.x + 12, y, line, size=12)
            y += 17
        y += 8
    if y > box.y + box.h + 8:
        raise ValueError(f"the text of {panel['title']!r} does not fit into its panel")
