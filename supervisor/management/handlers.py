"""What a person can choose from for an agent's row: handlers, and the settings that each says it has."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.core.errors import HandlerError
from supervisor.handlers import Folders
from supervisor.handlers.declared import declared_schema, declared_settings, missing_requirements


@dataclass(frozen=True, slots=True)
class KnownHandler:
    """A handler that a row may name.

    Args:
        about: the first line of what its module says of itself.
        settings: all that a row may set of it besides the supervisor's own; None where it does not say.
        settings_schema: what values these take, a JSON schema each; of those of which it says that.
        missing: the commands that install what it needs and this machine lacks.
    """

    name: str
    about: str = ""
    settings: tuple[str, ...] | None = None
    settings_schema: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def known_handlers(folders: Folders) -> list[KnownHandler]:
    """The handlers of some folders, by name; their code is read and not run.

    Raises:
        HandlerError: a folder cannot be read.
    """
    found = []
    for name in folders.names():
        try:
            home = folders.home(name)
        except HandlerError:
            # It went away meanwhile.
            continue
        missing = tuple(dict.fromkeys(missing_requirements(name, home).values()))
        declared, schema = declared_settings(name, home), declared_schema(name, home)
        found.append(KnownHandler(name, _about(name, home), declared, schema, missing))
    return found


def _about(name: str, home: Path) -> str:
    path = home / f"{name}.py"
    try:
        tree = ast.parse((path if path.is_file() else home / name / "__init__.py").read_bytes())
    except (OSError, ValueError, SyntaxError):
        return ""
    return (ast.get_docstring(tree) or "").partition("\n")[0]
