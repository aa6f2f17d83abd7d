"""Writes the reference pages from the code: ``python docs/build.py``.

A test holds what is committed equal to what this writes.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.models import OptionInfo, ParameterInfo

from supervisor import settings
from supervisor.cli.app import app
from supervisor.settings import OVERRIDES, PREFIX, AgentSettings, Settings
from supervisor.telemetry.metrics import Metrics

FOLDER: Final = Path(__file__).parent / "reference"
_WIDTH: Final = 120
_HEAD: Final = "<!-- Written by docs/build.py from the code; change it there. -->"

# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose source can be read too: its columns are aligned, but for the last one."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [titles, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles) - 1)]

    def line(row: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        return f"| {' | '.join([*padded, row[-1]])} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|---|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def _paragraphs(text: str) -> str:
    parts = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(textwrap.fill(" ".join(part.split()), _WIDTH, break_on_hyphens=False) for part in parts)


def _code(text: str) -> str:
    return f"`{text}`"


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_SETTINGS: Final = """
Each setting is an environment variable, a line of `.env` in the working directory, or a file of that name in
`/run/secrets` or among systemd's credentials; the first of these that has it counts. `supervisor config` shows what is
in effect, secrets masked. A `SUPERVISOR_*` variable that is none of these is an error that names the nearest one.

A duration is a number of seconds, or has a unit: `90`, `90s`, `15m`, `24h`, `7d`. A size is a number of bytes, or has
one: `512KiB`, `256MiB`, `1GB`. A list is separated by commas.
"""
_ROWS: Final = """
A row of the registry has `settings` of its own: `supervisor agents update ID --set KEY=VALUE`, or in JSON. These keys
are the supervisor's; all others belong to the handler and reach it as `ctx.settings`. A URL there may name only the
hosts of `SUPERVISOR_API_URL`, `SUPERVISOR_WS_URL` and `SUPERVISOR_ALLOWED_HOSTS`.
"""
#: What may be given, by the type that the field is declared with.
_KINDS: Final[Sequence[tuple[Any, str]]] = (
    (bool, "true or false"),
    (str, "text"),
    (settings.Seconds, "duration"),
    (settings.Bytes, "size"),
    (settings.TextList, "list"),
    (settings.RoleList, "list"),
    (settings.HttpUrl, "http(s) URL"),
    (settings.HttpProxy, "http(s) URL"),
    (settings.SocketUrl, "ws(s) or http(s) URL"),
    (settings.NamespaceName, "auto, or a namespace"),
    (settings.EnginePath, "path"),
    (settings.TokenBudget, "tokens"),
    (settings.CostBudget, "amount"),
    (Path, "path"),
    (SecretStr, "secret"),
    (SecretStr | None, "secret"),
    (tuple[SecretStr, ...], "list of secrets"),
    (tuple[Path, ...], "list of paths"),
    (dict[str, settings.Price], "JSON object"),
)


def settings_page() -> str:
    """The page about settings."""
    by_field = {field: key for key, field in OVERRIDES.items()}
    rows = [
        [
            _code(PREFIX + name.upper()),
            _default(field, hint),
            _kind(hint, field),
            _code(by_field[name]) if name in by_field else "",
            field.description or "",
        ]
        for name, field, hint in _fields(Settings)
    ]
    own = []
    for key, field, hint in _fields(AgentSettings):
        of = OVERRIDES.get(key)
        deployment = next(((f, h) for name, f, h in _fields(Settings) if name == of), None)
        default = _code(PREFIX + of.upper()) if of else _default(field, hint)
        meaning = field.description or (deployment[0].description if deployment else "") or ""
        own.append([_code(key), default, _kind(hint, field), meaning])
    return "\n\n".join(
        [
            "# Settings",
            _HEAD,
            _paragraphs(_SETTINGS),
            _table(["Setting", "Default", "Value", "In a row", "Meaning"], rows),
            "## Settings of one agent",
            _paragraphs(_ROWS),
            _table(["Key", "Default", "Value", "Meaning"], own),
        ]
    )


def _fields(model: type[Settings] | type[AgentSettings]) -> Iterator[tuple[str, FieldInfo, Any]]:
    hints = typing.get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        if not field.description and name not in OVERRIDES:
            raise LookupError(f"{model.__name__}.{name} has no description")
        yield name, field, _without_none(hints[name])


def _without_none(hint: Any) -> Any:
    """The type of a value that may be left out."""
    given = [one for one in typing.get_args(hint) if one is not type(None)]
    return given[0] if type(None) in typing.get_args(hint) and len(given) == 1 else hint


def _kind(hint: Any, field: FieldInfo) -> str:
    found = next((kind for known, kind in _KINDS if hint == known), None)
    plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    found = found or next((kind for known, kind in _KINDS if plain == known), None)
    if found is not None:
        return found
    if typing.get_origin(hint) is Literal:
        return ", ".join(map(_code, typing.get_args(hint)))
    if plain in (int, float):
        return ("whole number" if plain is int else "number") + _bounds(field)
    raise LookupError(f"docs/build.py knows no words for {hint}")


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤"}
    found = [
        f"{sign} {getattr(one, name)}" for one in field.metadata for name, sign in signs.items() if hasattr(one, name)
    ]
    return f" {', '.join(found)}" if found else ""


def _default(field: FieldInfo, hint: Any) -> str:
    value = field.default
    if value is None or value is PydanticUndefined or value in ((), {}):
        return ""
    if hint == settings.Seconds:
        return _code(_scaled(value, ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))))
    if hint == settings.Bytes:
        return _code(_scaled(value, ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, ""))))
    if isinstance(value, bool):
        return _code(str(value).lower())
    return _code(
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _scaled(value: float, units: Sequence[tuple[int, str]]) -> str:
    return next(f"{value / size:g}{unit}" for size, unit in units if value % size == 0)


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_METRICS: Final = """
`GET /metrics` gives these in Prometheus' text format, or as OpenMetrics when asked for it. A histogram has `_bucket`,
`_sum` and `_count` behind its name. Only the first `SUPERVISOR_METRICS_AGENT_LIMIT` agents have series of their own,
and what others call themselves is cut, cleaned and limited in number: `_other` stands for the rest. The series of an
agent that is removed disappear.
"""


def metrics_page() -> str:
    """The page about metrics."""
    rows = [
        [_code(one.name), one.kind, one.unit, ", ".join(map(_code, one.labels)), one.help]
        for one in sorted(Metrics().describe(), key=lambda one: one.name)
    ]
    table = _table(["Metric", "Type", "Unit", "Labels", "Meaning"], rows)
    return "\n\n".join(["# Metrics", _HEAD, _paragraphs(_METRICS), table])


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_COMMANDS: Final = """
Every command has `--help`. What was asked for goes to standard output, everything else to standard error; an error is
one line there. Exit codes: 0 done, 1 it failed, 2 it was called wrongly; `supervisor doctor` has more.
`supervisor --debug …` shows tracebacks of failures.
"""


def commands_page() -> str:
    """The page about commands."""
    commands = list(_commands(app, "supervisor"))
    contents = "\n".join(f"- [`{name}`](#{name.replace(' ', '-')}): {_first_sentence(call)}" for name, call in commands)
    return "\n\n".join(
        ["# Commands", _HEAD, _paragraphs(_COMMANDS), contents, *(_command(name, call) for name, call in commands)]
    )


def _commands(group: typer.Typer, path: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command with its full name, groups last and each in the order of its help."""
    for command in group.registered_commands:
        if command.callback is not None:
            yield f"{path} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from _commands(inner.typer_instance, f"{path} {inner.name}")


