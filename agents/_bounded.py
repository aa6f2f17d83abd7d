"""JSON of programs and models, which is not read where that would hold the event loop, and with it all agents."""

from __future__ import annotations

from typing import Final

#: Objects, arrays and keys in one text, and values of any kind: so many take some 50 ms. What stands in texts counts
#: too.
MAX_PARTS: Final = 100_000
MAX_VALUES: Final = 500_000


class TooManyPartsError(ValueError):
    """More than is read."""


def check_parts(raw: str | bytes) -> None:
    """Look at how much JSON there is before it is read.

    Raises:
        TooManyPartsError: it has more than :data:`MAX_PARTS` objects, arrays and keys, or :data:`MAX_VALUES` values.
    """
    if len(raw) <= MAX_PARTS:
        return
    count = raw.count if isinstance(raw, str) else raw.decode("latin-1").count
    parts = count("{") + count("[") + count(":")
    if parts > MAX_PARTS or count(",") > MAX_VALUES:
        raise TooManyPartsError(f"it has more than {MAX_PARTS:,} parts")
