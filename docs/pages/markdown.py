"""What the reference pages share: tables, paragraphs, code."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Sequence
from typing import Any, Final

WIDTH: Final = 120
HEAD: Final = "<!-- Written by docs/build.py from the code; change it there. -->"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose source can be read too: its columns are aligned, but for the last one."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [titles, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles) - 1)]

    def line(row: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        return f"| {' | '.join([*padded, row[-1]])} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|---|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def paragraphs(text: str) -> str:
    """Text of a docstring or constant, filled anew to the width of a page."""
    parts = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(textwrap.fill(" ".join(part.split()), WIDTH, break_on_hyphens=False) for part in parts)


def code(text: str) -> str:
    """Text as code."""
    return f"`{text}`"


def without_none(hint: Any) -> Any:
    """The type of a value that may be left out."""
    given = [one for one in typing.get_args(hint) if one is not type(None)]
    return given[0] if type(None) in typing.get_args(hint) and len(given) == 1 else hint
