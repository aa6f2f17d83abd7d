"""Panels over time: lines, areas, heat maps and state timelines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, MaxNLocator

from grafana.picture import theme
from grafana.picture.canvas import Box, Canvas
from grafana.picture.data import Line, differences, is_named, options, override
from grafana.picture.units import scale, written

LEFT, BOTTOM = 62.0, 20.0
LEGEND_LINE, LEGEND_SIZE = 17.0, 11.0
LEGEND_LINES: Final = 4
TICKS: Final = 4
#: Room for the time at a mark, and a gap.
MARK: Final = 60.0
Range = tuple[float, float]


def graph(canvas: Canvas, box: Box, panel: Mapping[str, Any], found: Sequence[Line], shown: Range) -> None:
    """Lines, or areas on top of each other."""
    fields = options(panel)
    unit, custom, decimals = fields["unit"], fields["custom"], fields.get("decimals")
    colors = [_color(panel, line, index) for index, line in enumerate(found)]
    named = [(line, color) for line, color in zip(found, colors, strict=True) if is_named(panel, line)]
    entries = [f"{line.name}  {written(line.series.last or 0.0, unit, decimals)}" for line, _ in named]
    used = _legend(canvas, box, entries, [color for _, color in named])
    axes = canvas.axes(box.inset(LEFT, 6, 8, BOTTOM + used))
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    most = (_areas if stacked else _lines)(axes, found, colors, custom["fillOpacity"] / 100)
    most = max(most, custom.get("axisSoftMax") or 0)
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        _limits(axes, panel, most)
    _dress(axes, unit, decimals, most)
    _time_axis(axes, shown, _most_marks(box))


def _color(panel: Mapping[str, Any], line: Line, index: int) -> str:
    own = override(panel, line.name, "color")
    return theme.color(own["fixedColor"]) if own else theme.PALETTE[index % len(theme.PALETTE)]


def _points(line: Line) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Times and values, with a hole wherever samples are missing."""
    samples = line.series.samples
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(samples)]
    step = min(gaps, default=1.0)
    times, values = [samples[0][0]], [samples[0][1]]
    for (at, value), gap in zip(samples[1:], gaps, strict=True):
        if gap > 1.5 * step:
            times.append(at - gap / 2)
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return np.array(times), np.array([value if math.isfinite(value) else math.nan for value in values])


def _lines(axes: Axes, found: Sequence[Line], colors: Sequence[str], fill: float) -> float:
    for line, color in zip(found, colors, strict=True):
        times, values = _points(line)
        axes.plot(times, values, color=color, linewidth=1.2, solid_joinstyle="round")
        axes.fill_between(times, 0, values, color=color, alpha=fill, linewidth=0)
        # A point without neighbours would be a line without length.
        known = np.isfinite(values)
        padded = np.concatenate(([False], known, [False]))
        alone = known & ~padded[:-2] & ~padded[2:]
        axes.plot(times[alone], values[alone], "o", color=color, markersize=2.5)
    return max(max(line.series.finite) for line in found)


def _areas(axes: Axes, found: Sequence[Line], colors: Sequence[str], fill: float) -> float:
    times = sorted({at for line in found for at, _ in line.series.samples})
    base = np.zeros(len(times))
    for line, color in zip(found, colors, strict=True):
        values = dict(line.series.samples)
        own = np.array([values.get(at, 0.0) if math.isfinite(values.get(at, 0.0)) else 0.0 for at in times])
        axes.fill_between(times, base, base + own, color=color, alpha=fill, linewidth=0)
        base = base + own
        axes.plot(times, base, color=color, linewidth=1.0)
    return float(base.max())


def _limits(axes: Axes, panel: Mapping[str, Any], most: float) -> None:
    for step in options(panel)["thresholds"]["steps"][1:]:
        if step["value"] <= most * 1.08:
            axes.axhline(step["value"], color=theme.color(step["color"]), linewidth=1, linestyle=(0, (5, 4)), alpha=0.8)


def _dress(axes: Axes, unit: str, decimals: int | None, most: float) -> None:
    """Marks, grid and bounds of the values."""
    top = most * 1.08 or 1.0
    size = scale(top, unit)
    whole = unit in ("short", "none") and top > TICKS
    marks = MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(0, top / size)
    axes.set_yticks([mark * size for mark in marks if 0 <= mark * size <= top])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, unit, decimals)))
    axes.set_ylim(0, top)
    axes.grid(visible=True, axis="y", color=theme.GRID, linewidth=0.7)


