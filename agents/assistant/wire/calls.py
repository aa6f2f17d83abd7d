"""Tool calls of servers that speak OpenAI's language, told apart as OpenAI's are. Pure, no I/O.

A stream brings a call in pieces, and a piece says by its index which call it belongs to. Servers give every call the
index 0 or none, repeat a call's name with each piece, leave ids empty, use one twice, or write arguments as an object.
A client would make one call of two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: A line without it brings no call, and need not be read.
MARK: Final = b'"tool_calls"'


@dataclass(slots=True)
class _Call:
    """One call as far as it has come.

    Args:
        number: its place among the answer's calls.
        said: the id that the server gave it, if any.
    """

    number: int
    said: str
    name: str = ""
    arguments: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are JSON: nothing can follow them."""
        try:
            json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True


@dataclass(slots=True)
class Calls:
    """The calls of one answer."""

    _calls: list[_Call] = field(default_factory=list)
    #: The last one of each index.
    _open: dict[str, _Call] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)

    def tell_apart(self, event: Any) -> bool:
        """Number the calls of one event, in place; whether there are any."""
        choices = event.get("choices") if isinstance(event, dict) else None
        if not isinstance(choices, list):
            return False
        deltas = [choice.get("delta") for choice in choices if isinstance(choice, dict)]
        pieces = [delta["tool_calls"] for delta in deltas if isinstance(delta, dict) and delta.get("tool_calls")]
        for piece in (one for some in pieces if isinstance(some, list) for one in some):
            if isinstance(piece, dict) and isinstance(piece.get("function"), dict):
                self._number(piece, piece["function"])
        return bool(pieces)

    def _number(self, piece: dict[str, Any], function: dict[str, Any]) -> None:
        index, said = str(piece.get("index")), str(piece.get("id") or "")
        name, arguments = _text(function.get("name")), _arguments(function.get("arguments"))
        call = self._open.get(index)
        if call is None or _begins_another(call, said, name):
            call = _Call(len(self._calls), said, name)
            self._calls.append(call)
            self._open[index] = call
            piece["id"] = self._own_id(call)
        else:
            # A client would add to a name what repeats it.
            piece.pop("id", None)
            if call.name:
                function.pop("name", None)
            call.name = call.name or name
        call.arguments += arguments
        piece["index"], function["arguments"] = call.number, arguments

    def _own_id(self, call: _Call) -> str:
        """An id that no other call of the answer has: results are told apart by it."""
        own = call.said or f"call_{call.number}"
        while own in self._ids:
            own = f"{own}_{call.number}"
        self._ids.add(own)
        return own


def _begins_another(call: _Call, said: str, name: str) -> bool:
    """Whether a piece with the index of a call begins another one."""
    if not name or not call.name:
        return False
    if said and call.said:
        return said != call.said
    # Without ids two of the same name are told by what has come: nothing follows on whole arguments.
    return name != call.name or call.is_whole


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: object) -> str:
    return json.dumps(value) if isinstance(value, Mapping) else _text(value)
