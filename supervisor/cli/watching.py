"""The live table of ``status --watch``: which agents it shows, in what order and from where, by the keys pressed."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from supervisor.cli import output

if TYPE_CHECKING:
    from supervisor.core.status import AgentStatus
    from supervisor.management.selection import Selector

#: Orders, each with what comes first; the first shows first what most needs somebody.
ORDERS: Final[dict[str, Callable[[AgentStatus], Any] | None]] = {
    "worst": None,
    "name": lambda status: (status.name or status.id).casefold(),
    "rate": lambda status: -status.answered_lately,
    "waiting": lambda status: -status.inbox.available,
    "dead": lambda status: -status.inbox.dead,
    "newest": lambda status: -(status.since or 0.0),
}
HELP: Final = "s order  / filter  f failing  ↑↓ scroll  q end"
_ESCAPE: Final = "\x1b"
_KEYS: Final = {"\x1b[A": "up", "\x1bOA": "up", "k": "up", "\x1b[B": "down", "\x1bOB": "down", "j": "down"} | {
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    " ": "page down",
    "\x1b[H": "home",
    "g": "home",
    "\x1b[F": "end",
    "G": "end",
}


@dataclass
class View:
    """What somebody wants to see of the table.

    Args:
        selector: only agents that have what it asks for; None for all.
        order: one of ``ORDERS``.
        text: only agents with this in id, name, handler or labels, in whatever case.
        troubled: only agents in trouble.
        typing: whether keys go to ``text``.
        top: how many agents stand above the first that is shown; :meth:`page` keeps it within what there is.
        ended: whether somebody has had enough.
    """

    selector: Selector | None = None
    order: str = "worst"
    text: str = ""
    troubled: bool = False
    typing: bool = False
    top: int = 0
    ended: bool = False
    _rows: int = field(default=1, repr=False)

    def shown(self, statuses: Sequence[AgentStatus]) -> list[AgentStatus]:
        """The agents that are wanted, in the order that is wanted."""
        ordered = output.worst_first(one for one in statuses if self._wants(one))
        key = ORDERS[self.order]
        return ordered if key is None else sorted(ordered, key=key)

    def page(self, wanted: Sequence[AgentStatus], rows: int) -> Sequence[AgentStatus]:
        """What of them fits into ``rows`` lines, from where one has scrolled to."""
        self._rows = max(1, rows)
        self.top = max(0, min(self.top, len(wanted) - self._rows))
        return wanted[self.top : self.top + self._rows]

    def said(self, wanted: int, total: int) -> str:
        """What is shown of how many, and how; empty where it is all, as it is at first."""
        told = []
        if wanted > self._rows:
            told.append(f"{self.top + 1} to {min(wanted, self.top + self._rows)} of {wanted}")
        elif wanted < total:
            told.append(f"{wanted} of {total}")
        told += [f"by {self.order}"] if self.order != "worst" else []
        told += [f"/{self.text}{'_' if self.typing else ''}"] if self.text or self.typing else []
        told += ["in trouble only"] if self.troubled else []
        return "  ".join(told)

    def press(self, key: str) -> None:
        """Do what a key stands for; one that stands for nothing does nothing."""
        if self.typing:
            self._type(key)
        elif key == "q":
            self.ended = True
        elif key == "s":
            names = list(ORDERS)
            self.order = names[(names.index(self.order) + 1) % len(names)]
        elif key == "/":
            self.typing, self.text = True, ""
        elif key == "f":
            self.troubled = not self.troubled
        elif key == _ESCAPE:
            self.text, self.troubled = "", False
        else:
            steps = {"up": -1, "down": 1, "page up": -self._rows, "page down": self._rows, "end": sys.maxsize}
            where = _KEYS.get(key, "")
            self.top = 0 if where == "home" else self.top + steps.get(where, 0)

    def _type(self, key: str) -> None:
        if key in ("\r", "\n", _ESCAPE):
            self.typing, self.text = False, "" if key == _ESCAPE else self.text
        elif key in ("\x7f", "\b"):
            self.text = self.text[:-1]
        elif len(key) == 1 and key.isprintable():
            self.text += key

    def _wants(self, status: AgentStatus) -> bool:
        if self.selector and status not in self.selector:
            return False
        if self.troubled and not (status.trouble or status.failing or output.reason(status)):
            return False
        labels = (f"{key}={value}" for key, value in status.labels.items())
        said = " ".join((status.id, status.name, status.handler, *labels))
        return self.text.casefold() in said.casefold()


@contextlib.contextmanager
def keys() -> Iterator[Callable[[float], list[str]]]:
    """What is pressed on the terminal: gives what waits for keys, some seconds at most. Without a terminal none come.

    Keys come one by one and unseen meanwhile; the terminal is as it was afterwards. Ctrl-C stays what it is.
    """
    if not sys.stdin.isatty():
        yield _wait_without
        return
    import termios  # noqa: PLC0415  only on a terminal
    import tty  # noqa: PLC0415

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield lambda seconds: _pressed(number, seconds)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _wait_without(seconds: float) -> list[str]:
    select.select([], [], [], seconds)
    return []


def _pressed(number: int, seconds: float) -> list[str]:
    """The keys that were pressed, each as the characters that it sends."""
    if not select.select([number], [], [], seconds)[0]:
        return []
    raw = os.read(number, 1024).decode("utf-8", "replace")
    if not raw:
        # The terminal is gone; nobody presses anything any more.
        return _wait_without(seconds)
    found = []
    while raw:
        key = next((one for one in _KEYS if raw.startswith(one)), raw[0])
        found.append(key)
        raw = raw[len(key) :]
    return found
