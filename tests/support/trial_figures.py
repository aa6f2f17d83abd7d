"""What it cost people that something happened to supervisors while they talked: a row of a table for each event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

#: Whoever waits for longer notices.
SLOW_SECONDS = 1.0


@dataclass(frozen=True)
class Spread:
    """How long something took, each time that it came, in seconds."""

    count: int
    slow: int = 0
    median: float = 0.0
    p99: float = 0.0
    longest: float = 0.0

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        """Percentiles are values that came; slow are those of more than :data:`SLOW_SECONDS`."""
        ordered = sorted(seconds)
        if not ordered:
            return cls(0)
        at = [ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.99, 1.0)]
        slow = sum(one > SLOW_SECONDS for one in ordered)
        return cls(len(ordered), slow, *(round(one, 3) for one in at))

    def __str__(self) -> str:
        return " / ".join(shown(one) for one in (self.median, self.p99, self.longest)) if self.count else ""


@dataclass(frozen=True)
class TrialFigures:
    """One event.

    Args:
        over_seconds: until the replicas had all agents among them again, and everybody was online.
        away: how long an agent had no socket, each time that it had none.
        answered: how long each message waited for its answer.
        messages: how many were said meanwhile.
        lost: messages that no row of the journal has.
        doubled: answers that came more often than once.
        unanswered: messages without an answer in the end.
    """

    event: str
    agents: int
    over_seconds: float
    away: Spread
    answered: Spread
    messages: int
    lost: int
    doubled: int
    unanswered: int


def table(rows: Iterable[TrialFigures]) -> Iterator[str]:
    """The events as a Markdown table; three figures are median, 99th percentile and the longest."""
    yield (
        "| event | over after, s | absences of agents | for so long, s | messages | answered after, s "
        "| after more than 1 s | lost | doubled | unanswered |"
    )
    yield "|---|" + "---:|" * 9
    for one in rows:
        cells = (
            one.event,
            shown(one.over_seconds),
            f"{one.away.count:,}",
            str(one.away),
            f"{one.messages:,}",
            str(one.answered),
            *(f"{number:,}" for number in (one.answered.slow, one.lost, one.doubled, one.unanswered)),
        )
        yield f"| {' | '.join(cells)} |"


def shown(seconds: float) -> str:
    """Two digits of what is short, one behind the point of what is long."""
    return f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2f}"
