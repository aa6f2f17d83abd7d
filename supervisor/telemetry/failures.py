"""What is said of an exception that others raised: nothing secret in it, and nothing that cannot be written."""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Final

from supervisor.telemetry.redaction import redact

MAX_REASON_CHARS = 500
MAX_TRACEBACK_CHARS = 8000
#: What is farther from the end that is kept is not looked at: it could not survive the cut, and it costs time.
_CLEANED_CHARS = 8 * MAX_TRACEBACK_CHARS

#: Where the code that calls others' is: ours, and what imports theirs.
_CALLERS: Final = (f"{Path(__file__).parents[1]}/", "<frozen importlib")

Redact = Callable[[str], str]


def describe(error: BaseException, redact: Redact = redact) -> str:
    """An exception for people, shortly; one whose own text cannot be had is named all the same.

    Args:
        redact: takes secrets out of a text; the agent's own knows its token, which may look like nothing.
    """
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  the author's __str__ may raise anything
        text = "(its text cannot be had)"
    name = type(error).__name__
    return _writable(redact(f"{name}: {text}"[:_CLEANED_CHARS] if text else name))[:MAX_REASON_CHARS]


def describe_fully(error: BaseException, redact: Redact = redact) -> str:
    """An exception with traceback and causes, the end of it where it is long; ``redact`` as in :func:`describe`.

    The traceback begins with the code of whoever raised it: how it was called is of no use to its author.
    """
    text = traceback_of(error, _theirs(error.__traceback__))
    return _writable(redact(text[-_CLEANED_CHARS:]))[-MAX_TRACEBACK_CHARS:]


def _theirs(first: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback from the first frame on that is not ours; all of it where every one is."""
    step = first
    while step is not None and step.tb_frame.f_code.co_filename.startswith(_CALLERS):
        step = step.tb_next
    return step or first


def traceback_of(error: BaseException, begin: types.TracebackType | None = None) -> str:
    """An exception with traceback and causes, as the interpreter would show it, or its name at least.

    Args:
        begin: where its own traceback begins; None: where it does.
    """
    try:
        return "".join(traceback.format_exception(type(error), error, begin or error.__traceback__))
    except BaseException:  # noqa: BLE001  the traceback shows the author's __str__, __notes__ and attributes
        return f"{type(error).__name__} (its traceback cannot be had)"


def _writable(text: str) -> str:
    """``text`` with lone surrogates written out: they cannot be stored or sent."""
    return text.encode("utf-8", "backslashreplace").decode()
