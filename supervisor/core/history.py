"""What was said in a conversation, as handlers see it, and what they keep in place of it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One earlier message of a conversation.

    Args:
        at: seconds since the epoch.
        name: what who said it is called, as far as is known. It proves nothing: people choose their names.
        id: the supervisor's own number of that message, or of the one that this answers; they grow. None: only the
            platform knows of it.
    """

    role: str
    content: str
    at: float
    name: str | None = None
    # What was said is compared, not where it is kept.
    id: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a handler keeps of a conversation in place of what was said in it longest ago.

    Args:
        up_to_id: the ``id`` of the newest message that it stands for; 0: of none that has one.
        since: when the oldest of these came, in seconds since the epoch: it is forgotten with that one.
    """

    text: str = field(repr=False)
    up_to_id: int
    since: float

    def behind(self, items: Sequence[HistoryItem]) -> Sequence[HistoryItem]:
        """Those of some ``items``, oldest first, that were said after all that it stands for."""
        later = (n for n, item in enumerate(items) if item.id is not None and item.id > self.up_to_id)
        return items[next(later, 0) :]


def in_place_of(items: Sequence[HistoryItem], before: Remembered | None, text: str, now: float) -> Remembered:
    """A text that stands for some messages, and for what was remembered ``before`` them.

    Args:
        now: when what only the platform has begins to count, in seconds since the epoch.
    """
    known = [(item.id, item.at) for item in items if item.id is not None]
    if before is not None:
        known.append((before.up_to_id, before.since))
    ids, times = [number for number, _ in known], [at for _, at in known]
    return Remembered(text, max(ids, default=0), min(times, default=now))
