"""How agents come and go: attempts, disconnects, token requests."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.errors import Verdict
from supervisor.telemetry.metrics.families import Vocabulary, Workshop

#: How many values a label may take that holds words of others.
WORDS = 40
ATTEMPTS = ("online", "kicked", *map(str, Verdict))
#: Why a connection ends, as the transport has it; whatever else it may say comes beside these.
DISCONNECTS = (
    *("server disconnect", "transport close", "transport error", "ping timeout", "server error", "server restart"),
    "closed by us",
)
LISTS = ("ok", "absent", "failed")
REFRESHES = ("ok", "rejected", "retry", "fault")


class ConnectionMetrics:
    """The instruments of connections, and their verbs."""

    def __init__(self, make: Workshop) -> None:
        self._attempts = make.counters(
            "supervisor_connection_attempts_total",
            "Attempts to connect an agent, by how they ended: online, kicked, or what the failure asks for.",
            "attempts",
            outcome=Vocabulary(WORDS, *ATTEMPTS),
        )
        self._disconnects = make.counters(
            "supervisor_disconnects_total",
            "Registered connections that ended, by reason; those that we closed count too.",
            "connections",
            reason=Vocabulary(WORDS),
        )
        self._refreshes = make.counters(
            "supervisor_auth_refreshes_total",
            "Token requests, by how they ended; only ok is a token.",
            "requests",
            outcome=Vocabulary(WORDS, *REFRESHES),
        )
        self._bind_unfindable = make.reading(
            "supervisor_agents_unfindable",
            "Agents that are connected and that the platform does not find for new conversations, as far as is known.",
            "agents",
        )
        self._listings = make.counters(
            "supervisor_conversation_lists_total",
            "Requests for the list of an agent's conversations, by how they ended; absent: the platform has none.",
            "lists",
            outcome=Vocabulary(WORDS, *LISTS),
        )
        # Every known series begins at 0: else an alert on an increase would miss the first event.
        for outcome in ATTEMPTS:
            self._attempts.begin(outcome)
        for reason in DISCONNECTS:
            self._disconnects.begin(reason)
        for outcome in REFRESHES:
            self._refreshes.begin(outcome)
        for outcome in LISTS:
            self._listings.begin(outcome)

    def bind_unfindable(self, count: Callable[[], float]) -> None:
        """Read from here, whenever somebody scrapes, how many agents are connected and not found."""
        self._bind_unfindable(count)

    def connection_attempt(self, outcome: str) -> None:
        """An attempt to connect ended; ``outcome``: one of :data:`ATTEMPTS`."""
        self._attempts[outcome].total += 1

    def disconnected(self, reason: str) -> None:
        """A registered connection ended; ``reason``: as the transport words it, cut to :data:`WORDS` different ones."""
        self._disconnects[reason].total += 1

    def auth_refreshed(self, outcome: str) -> None:
        """A token request ended; ``outcome``: one of :data:`REFRESHES`."""
        self._refreshes[outcome].total += 1

    def conversations_listed(self, outcome: str) -> None:
        """The platform was asked for an agent's conversations; ``outcome``: one of :data:`LISTS`."""
        self._listings[outcome].total += 1