def _most_marks(box: Box) -> int:
    return max(1, int((box.w - LEFT) // MARK))


def _time_axis(axes: Axes, shown: Range, times: int) -> None:
    start, end = shown
    form = "%H:%M" if end - start > 1200 else "%H:%M:%S"
    step = next(step for step in (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 21600) if (end - start) / step <= times)
    # No time may stand over the panel's edges.
    edge = (end - start) * MARK / 2 / axes.get_window_extent().width
    marks = [mark for mark in np.arange(math.ceil(start / step) * step, end, step) if start + edge < mark < end - edge]
    axes.set_xticks(marks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: datetime.fromtimestamp(at, UTC).strftime(form)))
    axes.grid(visible=True, axis="x", color=theme.GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlim(start, end)


def _legend(canvas: Canvas, box: Box, entries: Sequence[str], colors: Sequence[str]) -> float:
    """Names and last values under the graph; how high they are."""
    room, rows = box.w - 20, [[]]  # type: tuple[float, list[list[tuple[float, str, str]]]]
    x = 0.0
    for place, (entry, color) in enumerate(zip(entries, colors, strict=True)):
        words = canvas.fitted(entry, room - 20, LEGEND_SIZE)
        width = 18 + canvas.measure(words, LEGEND_SIZE) + 14
        if x and x + width > room:
            if len(rows) == LEGEND_LINES:
                rows[-1].append((x, f"+{len(entries) - place}", ""))
                break
            rows.append([])
            x = 0.0
        rows[-1].append((x, words, color))
        x += width
    height = len(rows) * LEGEND_LINE
    for number, row in enumerate(rows):
        y = box.y + box.h - height + (number + 0.5) * LEGEND_LINE
        for at, words, color in row:
            left = box.x + 10 + at
            if color:
                canvas.rectangle(Box(left, y - 1.5, 12, 3), color, radius=1.5)
            canvas.text(
                left + (18 if color else 0), y, words, size=LEGEND_SIZE, color=theme.TEXT if color else theme.DIM
            )
    return height + 4


def heat(canvas: Canvas, box: Box, panel: Mapping[str, Any], found: Sequence[Line], shown: Range) -> None:
    """How many observations fell into each bucket, by colour."""
    unit = options(panel)["unit"]
    bounds, columns = differences(found)
    times = sorted(columns)
    cells = np.array([columns[at] for at in times]).T
    used = max(np.flatnonzero(cells.sum(axis=1)), default=0)
    rows = min(len(bounds), int(used) + 2)
    most = float(cells.max()) or 1.0
    axes = canvas.axes(box.inset(LEFT, 6, 8, BOTTOM + 24))
    width = times[1] - times[0] if times[1:] else 1.0
    cmap = LinearSegmentedColormap.from_list("heat", theme.HEAT)
    weights = np.ma.masked_where(cells[:rows] <= 0, np.sqrt(cells[:rows] / most))
    edges = [times[0] - width / 2, *(at + width / 2 for at in times)]
    axes.pcolormesh(edges, range(rows + 1), weights, cmap=cmap, vmin=0, vmax=1, linewidth=0.4, edgecolor=theme.PANEL)
    every = max(1, math.ceil(rows / 7))
    axes.set_yticks(range(1, rows + 1)[every - 1 :: every])
    axes.set_yticklabels([_bound(bounds[row], unit) for row in range(rows)[every - 1 :: every]])
    axes.set_ylim(0, rows)
    _time_axis(axes, shown, _most_marks(box))
    _heat_legend(canvas, Box(box.x + 10, box.y + box.h - 20, 120, 8), cmap, most)


def _bound(bound: float, unit: str) -> str:
    return "∞" if math.isinf(bound) else written(bound, unit)


def _heat_legend(canvas: Canvas, box: Box, cmap: LinearSegmentedColormap, most: float) -> None:
    axes = canvas.axes(box)
    axes.imshow([np.linspace(0, 1, 128)], aspect="auto", cmap=cmap)
    axes.set_xticks([])
    axes.set_yticks([])
    canvas.text(box.x + box.w + 8, box.y + 4, f"up to {written(most, 'short')} a second", size=10.5, color=theme.DIM)


def timeline(canvas: Canvas, box: Box, panel: Mapping[str, Any], found: Sequence[Line], shown: Range) -> None:
    """Which value each series had, as a band of colours."""
    texts = {value: result for mapping in options(panel)["mappings"] for value, result in mapping["options"].items()}
    axes = canvas.axes(box.inset(12, 22, 8, BOTTOM + 20))
    for row, line in enumerate(found):
        canvas.text(box.x + 12, box.y + 10, line.name, size=11, color=theme.DIM)
        _band(axes, row, line, texts, shown)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_yticks([])
    _time_axis(axes, shown, _most_marks(box))
    shades = [theme.color(result["color"]) for result in texts.values()]
    _legend(canvas, box, [result["text"] for result in texts.values()], shades)


def _band(axes: Axes, row: int, line: Line, texts: Mapping[str, Any], shown: Range) -> None:
    samples = [sample for sample in line.series.samples if math.isfinite(sample[1])]
    ends = [*(at for at, _ in samples[1:]), shown[1]]
    pieces: list[tuple[float, float, float]] = []
    for (at, value), end in zip(samples, ends, strict=True):
        if pieces and pieces[-1][2] == value:
            pieces[-1] = (pieces[-1][0], end, value)
        else:
            pieces.append((at, end, value))
    for start, end, value in pieces:
        result = texts.get(f"{value:g}", {"text": f"{value:g}", "color": "blue"})
        axes.barh(row, end - start, left=start, height=0.8, color=theme.color(result["color"]), alpha=0.85, linewidth=0)
        if (end - start) / (shown[1] - shown[0]) > 0.15:
            axes.text((start + end) / 2, row, result["text"], ha="center", va="center", fontsize=8, color="#101114")
