"""The page about settings."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.pages.markdown import HEAD, code, paragraphs, table, without_none
from supervisor.settings import OVERRIDES, PREFIX, AgentSettings, Settings, kinds

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
    (kinds.Seconds, "duration"),
    (kinds.Bytes, "size"),
    (kinds.TextList, "list"),
    (kinds.RoleList, "list"),
    (kinds.PlatformCommands, "list, or none"),
    (kinds.BundledHandlers, "list, all or none"),
    (kinds.PartKinds, "list"),
    (kinds.HttpUrl, "http(s) URL"),
    (kinds.HttpProxy, "http(s) URL"),
    (kinds.SocketUrl, "ws(s) or http(s) URL"),
    (kinds.NamespaceName, "auto, or a namespace"),
    (kinds.EnginePath, "path"),
    (kinds.TokenBudget, "tokens"),
    (kinds.CostBudget, "amount"),
    (kinds.Currency, "three letters"),
    (Path, "path"),
    (SecretStr, "secret"),
    (SecretStr | None, "secret"),
    (tuple[SecretStr, ...], "list of secrets"),
    (tuple[Path, ...], "list of paths"),
    (dict[str, kinds.Price], "JSON object"),
)


def settings_page() -> str:
    """The page about settings."""
    by_field = {field: key for key, field in OVERRIDES.items()}
    rows = [
        [
            code(PREFIX + name.upper()),
            _default(field, hint),
            _kind(hint, field),
            code(by_field[name]) if name in by_field else "",
            field.description or "",
        ]
        for name, field, hint in _fields(Settings)
    ]
    own = []
    for key, field, hint in _fields(AgentSettings):
        of = OVERRIDES.get(key)
        deployment = next(((f, h) for name, f, h in _fields(Settings) if name == of), None)
        default = code(PREFIX + of.upper()) if of else _default(field, hint)
        meaning = field.description or (deployment[0].description if deployment else "") or ""
        own.append([code(key), default, _kind(hint, field), meaning])
    return "\n\n".join(
        [
            "# Settings",
            HEAD,
            paragraphs(_SETTINGS),
            table(["Setting", "Default", "Value", "In a row", "Meaning"], rows),
            "## Settings of one agent",
            paragraphs(_ROWS),
            table(["Key", "Default", "Value", "Meaning"], own),
        ]
    )


def _fields(model: type[Settings] | type[AgentSettings]) -> Iterator[tuple[str, FieldInfo, Any]]:
    hints = typing.get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        if not field.description and name not in OVERRIDES:
            raise LookupError(f"{model.__name__}.{name} has no description")
        yield name, field, without_none(hints[name])


def _kind(hint: Any, field: FieldInfo) -> str:
    found = next((kind for known, kind in _KINDS if hint == known), None)
    plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    found = found or next((kind for known, kind in _KINDS if plain == known), None)
    if found is not None:
        return found
    if typing.get_origin(hint) is Literal:
        return ", ".join(map(code, typing.get_args(hint)))
    if plain in (int, float):
        return ("whole number" if plain is int else "number") + _bounds(field)
    raise LookupError(f"docs/pages/settings.py knows no words for {hint}")


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
    if hint == kinds.Seconds:
        return code(_scaled(value, ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))))
    if hint == kinds.Bytes:
        return code(_scaled(value, ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, ""))))
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _scaled(value: float, units: Sequence[tuple[int, str]]) -> str:
    return next(f"{value / size:g}{unit}" for size, unit in units if value % size == 0)