def _first_sentence(call: Callable[..., Any]) -> str:
    return " ".join(inspect.cleandoc(call.__doc__ or "").partition("\n\n")[0].split())


def _command(name: str, call: Callable[..., Any]) -> str:
    text, _, example = inspect.cleandoc(call.__doc__ or "").partition("Example: ")
    arguments, options = [], []
    for parameter, hint, info in _parameters(call):
        if isinstance(info, OptionInfo):
            options.append(_option(parameter, hint, info))
        else:
            shown = info.metavar or parameter.name.upper()
            arguments.append([_code(shown), info.help or ""])
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *(cells[0].strip("`") for cells in arguments)])
    parts = [f"## {name}", _paragraphs(text), f"    {usage}"]
    if arguments or options:
        parts.append(_table(["Argument or option", "Default", "Meaning"], [[a, "", m] for a, m in arguments] + options))
    if example:
        alone = re.fullmatch(r"`([^`]+)`", example.strip())
        parts.append(f"Example:\n\n    {alone[1]}" if alone else f"Example: {example.strip()}")
    return "\n\n".join(parts)


def _parameters(call: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any, ParameterInfo]]:
    hints = typing.get_type_hints(call, include_extras=True)
    for parameter in inspect.signature(call).parameters.values():
        hint = hints[parameter.name]
        extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
        info = next((extra for extra in extras if isinstance(extra, ParameterInfo)), None)
        plain = typing.get_args(hint)[0] if extras else hint
        yield parameter, _without_none(plain), info or typer.Option()


def _option(parameter: inspect.Parameter, hint: Any, info: OptionInfo) -> list[str]:
    # In an annotation what stands first is taken for the default until it is looked at.
    declared = [
        one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str) and one.startswith("-")
    ]
    names = declared or [f"--{parameter.name.replace('_', '-')}"]
    value = "" if hint is bool else f" {info.metavar or _value(hint)}"
    default = "" if parameter.default in (parameter.empty, None) or hint is bool else _code(str(parameter.default))
    required = parameter.default is parameter.empty and info.default_factory is None
    meaning = (info.help or "") + (" Required." if required else "") + _range(info)
    return [_code(", ".join(sorted(names, key=len)) + value), default, meaning]


def _value(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    words: Mapping[Any, str] = {int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}
    if hint not in words:
        named = getattr(hint, "__members__", None)
        return "|".join(str(one.value) for one in named.values()) if named else "VALUE"
    return words[hint]


def _range(info: OptionInfo) -> str:
    if info.min is None and info.max is None:
        return ""
    low, high = (f"{bound:g}" if bound is not None else None for bound in (info.min, info.max))
    return f" From {low} to {high}." if low and high else f" At least {low}." if low else f" At most {high}."


# ── all of it ────────────────────────────────────────────────────────────────────────────────────────────────────────


def pages() -> dict[str, str]:
    """Each page by its file's name."""
    made = {"settings.md": settings_page(), "metrics.md": metrics_page(), "commands.md": commands_page()}
    return {name: page.rstrip() + "\n" for name, page in made.items()}


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in pages().items():
        (FOLDER / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
