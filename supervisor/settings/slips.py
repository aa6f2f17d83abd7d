"""Settings of a row that are slips for others: nobody reads them, and whoever wrote them thinks that somebody does."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any, Final

from supervisor.settings.models import AGENT_SETTING_NAMES

#: How alike a name must be to one of the handler's to be a slip for it; what is like none is somebody else's.
HANDLER_RATIO: Final = 0.7
#: To one of the supervisor's own, which stand in every row, beside settings of handlers that have any name.
OWN_RATIO: Final = 0.85


def slip(name: str, declared: Collection[str] = ()) -> str | None:
    """The setting that a name is a slip for; None: it is known, or somebody else's.

    Args:
        declared: those that the handler says it has.
    """
    if name in AGENT_SETTING_NAMES or name in declared:
        return None
    near = difflib.get_close_matches(name, declared, n=1, cutoff=HANDLER_RATIO)
    # ``command``, which handlers have, is none for ``commands``.
    if not near and f"{name}s" not in AGENT_SETTING_NAMES:
        near = difflib.get_close_matches(name, AGENT_SETTING_NAMES, n=1, cutoff=OWN_RATIO)
    return near[0] if near else None


def slips(row: Mapping[str, Any], declared: Collection[str]) -> tuple[str, ...]:
    """What to say of each slip in a row whose handler says what settings it has."""
    found = ((name, slip(name, declared)) for name in row)
    return tuple(f"settings: there is no {name}; did you mean {near}?" for name, near in found if near)
