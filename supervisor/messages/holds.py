"""Which conversations' new messages wait for older ones that are being looked for, and for how long at most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from supervisor.core.clock import ROUNDING_SECONDS, Clock, Timer
from supervisor.messages.inbox import Inbox
from supervisor.platform.connection import Connection

#: How long new messages of a conversation wait for the missed ones before them.
HOLD_SECONDS = 10.0


class Holds:
    """One agent's conversations whose new messages wait.

    They outlive a connection: what it brought waits on for what the next one asks for, since no answer could go out
    meanwhile. Only time with a connection counts, so that connections that break again and again silence nobody.
    """

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock
        # By conversation: until when it waits at most, in seconds of connected time.
        self._due: dict[str, float] = {}
        self._timer: Timer | None = None
        # Connected time until `_since`, from when on it goes on while a connection is there.
        self._connected_seconds = 0.0
        self._since = 0.0
        self._connections = 0

    def __iter__(self) -> Iterator[str]:
        """The conversations, as they are now."""
        return iter(list(self._due))

    def begin(self, conversation_id: str, seconds: float = HOLD_SECONDS) -> None:
        """Let a conversation's new messages wait, for so long at most; one that waits already waits no longer."""
        self._inbox.hold(conversation_id)
        self._due.setdefault(conversation_id, self._now() + seconds)
        self._set_timer()

    def end(self, conversations: Iterable[str]) -> None:
        """Their messages wait no longer; nothing happens where none do."""
        for conversation_id in conversations:
            self._due.pop(conversation_id, None)
            self._inbox.release(conversation_id)

    def filled(self, conversation_id: str) -> None:
        """The inbox has the older messages, and let the new ones go on."""
        self._due.pop(conversation_id, None)

    def count(self, connection: Connection) -> None:
        """A connection is there from now on, which may bring messages: its time counts."""
        self._turn(1)
        connection.chores.at_end(partial(self._turn, -1))

    def _now(self) -> float:
        running = self._clock.monotonic() - self._since if self._connections else 0.0
        return self._connected_seconds + running

    def _turn(self, connections: int) -> None:
        """A connection comes or goes."""
        self._connected_seconds, self._since = self._now(), self._clock.monotonic()
        self._connections += connections
        self._set_timer()

    def _set_timer(self) -> None:
        """Look again when the first of them has waited for long enough, as long as a connection is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and self._connections:
            self._timer = self._clock.call_later(max(0.0, min(self._due.values()) - self._now()), self._look)

    def _look(self) -> None:
        now = self._now()
        self.end([one for one, due in self._due.items() if due - now <= ROUNDING_SECONDS])
        self._set_timer()
