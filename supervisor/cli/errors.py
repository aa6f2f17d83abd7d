"""What a failed command says: readable lines on standard error, and an exit code."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Final

import typer

from supervisor.core.errors import AmbiguousAgentError, SeveralProblemsError, SupervisorError
from supervisor.telemetry.redaction import redact

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class UsageError(SupervisorError):
    """Options that do not go together, or a value of the wrong form: exit 2, as for an unknown option."""


class _State:
    debug = False


#: Whether ``--debug`` was given; the app's callback sets it.
STATE: Final = _State()


def report(error: BaseException) -> int:
    """Say what went wrong.

    Returns:
        The exit code.
    """
    if STATE.debug:
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exception(error)
    text, code = _explain(error)
    for line in error.problems if isinstance(error, SeveralProblemsError) else (text,):
        complain(f"Error: {line}")
    return code


def complain(line: str) -> None:
    """Write one line to standard error; nobody hears of it where that cannot be written."""
    with contextlib.suppress(OSError, ValueError):
        print(" ".join(line.split()), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Say what a person should know although the command goes on."""
    complain(f"Warning: {text}")


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, UsageError | AmbiguousAgentError):
        return str(error), EXIT_USAGE
    if isinstance(error, SupervisorError):
        return str(error), EXIT_FAILURE
    if isinstance(error, typer.Abort):
        return "stopped at the question; nothing was changed", EXIT_FAILURE
    # Typer keeps its own copy of click: its exceptions are known by what they can do.
    message = getattr(error, "format_message", None)
    if message is not None:
        context = getattr(error, "ctx", None)
        hint = f"; see: {context.command_path} --help" if context is not None else ""
        text = message().rstrip(".") or "say which command"
        return f"{text}{hint}", getattr(error, "exit_code", EXIT_USAGE)
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}", EXIT_FAILURE
    return _defect(error), EXIT_FAILURE


def _defect(error: BaseException) -> str:
    detail = redact(f"{type(error).__name__}: {error}")[:300]
    return f"internal error, please report it: {detail}; supervisor --debug … shows the traceback"
