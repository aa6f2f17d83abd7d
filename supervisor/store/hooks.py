"""What the journal tells of its own doings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _nothing(*_args: object) -> None:
    return


@dataclass(slots=True)
class JournalHooks:
    """Called on the event loop; whoever follows the journal sets them.

    Attributes:
        on_commit: after each commit, with its seconds and its number of operations.
        on_error: with one readable line for each failed attempt to write.
        on_unreadable: with an agent's id, how many of its rows cannot be read, and why, when that is found.
        on_usage_lost: with one readable line when what agents used cannot be kept.
    """

    on_commit: Callable[[float, int], None] = _nothing
    on_error: Callable[[str], None] = _nothing
    on_unreadable: Callable[[str, int, str], None] = _nothing
    on_usage_lost: Callable[[str], None] = _nothing
