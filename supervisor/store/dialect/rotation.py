"""What becomes of encrypted rows when keys are rotated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Rows with something encrypted in them, each counted once.

    Args:
        renewed: were under another key; with ``dry_run`` they still are.
        current: were under the first key already.
        unreadable: hold what is under a key that is not there, which stays as it is.
    """

    renewed: int = 0
    current: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class Rotation:
    """What was found and done.

    Args:
        agents: rows of agents: their secrets, and ciphertexts in their settings.
        messages: messages and replies in the journal, and what sums them up.
        unreadable: how many unreadable rows each agent has.
    """

    agents: Tally = field(default_factory=Tally)
    messages: Tally = field(default_factory=Tally)
    unreadable: Counter[str] = field(default_factory=Counter)
