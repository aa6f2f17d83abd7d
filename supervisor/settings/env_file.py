"""Reads ``.env``: lines of NAME=value, taken as they are written. ``${…}`` stands for nothing but itself.

Version 0.1 filled it in from the environment, in passwords too. Passwords are taken as they are written from now on.
Elsewhere, and where a whole value is one ``${NAME}``, it is filled in for one version more, and said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from supervisor.core.errors import ConfigurationError

_REFERENCE: Final = "${"
_WHOLE: Final = re.compile(r"\$\{[^{}]*\}\Z")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a file says.

    Args:
        values: by variable; None for a name without a ``=``.
        notes: what its owner should know, a line each; they hold no value.
    """

    values: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()


def read_env_file(path: Path | None, passwords: Collection[str] = ()) -> EnvFile:
    """Read a file; one that is not there says nothing.

    Args:
        passwords: the variables, in capitals, that may hold any character.

    Raises:
        ConfigurationError: it cannot be read, or a line is not NAME=value.
    """
    if path is None or not path.is_file():
        return EnvFile()
    try:
        with path.open(encoding="utf-8") as lines:
            broken = next((binding.original.line for binding in parse_stream(lines) if binding.error), None)
        if broken is not None:
            raise ConfigurationError(f"{path}, line {broken}: this is not NAME=value")
        written = dotenv_values(path, interpolate=False, encoding="utf-8")
        filled = dotenv_values(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {path}: {error}") from None
    values, notes = dict(written), []
    for name, value in written.items():
        if value is None or _REFERENCE not in value:
            continue
        if name.upper() in passwords and not _WHOLE.match(value):
            notes.append(f"{path}: {name} holds ${{…}}, which is taken as it is written")
            continue
        if filled[name] != value:
            values[name] = filled[name]
            notes.append(
                f"{path}: {name} holds ${{…}}, which is filled in for the last time: the next version takes it as it "
                "is written; write the value out, or set the variable itself"
            )
    return EnvFile(values, tuple(notes))
