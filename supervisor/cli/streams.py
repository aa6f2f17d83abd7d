"""Where commands write to: any encoding, a pipe whose reader has gone, a full disk, nothing at all."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import sys
from pathlib import Path
from typing import Final, TextIO

from supervisor.cli import errors

#: For people whose terminal has no such signs: what means the same, as wide where columns stand beneath each other.
_SIGNS: Final = {
    **dict.fromkeys("●✔", "*"),
    **dict.fromkeys("▲✖", "!"),
    "↻": "~",
    **dict.fromkeys("◕◑◔◌", "."),
    "‖": "=",
    "○": "o",
    "→": "->",
    "…": "...",
}
_NAME: Final = "supervisor.signs"
_MODES: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}


def _written_otherwise(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for signs that an encoding does not have: an ASCII sign, else the number of the character."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    made = [_SIGNS.get(one) or one.encode("ascii", "backslashreplace").decode() for one in text]
    return "".join(made), error.end


codecs.register_error(_NAME, _written_otherwise)


def prepare() -> None:
    """Make the standard streams such that whatever is written to them fails for no encoding and for no closed file."""
    for number, (name, mode) in enumerate(_MODES.items()):
        stream = getattr(sys, name)
        if stream is None:
            # It was closed when we began. Its number is the next to be given: to the registry's file, else.
            _open_nothing(number)
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  as long as we live
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_NAME)


def _open_nothing(number: int) -> None:
    """Give a descriptor that is closed to the null device."""
    try:
        os.fstat(number)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)
        os.set_inheritable(number, True)


def as_text(value: object, indent: int | None = None) -> str:
    """``value`` as JSON that means the same whatever the encoding of standard output."""
    return json.dumps(value, indent=indent, ensure_ascii=not takes_unicode(), default=str)


def takes_unicode() -> bool:
    """Whether standard output takes every character."""
    return codecs.lookup(sys.stdout.encoding or "ascii").name.startswith("utf-")


def finish(code: int, failure: Exception | None = None) -> int:
    """Write what is left, and say what went wrong.

    A pipe whose reader has gone is no trouble to speak of.

    Args:
        code: the command's own exit code.
        failure: what ended it instead.

    Returns:
        The exit code, which is that of a failure where standard output does not take what was written.
    """
    error = unwritable(sys.stdout)
    if failure is not None:
        of_output = isinstance(failure, OSError) and (
            failure.errno == errno.EPIPE or (error is not None and failure.errno == error.errno)
        )
        code = errors.EXIT_FAILURE if of_output else errors.report(failure)
    if error is not None and error.errno != errno.EPIPE:
        errors.complain(f"Error: standard output cannot be written: {error.strerror or error}")
    unwritable(sys.stderr)
    return code if error is None else code or errors.EXIT_FAILURE


def unwritable(stream: TextIO | None) -> OSError | None:
    """Why what was written to a stream does not go out; what is left of it is given up then. None: all of it is out."""
    if stream is None:
        return None
    try:
        stream.flush()
    except ValueError:
        return None
    except OSError as error:
        # Python would try once more at its end, and complain.
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
        return error
    return None
