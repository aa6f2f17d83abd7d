"""Settings of a row that are slips for others: nobody reads them, and whoever wrote them thinks that somebody does."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any, Final

from supervisor.settings.rows import AGENT_SETTING_NAMES

#: How alike two names, or two words of them, must be for the one to be a slip for the other.
SLIP_RATIO: Final = 0.7
#: Names that are so alike are that as a whole, whatever their words.
SURE_RATIO: Final = 0.85


def slip(name: str, declared: Collection[str] = ()) -> str | None:
    """The setting that a name is a slip for; None: it is known, or somebody else's.

    Args:
        declared: those that the handler says it has.
    """
    if name in AGENT_SETTING_NAMES or name in declared:
        return None
    for near in difflib.get_close_matches(name, declared, cutoff=SLIP_RATIO):
        if _are_near(name, near):
            return near
    # The supervisor's own stand in every row, beside settings that have any name: ``command`` is none for ``commands``.
    # Of several words, as ``max_attempt``, nobody has one that means something else.
    if "_" not in name and f"{name}s" in AGENT_SETTING_NAMES:
        return None
    return next(iter(difflib.get_close_matches(name, AGENT_SETTING_NAMES, n=1, cutoff=SURE_RATIO)), None)


def slips(row: Mapping[str, Any], declared: Collection[str]) -> tuple[str, ...]:
    """What to say of each slip in a row whose handler says what settings it has."""
    found = ((name, slip(name, declared)) for name in row)
    return tuple(f"settings: there is no {name}; did you mean {near}?" for name, near in found if near)


def _are_near(name: str, known: str) -> bool:
    """Whether a name has no word of its own: ``crm_api_key`` is no slip for ``api_key``."""
    words = known.split("_")
    return bool(difflib.get_close_matches(name, [known], cutoff=SURE_RATIO)) or all(
        difflib.get_close_matches(word, words, n=1, cutoff=SLIP_RATIO) for word in name.split("_")
    )
