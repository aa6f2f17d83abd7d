"""Names that others rely on and that no story shows: commands and options, the API of handlers, the log's events."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.upgrade.home import Home

_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical", "exception"})
#: Run by a version itself: each command with its options.
_COMMANDS: Final = """
import json, typer
from supervisor.cli.app import app

def walk(name, command):
    yield name, sorted(option for one in command.params for option in [*one.opts, *one.secondary_opts])
    for child, below in getattr(command, "commands", {}).items():
        yield from walk(f"{name} {child}".strip(), below)

print(json.dumps(dict(walk("", typer.main.get_command(app)))))
"""
#: Run by a version itself: what handlers and their tests import, each with its parameters.
_PUBLIC: Final = """
import inspect, json
import supervisor.handler, supervisor.testing

def parameters(thing):
    try:
        given = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return []
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [f"{stars.get(one.kind, '')}{one.name}{'' if one.default is one.empty else '='}" for one in given]

found = {}
for module in (supervisor.handler, supervisor.testing):
    for name in module.__all__:
        thing = getattr(module, name)
        found[f"{module.__name__}.{name}"] = parameters(thing) if callable(thing) else []
        if inspect.isclass(thing):
            # Where a name is written down does not matter to who uses it.
            members = {k: v for one in reversed(thing.__mro__) if one is not object for k, v in vars(one).items()}
            for attribute, member in members.items():
                if not attribute.startswith("_"):
                    found[f"{module.__name__}.{name}.{attribute}"] = parameters(member) if callable(member) else []
print(json.dumps(found))
"""


async def names_of(home: Home) -> dict[str, Any]:
    """All of them, of the version that is at home there."""
    root = home.version.root
    return {
        "commands": await home.python(_COMMANDS),
        "public": await home.python(_PUBLIC),
        "log events": sorted(set(_log_events(root / "supervisor"))),
        "loggers": sorted(set(_loggers(root / "supervisor"))),
    }


def _calls(folder: Path) -> Iterator[ast.Call]:
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield node


def _first_text(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _log_events(folder: Path) -> Iterator[str]:
    """The events that are written somewhere as ``log.info("event", …)``."""
    for call in _calls(folder):
        for keyword in call.keywords:
            # An outage has two events, which are given to whoever logs them.
            given = keyword.value
            if keyword.arg in ("began", "ended") and isinstance(given, ast.Constant) and isinstance(given.value, str):
                yield given.value
        function, text = call.func, _first_text(call)
        if text is None or not isinstance(function, ast.Attribute) or function.attr not in _LEVELS:
            continue
        owner = ast.unparse(function.value)
        if owner.rpartition(".")[2].strip("_") == "log" or owner.endswith("log()"):
            yield text


def _loggers(folder: Path) -> Iterator[str]:
    for call in _calls(folder):
        text = _first_text(call)
        if text is not None and isinstance(call.func, ast.Name) and call.func.id == "get_logger":
            yield text
