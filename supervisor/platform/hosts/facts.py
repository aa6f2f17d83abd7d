"""What the fleet has learned of each platform host, so that no agent has to find it out again. In memory, no I/O.

Generations of the platform differ, and none says which it is (docs/protocol.md#8-third-generation). Every fact here
is a hint: whoever acts on one still copes with the opposite, because a platform may be rebuilt while we run. ``None``
means that nobody knows yet. The comment of each fact names who writes it; all others only read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

#: So many questions in a row without an answer, and an event counts as one that the platform never acknowledges.
SILENCES: Final = 3
#: For so long a platform counts as one of one socket, before a second one is tried again: it may have been ill, or be
#: another one by now.
ONE_SOCKET_SECONDS: Final = 6 * 3600.0


class TokenForm(StrEnum):
    """How a token is asked for (docs/protocol.md#87-tokens)."""

    PATH = "path"
    """``POST {api}/agents/{id}/connect``; old platforms know no other."""
    BODY = "body"
    """``POST {api}/agents/connect`` with the id in the body."""


@dataclass(slots=True)
class ApiFacts:
    """What is known of the HTTP API at one host."""

    #: The form of the last token request that was understood. Writer: ``platform/tokens/client.py``.
    token_form: TokenForm = TokenForm.PATH
    #: The URLs of the APIs there that have given a token. Writer: ``platform/tokens/client.py``.
    gave_tokens: set[str] = field(default_factory=set)
    #: Whether an agent's configuration can be asked for without a new token. Writer: ``fleet/refetch.py``.
    has_instruction: bool | None = None


@dataclass(slots=True)
class SocketFacts:
    """What is known of one way in at one host. Behind another engine path there may be another process."""

    #: Whether an agent's own presence follows its connect. Writers: ``platform/connection.py`` when
    #: it comes, ``platform/connector.py`` when none does.
    has_presence: bool | None = None
    #: Whether that presence names the conversation that the platform put the agent into, as the first generation's
    #: does: such a platform does not forget. Writer: ``platform/connection.py``.
    presence_names_conversation: bool | None = None
    #: Until when the platform counts as one that has only one socket of an agent at a time, in monotonic seconds; -inf
    #: where it never did. Writer: ``fleet/rotation.py``.
    one_socket_until: float = -math.inf
    _silences: dict[str, int] = field(default_factory=dict)
    _acked: set[str] = field(default_factory=set)

    def answered(self, event: str) -> None:
        """An event was acknowledged. Called by who asked."""
        self._silences[event] = 0
        self._acked.add(event)

    def unanswered(self, event: str) -> None:
        """An event was not acknowledged in time. Called by who asked."""
        self._silences[event] = self._silences.get(event, 0) + 1

    @property
    def handles(self) -> bool:
        """Whether it ever acknowledged anything: it is one that handles events, however long it takes."""
        return bool(self._acked)

    def acks(self, event: str) -> bool | None:
        """Whether the platform acknowledges an event, as far as is known.

        Returns:
            True where the last one was acknowledged, False after :data:`SILENCES` in a row that were not.
        """
        silences = self._silences.get(event)
        if silences is None or 0 < silences < SILENCES:
            return None
        return silences == 0

    def never_acks(self, event: str) -> bool:
        """Whether nobody needs to wait for an event's acknowledgement: it never came, :data:`SILENCES` times or more.

        A platform that has acknowledged it once is ill when it does not.
        """
        return event not in self._acked and self.acks(event) is False


class Way(NamedTuple):
    """A way in to a host: a Socket.IO namespace, and the engine path before it."""

    namespace: str
    engine_path: str


class HostFacts:
    """The facts of all hosts, made as they are met; their number is bounded by that of the hosts that rows may name."""

    def __init__(self) -> None:
        self._api: dict[str, ApiFacts] = {}
        self._sockets: dict[tuple[str, Way], SocketFacts] = {}
        self._ways: dict[str, Way] = {}

    def api(self, host: str) -> ApiFacts:
        """The facts of the HTTP API at ``host``, which may name a port."""
        return self._api.setdefault(host, ApiFacts())

    def sockets(self, host: str, way: Way) -> SocketFacts:
        """The facts of a way in at ``host``, which may name a port."""
        return self._sockets.setdefault((host, way), SocketFacts())

    def way(self, host: str) -> Way | None:
        """The way in that worked last at ``host``, for whichever agent; None where none did."""
        return self._ways.get(host)

    def registered(self, host: str, way: Way) -> None:
        """An agent was registered at ``host`` by ``way``. Called by ``platform/connector.py`` alone."""
        self._ways[host] = way
