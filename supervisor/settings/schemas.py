"""Values of a row's settings against the JSON schemas that its handler gives of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

#: JSON's kinds of values, as people call them.
_KINDS: Final[Mapping[str, str]] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}

_TYPES: Final[Mapping[str, type]] = {"string": str, "array": list, "object": dict, "null": type(None)}


def misfits(row: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What to say of each value that its schema does not take: its key, what is taken and what kind it is; no values.

    Args:
        schemas: by the setting's name; of each ``type``, ``enum``, ``const``, ``minimum``, ``maximum``, ``items`` and
            ``anyOf`` are looked at, and what cannot be read refuses nothing.
    """
    found = ((name, _misfit(row[name], schema)) for name, schema in schemas.items() if row.get(name) is not None)
    return tuple(f"settings: {name}{misfit}" for name, misfit in found if misfit)


def as_written(value: Any) -> Any:
    """A value, where a text that is a number, ``true`` or ``false`` is taken for that: YAML's quotes make such texts.

    Version 0.1 checked nothing, and many a handler reads them; they are refused from the next version on.
    """
    if isinstance(value, list):
        return [as_written(one) for one in value]
    if not isinstance(value, str):
        return value
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, bool | int | float) else value


def _misfit(value: Any, schema: object) -> str:
    """Why a value does not fit, as what follows the name of its setting; empty where it does."""
    if not isinstance(schema, Mapping):
        return ""
    if isinstance(ways := schema.get("anyOf"), list) and ways:
        found = [_misfit(value, way) for way in ways]
        return "" if "" in found else found[0]
    if wanted := _wanted(value, schema):
        return f" must be {wanted}{'' if _is_one(value, schema) else f', and is {_kind(value)}'}"
    if isinstance(value, list):
        for number, item in enumerate(value, 1):
            if misfit := _misfit(item, schema.get("items")):
                return f": item {number}{misfit}"
    return ""


def _wanted(value: Any, schema: Mapping[str, Any]) -> str:
    """What a value should be that is not; empty where it is."""
    allowed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(allowed, list):
        return "" if any(_same(value, one) for one in allowed) else _listed(map(_shown, allowed))
    kinds = [kind for kind in _listed_kinds(schema.get("type")) if kind in _KINDS]
    if kinds and not any(_is(kind, value) for kind in kinds):
        return _listed(_KINDS[kind] for kind in kinds)
    if _is("number", value):
        return ", ".join(_bounds(value, schema))
    return ""


def _is_one(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is of the kind of those that alone are allowed, so that its kind tells nothing."""
    allowed = schema.get("enum")
    return isinstance(allowed, list) and _kind(value) in map(_kind, allowed)


def _bounds(value: float, schema: Mapping[str, Any]) -> Iterator[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if isinstance(least, int | float) and value < least:
        yield f"{least} or more"
    if isinstance(most, int | float) and value > most:
        yield f"{most} or less"


def _listed_kinds(declared: object) -> list[Any]:
    return declared if isinstance(declared, list) else [declared]


def _is(kind: str, value: Any) -> bool:
    """Whether a value is of one of JSON's kinds; whole numbers are numbers, and 2.0 is whole."""
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and float(value).is_integer())
    return isinstance(value, _TYPES.get(kind, ()))


def _kind(value: Any) -> str:
    """What a value is, as people call it."""
    return next((word for kind, word in _KINDS.items() if _is(kind, value)), "of no kind that JSON has")


def _same(value: Any, other: Any) -> bool:
    """Whether two values are the same in JSON, where true is no 1."""
    return isinstance(value, bool) is isinstance(other, bool) and value == other


def _shown(allowed: Any) -> str:
    return str(allowed).lower() if isinstance(allowed, bool) else str(allowed)


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
