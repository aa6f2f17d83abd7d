"""A sheet that is drawn on in pixels, from the top left corner."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from grafana.picture import theme

DPI: Final = 100
FONT: Final = "DejaVu Sans"
#: A picture of flat colours needs no more, and is a third of the size.
COLORS: Final = 256
_POINTS_PER_PIXEL: Final = 72 / DPI
_PACK: Final = np.array([65536, 256, 1])


@dataclass(frozen=True)
class Box:
    """A rectangle: left, top, width and height in pixels."""

    x: float
    y: float
    w: float
    h: float

    def inset(self, left: float, top: float, right: float | None = None, bottom: float | None = None) -> Box:
        """The same without its margins; right and bottom are as left and top unless given."""
        right, bottom = left if right is None else right, top if bottom is None else bottom
        return Box(self.x + left, self.y + top, self.w - left - right, self.h - top - bottom)


class Canvas:
    """A sheet of a size in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=theme.BACKGROUND)
        self._agg = FigureCanvasAgg(self._figure)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 12,
        color: str = theme.TEXT,
        bold: bool = False,
        align: Any = "left",
        anchor: Any = "center",
    ) -> None:
        """Write a line; ``y`` is its middle unless anchored otherwise."""
        self._figure.text(
            x / self.width,
            1 - y / self.height,
            words,
            # No mathematics: a dollar is a dollar.
            parse_math=False,
            zorder=3,
            fontsize=size * _POINTS_PER_PIXEL,
            color=color,
            weight="bold" if bold else "normal",
            ha=align,
            va="center_baseline" if anchor == "center" else anchor,
            family=FONT,
        )

    def measure(self, words: str, size: float = 12, *, bold: bool = False) -> float:
        """How many pixels wide a line is."""
        properties = _font(size, bold)
        renderer = self._agg.get_renderer()  # type: ignore[no-untyped-call]
        width, _, _ = renderer.get_text_width_height_descent(words, properties, False)
        return float(width)

    def fitted(self, words: str, room: float, size: float = 12, *, bold: bool = False) -> str:
        """The words, cut short with an ellipsis where there is no room for them."""
        if self.measure(words, size, bold=bold) <= room:
            return words
        while words and self.measure(f"{words}…", size, bold=bold) > room:
            words = words[:-1]
        return f"{words.rstrip()}…"

    def rectangle(self, box: Box, fill: str, *, edge: str | None = None, radius: float = 0, alpha: float = 1.0) -> None:
        """Draw one, with round corners if wanted."""
        place = (box.x / self.width, 1 - (box.y + box.h) / self.height)
        wide, high = box.w / self.width, box.h / self.height
        style: dict[str, Any] = {
            "transform": self._figure.transFigure,
            "facecolor": fill,
            "edgecolor": edge or "none",
            "linewidth": 0.7,
            "alpha": alpha,
        }
        if radius:
            rounding = f"round,pad=0,rounding_size={radius / self.width}"
            aspect = self.width / self.height
            patch: Any = FancyBboxPatch(place, wide, high, boxstyle=rounding, mutation_aspect=aspect, **style)
        else:
            patch = Rectangle(place, wide, high, **style)
        self._figure.add_artist(patch)

    def axes(self, box: Box) -> Axes:
        """Axes in a rectangle, without a frame."""
        place = (box.x / self.width, 1 - (box.y + box.h) / self.height, box.w / self.width, box.h / self.height)
        made = self._figure.add_axes(place, facecolor="none", zorder=2)
        for side in made.spines.values():
            side.set_visible(False)
        made.tick_params(length=0, colors=theme.DIM, labelsize=10.5 * _POINTS_PER_PIXEL, labelfontfamily=FONT, pad=4)
        return made

    def save(self, path: Path) -> None:
        """Write a PNG."""
        raw = io.BytesIO()
        self._figure.savefig(raw, format="png", dpi=DPI, facecolor=theme.BACKGROUND)
        raw.seek(0)
        with Image.open(raw) as image:
            _flat(image.convert("RGB")).save(path, optimize=True)


def _flat(image: Image.Image) -> Image.Image:
    """The picture in its own most frequent colours and the theme's: those stay exactly what they are."""
    bands = np.asarray(image, dtype=np.int32).reshape(-1, 3)
    shades, places, counts = np.unique(bands @ _PACK, return_inverse=True, return_counts=True)
    fixed = np.array([int(shade[1:], 16) for shade in theme.EXACT])
    frequent = shades[np.argsort(counts)[::-1][: COLORS - len(fixed)]]
    palette = _unpacked(np.concatenate([fixed, frequent]))
    nearest = np.array([np.argmin(((palette - shade) ** 2).sum(axis=1)) for shade in _unpacked(shades)], np.uint8)
    flat = Image.frombytes("P", image.size, nearest[places].tobytes())
    flat.putpalette([int(value) for value in palette.ravel()])
    return flat


def _unpacked(shades: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.stack([shades >> 16, shades >> 8 & 255, shades & 255], axis=1)


def _font(size: float, bold: bool) -> Any:
    return FontProperties(family=FONT, size=size * _POINTS_PER_PIXEL, weight="bold" if bold else "normal")
