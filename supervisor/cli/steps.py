"""Progress on standard error: a spinner for people at a terminal, a line per step that is done for all others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status


class Steps:
    """What a command that starts several things tells of them; used as a context manager."""

    def __init__(self) -> None:
        from supervisor.cli.output import stderr_console  # noqa: PLC0415  import what is slow only when it runs

        self._console = stderr_console()
        self._spinner: Status | None = None

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def doing(self, text: str) -> None:
        """Something is under way."""
        if not sys.stderr.isatty():
            return
        if self._spinner is None:
            self._spinner = self._console.status(text)
            self._spinner.start()
        self._spinner.update(text)

    def done(self, text: str) -> None:
        """A step is done."""
        self._console.print(f"[green]✔[/green] {text}")

    def close(self) -> None:
        """No more is under way."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
