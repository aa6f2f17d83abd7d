"""What one agent did in each minute of the last hour, in memory: for charts without a time series database. No I/O."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final

from supervisor.core.clock import Clock

MINUTES: Final = 60
#: What counts as lately: long enough that a rate does not jump, short enough that it follows.
LATELY_MINUTES: Final = 5
_RECEIVED, _ANSWERED, _FAILED, _LATENCY, _SLOWEST, _INPUT, _OUTPUT = range(7)
_WIDTH: Final = 7


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of an agent.

    Args:
        at: its begin, seconds since the epoch.
        received: messages that came.
        answered: messages whose last reply was acknowledged.
        failed: attempts of the handler that failed.
        latency_seconds, slowest_seconds: from a message to its last acknowledged reply, the mean and the longest; 0
            where nothing was answered.
        input_tokens, output_tokens: of language models.
    """

    at: int
    received: int
    answered: int
    failed: int
    latency_seconds: float
    slowest_seconds: float
    input_tokens: int
    output_tokens: int


class Activity:
    """One agent's last hour. An agent that does nothing holds nothing; one that does holds two kilobytes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The minute that each place of the ring is of, and its figures; made by the first of them.
        self._minutes: array[int] | None = None
        self._figures: array[float] = array("f")

    def received(self) -> None:
        """A message came."""
        place = self._place()
        self._figures[place + _RECEIVED] += 1

    def answered(self, latency_seconds: float) -> None:
        """The last reply to a message was acknowledged, so long after the message came."""
        place = self._place()
        self._figures[place + _ANSWERED] += 1
        self._figures[place + _LATENCY] += max(0.0, latency_seconds)
        self._figures[place + _SLOWEST] = max(self._figures[place + _SLOWEST], latency_seconds)

    def failed(self) -> None:
        """An attempt of the handler failed."""
        place = self._place()
        self._figures[place + _FAILED] += 1

    def used(self, input_tokens: int, output_tokens: int) -> None:
        """A language model was used."""
        place = self._place()
        self._figures[place + _INPUT] += input_tokens
        self._figures[place + _OUTPUT] += output_tokens

    def answered_lately(self) -> int:
        """How many messages were answered in this minute and the four before it."""
        if self._minutes is None:
            return 0
        now = int(self._clock.now() // 60)
        lately = [minute % MINUTES for minute in range(now - LATELY_MINUTES + 1, now + 1) if self._is_of(minute)]
        return int(sum(self._figures[place * _WIDTH + _ANSWERED] for place in lately))

    def _is_of(self, minute: int) -> bool:
        """Whether the place of a minute in the ring holds that minute's figures."""
        return self._minutes is not None and self._minutes[minute % MINUTES] == minute

    def minutes(self) -> list[Minute]:
        """The minutes of the last hour in which something was done, the oldest first."""
        if self._minutes is None:
            return []
        earliest = int(self._clock.now() // 60) - MINUTES + 1
        places = sorted((minute, place) for place, minute in enumerate(self._minutes) if minute >= earliest)
        return [self._minute(minute, place * _WIDTH) for minute, place in places]

    def _minute(self, minute: int, place: int) -> Minute:
        figures = self._figures[place : place + _WIDTH]
        answered = int(figures[_ANSWERED])
        return Minute(
            minute * 60,
            int(figures[_RECEIVED]),
            answered,
            int(figures[_FAILED]),
            figures[_LATENCY] / answered if answered else 0.0,
            figures[_SLOWEST],
            int(figures[_INPUT]),
            int(figures[_OUTPUT]),
        )

    def _place(self) -> int:
        """Where the figures of this minute begin."""
        if self._minutes is None:
            # In this order: a handler's thread may ask in between.
            self._figures = array("f", bytes(4 * MINUTES * _WIDTH))
            self._minutes = array("q", bytes(8 * MINUTES))
        minute = int(self._clock.now() // 60)
        place = minute % MINUTES
        if self._minutes[place] != minute:
            self._minutes[place] = minute
            self._figures[place * _WIDTH : (place + 1) * _WIDTH] = array("f", bytes(4 * _WIDTH))
        return place * _WIDTH
