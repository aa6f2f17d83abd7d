"""The places in lanes of messages that are on their way into the journal: none runs before one that came earlier."""

from __future__ import annotations

from collections import Counter

from supervisor.messages.arrivals import Arrival
from supervisor.messages.lanes import Lanes


class Places:
    """Which of one agent's arriving messages are claimed as they are journaled, because they may run at once."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        # Conversations in whose lanes a place is reserved for one that is on its way.
        self._reserved: dict[str, None] = {}
        # By conversation: how many are on their way that do not run at once; those that come later go behind them.
        self._behind: Counter[str] = Counter()
        #: How often all were given up; what came before that is nobody's any more.
        self.given_up = 0

    def take(self, arrival: Arrival) -> None:
        """Reserve a place for a message, where it may run at once; ``arrival.claimed`` says so."""
        if arrival.ending or arrival.command:
            return
        where = arrival.conversation_id
        arrival.claimed = where not in self._behind and self._lanes.reserve(where)
        if arrival.claimed:
            self._reserved[where] = None
        else:
            self._behind[where] += 1

    def leave(self, arrival: Arrival, *, used: bool) -> None:
        """A message is on its way no longer.

        Args:
            used: whether the place that was reserved for it is used.
        """
        where = arrival.conversation_id
        if arrival.claimed:
            self._reserved.pop(where, None)
            if not used:
                self._lanes.cancel_reserved(where)
        elif where in self._behind:
            self._behind[where] -= 1
            if not self._behind[where]:
                del self._behind[where]

    def give_up(self) -> None:
        """Give back all that is reserved: nobody waits for what is on its way."""
        for where in self._reserved:
            self._lanes.cancel_reserved(where)
        self._reserved.clear()
        self._behind.clear()
        self.given_up += 1
