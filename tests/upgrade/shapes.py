"""What JSON is like: its keys and the kinds of its values, so that two runs of one story can be compared.

A shape is JSON itself: an object with the shapes of its values, a list with the one shape that fits all its items, or
the kinds of a plain value, as ``number|null``. A key that only some of a list's objects have ends in ``?``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

_KINDS = {bool: "boolean", int: "number", float: "number", str: "text", type(None): "null"}


def shape(value: Any) -> Any:
    """The shape of a value."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [reduce(_both, map(shape, value))] if value else []
    return _KINDS[type(value)]


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return _both_objects(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return [_both(one[0], other[0])] if one and other else one or other
    if isinstance(one, str) and isinstance(other, str):
        return "|".join(sorted({*one.split("|"), *other.split("|")}))
    # Something or nothing: what is known of it is the something.
    return other if one == "null" else one


def _both_objects(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    names = {key.removesuffix("?"): None for key in (*one, *other)}
    made = {}
    for name in names:
        found = [had[key] for had in (one, other) for key in (name, f"{name}?") if key in had]
        everywhere = name in one and name in other
        made[name if everywhere else f"{name}?"] = reduce(_both, found)
    return made


def losses(was: Any, now: Any, path: str = "") -> Iterator[str]:
    """What a program that relied on ``was`` misses in ``now``; more than there was is no loss."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key, inner in was.items():
            if key.endswith("?"):
                continue
            if key in now:
                yield from losses(inner, now[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is missing"
    elif isinstance(was, list) and isinstance(now, list):
        if was and now:
            yield from losses(was[0], now[0], f"{path}[]")
    elif isinstance(was, str) and isinstance(now, str):
        kinds, before = ({*kinds.split("|")} - {"null"} for kinds in (now, was))
        if kinds and before and not kinds <= before:
            yield f"{path} is {now}, was {was}"
    elif "null" not in (was, now):
        yield f"{path} is of another kind"
