"""Lines of the log as people read them at a terminal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TextIO

from supervisor.telemetry.redaction import TRACEBACKS

#: As much of an ISO time as there are whole seconds in.
_SECONDS: Final = len("2026-01-01T00:00:00")
#: What a value is quoted for.
_QUOTED: Final = re.compile(r"[\s\"=]")


def console_line(event: Mapping[str, Any], *, colours: bool) -> str:
    """A line as it is written for people, from what a listener was given."""
    return Console(colours=colours)(None, "", dict(event))


class Console:
    """Lines for people: time, level, event, then ``key=value``; tracebacks below."""

    _COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
    _WIDTH: Final = 28

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        when = _time_of_day(event.pop("timestamp")[:_SECONDS])
        level = str(event.pop("level", "info"))
        text = _one_line(str(event.pop("event", "")))
        event.pop("logger", None)
        tracebacks = ["\n".join(map(_one_line, str(event.pop(key)).split("\n"))) for key in TRACEBACKS & event.keys()]
        pairs = " ".join(f"{self._paint('36', key)}={_shown(value)}" for key, value in event.items())
        head = f"{self._paint('2', when)} {self._paint(self._COLOURS.get(level, ''), f'{level:8}')}"
        line = f"{head} {self._paint('1', f'{text:{self._WIDTH}}' if pairs else text)} {pairs}".rstrip()
        return "\n".join([line, *tracebacks])

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and code else text


@lru_cache(maxsize=2)
def _time_of_day(seconds: str) -> str:
    """A moment of ours, in UTC, as the clock on the wall has it; lines come many to a second."""
    return datetime.fromisoformat(f"{seconds}Z").astimezone().strftime("%H:%M:%S")


def _one_line(text: str) -> str:
    """``text`` without what could forge another line or move the cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _one_line(value if isinstance(value, str) else str(value))
    return json.dumps(text, ensure_ascii=False) if not text or _QUOTED.search(text) else text


def wants_colour(stream: TextIO) -> bool:
    """Whether lines to ``stream`` are coloured: on a terminal, unless ``NO_COLOR`` is set."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()
