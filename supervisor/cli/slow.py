"""Says where a handler stands that is long at a message: whoever writes it sees no more of it than silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from supervisor.core.status import Handling

#: So long nobody wonders.
_SLOW_SECONDS: Final = 10.0
_FRAME: Final = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>\S+)', re.MULTILINE)


class SlowAnswers:
    """Tells of each message once.

    Args:
        name: the handler, as its author calls it.
        folder: where its code is.
        limit_seconds: when it is timed out.
        say: told a line.
    """

    def __init__(self, name: str, folder: Path, limit_seconds: float, say: Callable[[str], object]) -> None:
        self._name = name
        self._folder = folder
        self._limit = limit_seconds
        self._say = say
        self._told: set[tuple[int, float]] = set()

    def look(self, handling: Sequence[Handling], now: float) -> None:
        """Tell of what is in the handler's hands for long by ``now``, seconds since the epoch."""
        there = {(one.message, one.since): one for one in handling if not one.left_behind}
        self._told &= there.keys()
        for key, one in there.items():
            if key not in self._told and now - one.since >= _SLOW_SECONDS:
                self._told.add(key)
                where = standing(one.stack, self._folder)
                self._say(
                    f"{self._name} has been at this message for {now - one.since:.0f} s{where}; "
                    f"save the file and it begins anew, or it ends after {self._limit:g} s"
                )


def standing(stack: str, folder: Path) -> str:
    """Where a stack stands, in a clause: the innermost line that is in ``folder``, else of all; empty without one."""
    frames = list(_FRAME.finditer(stack))
    own = [frame for frame in frames if Path(frame["file"]).is_relative_to(folder)]
    for frame in (own or frames)[-1:]:
        return f", it stands at {frame['file']}:{frame['line']}, in {frame['function']}"
    return ""
