"""JSON from outside as values: half emojis are mended, and nothing is read that would hold the event loop for long."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from supervisor.protocol.text import replace_lone_surrogates

#: Objects, arrays and keys in one text. Making them is what takes time, and nothing else can run meanwhile: so many
#: take some 50 ms.
MAX_PARTS: Final = 200_000
#: Values of any kind in one text, which cost less: numbers, say.
MAX_VALUES: Final = 2_000_000

#: Values of a list that is read row by row: to find where its rows begin takes some 90 ms for so many.
MAX_ROWS_VALUES: Final = 700_000

_decode = msgspec.json.Decoder().decode


class UnreadableError(ValueError):
    """Text that is not read; ``reason`` is a short word for counters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_json(data: str | bytes) -> Any:
    """Read JSON; lone surrogates, which JavaScript lets through, become U+FFFD.

    Raises:
        UnreadableError: it is not JSON (``bad_json``), nested too deeply (``too_deep``), or has more than
            :data:`MAX_PARTS` parts or :data:`MAX_VALUES` values (``too_many_parts``).
    """
    if len(data) > MAX_PARTS and (_parts(data) > MAX_PARTS or _values(data) > MAX_VALUES):
        raise UnreadableError("too_many_parts")
    try:
        return _decode(data)
    except RecursionError:
        raise UnreadableError("too_deep") from None
    except (msgspec.DecodeError, UnicodeError):
        pass
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    try:
        # Each escape is looked at.
        return _decode(replace_lone_surrogates(raw) if raw.count(b"\\") <= MAX_PARTS else raw)
    except RecursionError:
        raise UnreadableError("too_deep") from None
    except (msgspec.DecodeError, UnicodeError):
        raise UnreadableError("bad_json") from None


class _Rows(msgspec.Struct):
    data: list[msgspec.Raw]


_decode_rows = msgspec.json.Decoder(list[msgspec.Raw] | _Rows).decode


def split_rows(data: bytes) -> list[bytes]:
    """The rows of an array, or of the one that is an object's ``data``: each is JSON to be read for itself.

    Raises:
        UnreadableError: as of :func:`decode_json`; ``bad_json`` too where it is no list, and ``too_many_parts`` past
            :data:`MAX_ROWS_VALUES`.
    """
    if _values(data) > MAX_ROWS_VALUES:
        raise UnreadableError("too_many_parts")
    try:
        found = _decode_rows(data)
    except RecursionError:
        raise UnreadableError("too_deep") from None
    except (msgspec.DecodeError, UnicodeError):
        raise UnreadableError("bad_json") from None
    return [bytes(row) for row in (found.data if isinstance(found, _Rows) else found)]


def _parts(data: str | bytes) -> int:
    """At least as many as there are; what is written in texts counts too."""
    if isinstance(data, str):
        return data.count("{") + data.count("[") + data.count(":")
    return data.count(b"{") + data.count(b"[") + data.count(b":")


def _values(data: str | bytes) -> int:
    """About as many as there are at least."""
    return data.count(",") if isinstance(data, str) else data.count(b",")
