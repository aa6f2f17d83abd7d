"""Lines over the size of a fleet, drawn as SVG: a panel for each figure, beside each other. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

#: The figures of one panel: by the name of a line, those of each size.
Lines = Mapping[str, Mapping[int, float]]

WIDTH, HEIGHT, GAP = 250, 190, 30
LEFT, TOP, BOTTOM = 14, 52, 38
NOTE_HEIGHT: Final = 16
COLOURS: Final = {"supervisor": "#2f6feb", "node": "#3c873a", "python": "#b8860b"}
#: Legible on a light page and on a dark one.
GREY: Final = "#767676"


@dataclass(frozen=True)
class Panel:
    """What is drawn in one panel, and its unit."""

    title: str
    unit: str


def draw(panels: Sequence[tuple[Panel, Lines]], notes: Sequence[str] = ()) -> str:
    """The picture: panels from the left to the right, notes below them.

    Sizes stand at even distances; values begin at zero, and each panel has a scale of its own.
    """
    width = len(panels) * (WIDTH + GAP)
    height = TOP + HEIGHT + BOTTOM + NOTE_HEIGHT * (len(notes) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        f' font-size="11" fill="{GREY}">'
    ]
    for number, (panel, lines) in enumerate(panels):
        parts += _panel(panel, lines, LEFT + number * (WIDTH + GAP))
    below = TOP + HEIGHT + BOTTOM + NOTE_HEIGHT
    parts += [_text(LEFT, below + NOTE_HEIGHT * number, note) for number, note in enumerate(notes)]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, lines: Lines, left: float) -> Iterator[str]:
    sizes = sorted({size for points in lines.values() for size in points})
    highest = max((value for points in lines.values() for value in points.values()), default=0.0) or 1.0
    base = TOP + HEIGHT

    def x(size: int) -> float:
        return left + WIDTH * (sizes.index(size) + 0.5) / len(sizes)

    def y(value: float) -> float:
        return base - HEIGHT * value / highest

    yield _text(left, 16, f"{panel.title} ({panel.unit})", weight="bold")
    yield f'<path d="M{left} {base}h{WIDTH}" stroke="{GREY}" fill="none"/>'
    for size in sizes:
        yield _text(x(size), base + 28, f"{size:,}", anchor="middle")
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS.get(name, GREY)
        yield _text(left + 80 * number, 32, name, colour=colour)
        path = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in sorted(points.items()))
        yield f'<polyline points="{path}" stroke="{colour}" stroke-width="2" fill="none"/>'
        for size, value in points.items():
            yield f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>'
            # Above the higher line and below the lower one, so that labels do not cover each other.
            lower = any(other.get(size, 0.0) > value for other in lines.values())
            yield _text(x(size), y(value) + (14 if lower else -7), _short(value), anchor="middle", colour=colour)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = GREY, weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
