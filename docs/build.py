"""Writes the reference pages from the code: ``python docs/build.py``.

A test holds what is committed equal to what this writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from docs.pages.commands import commands_page
from docs.pages.metrics import metrics_page
from docs.pages.settings import settings_page

FOLDER: Final = Path(__file__).parent / "reference"


def pages() -> dict[str, str]:
    """Each page by its file's name."""
    made = {"settings.md": settings_page(), "metrics.md": metrics_page(), "commands.md": commands_page()}
    return {name: page.rstrip() + "\n" for name, page in made.items()}


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in pages().items():
        (FOLDER / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
