"""What may be wrong with an agent beside its state: its handler fails, somebody waits too long, its budget is spent,
or nobody knows it.
"""

from __future__ import annotations

from typing import Final

#: Its handler, or the platform, keeps it from answering well.
FAILING: Final = "failing"
#: A message waits or runs for longer than anybody should have to wait.
STUCK: Final = "stuck"
#: A budget of today is used up: what it may not spend it does not answer with, until the next UTC day.
SPENT: Final = "spent"
#: The replica that runs it does not answer, or none runs it yet: its state is a guess.
UNKNOWN: Final = "unknown"
#: What is older than this is stuck, unless its agent's handler may take longer; the alert on the inbox has the same.
STUCK_SECONDS: Final = 600.0


def online_trouble(*, failing: bool, waited_seconds: float, may_take_seconds: float, spent: bool) -> str:
    """:data:`FAILING`, :data:`STUCK`, :data:`SPENT`, or empty for an agent that is well.

    Args:
        failing: whether its health is anything but ``ok``.
        waited_seconds: the age of its oldest message that is not answered; 0 where it has none.
        may_take_seconds: how long its handler may take for one message.
        spent: whether a budget that bounds it is used up.
    """
    if failing:
        return FAILING
    if waited_seconds > max(STUCK_SECONDS, may_take_seconds):
        return STUCK
    return SPENT if spent else ""


def oldest(seconds: float) -> str:
    """How long the one has waited who has waited longest, in words: ``oldest 12 min``."""
    minutes = int(seconds // 60)
    return f"oldest {minutes} min" if minutes < 120 else f"oldest {minutes // 60} h"
