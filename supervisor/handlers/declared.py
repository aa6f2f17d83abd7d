"""What a handler's module says of itself in literals: read from its text, for commands run no handler's code."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any, Final

#: What it needs besides the supervisor (docs/handlers.md#what-it-needs).
REQUIRES: Final = "REQUIRES"
#: All that a row may set of it (docs/handlers.md#what-it-needs).
SETTINGS: Final = "SETTINGS"


def missing_requirements(name: str, folder: Path) -> dict[str, str]:
    """What a handler needs and this Python lacks: import names, each with the command that installs it.

    ``REQUIRES = {"pandas": "pip install pandas"}``. A module that says nothing, or says it in another form, needs
    nothing.
    """
    required = _literal(name, folder, REQUIRES)
    pairs = required.items() if isinstance(required, dict) else ()
    return {
        module: command
        for module, command in pairs
        if isinstance(module, str) and isinstance(command, str) and module.isidentifier() and not is_installed(module)
    }


def declared_settings(name: str, folder: Path) -> tuple[str, ...] | None:
    """The settings that a handler has, by its ``SETTINGS``; None where it does not say."""
    return settings_of(_literal(name, folder, SETTINGS))


def declared_schema(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    """What values a handler's settings take, a JSON schema each, by its ``SETTINGS``; empty where it does not say."""
    return schema_of(_literal(name, folder, SETTINGS))


def settings_of(declared: object) -> tuple[str, ...] | None:
    """The names in ``SETTINGS = ("city", "units")`` or ``{"city": {"type": "string"}}``; None where it says none."""
    if not isinstance(declared, tuple | list | dict) or not all(isinstance(name, str) for name in declared):
        return None
    schemas = declared.values() if isinstance(declared, dict) else ()
    return tuple(declared) if all(isinstance(schema, dict) for schema in schemas) else None


def schema_of(declared: object) -> dict[str, dict[str, Any]]:
    """The schemas in ``SETTINGS = {"city": {"type": "string"}}``; empty where it gives none."""
    return dict(declared) if isinstance(declared, dict) and settings_of(declared) is not None else {}


def _literal(name: str, folder: Path, constant: str) -> Any:
    """The value of a constant in a handler's module; None where there is none that can be read."""
    path = folder / f"{name}.py"
    try:
        tree = ast.parse((path if path.is_file() else folder / name / "__init__.py").read_bytes())
    except (OSError, ValueError, SyntaxError):
        # The loader says what is wrong with such a module.
        return None
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == constant for target in targets):
            value = getattr(node, "value", None)
            try:
                return None if value is None else ast.literal_eval(value)
            except ValueError:
                return None
    return None


def is_installed(module: str) -> bool:
    """Whether this Python has a module of that name."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:
        # A module that is loaded and has no spec.
        return True
