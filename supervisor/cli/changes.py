"""How a change of a row is told to people: what was, and what is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

#: What is shown of a value.
_VALUE_CHARS: Final = 60


def told(before: Mapping[str, Any], after: Mapping[str, Any], *, all_of_it: bool = False) -> Iterator[str]:
    """Each field, or each key of settings and labels, that is different: ``handler: echo → tour``.

    Args:
        all_of_it: also what looks the same, as two masked secrets do.
    """
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            keys = [key for key in sorted({*old, *new}) if all_of_it or old.get(key) != new.get(key)]
            yield from (f"{name}.{key}: {_change(old, new, key)}" for key in keys)
        elif all_of_it or old != new:
            yield f"{name}: {_change(before, after, name)}"


def shown(value: object) -> str:
    """A value in few characters."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_CHARS else f"{text[: _VALUE_CHARS - 1]}…"


def _change(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> str:
    return f"{shown(old[key]) if key in old else '-'} → {shown(new[key]) if key in new else '-'}"
