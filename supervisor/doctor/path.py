"""The way from a token to a registered agent: one attempt, and the candidates that may cure one that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from supervisor.core.clock import Clock
from supervisor.core.errors import AckTimeoutError, ConnectError, ConnectionLostError
from supervisor.platform.connection import PROOF_SECONDS, Connection
from supervisor.platform.connector import Connector
from supervisor.platform.endpoint import ENGINE_PATH, Endpoint, Search, namespace_candidates, path_candidates
from supervisor.platform.hosts.facts import Way
from supervisor.platform.tokens import Grant


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt to connect in one namespace over one engine path.

    Args:
        connected_seconds: until the namespace's CONNECT was acked.
        registered_seconds: from there to the proof of the registration.
        acked_seconds: of an event that was acknowledged after that; None where it was not.
        has_presence: whether the proof was the agent's own presence.
        error: why it came to nothing; None for an agent that is registered.
    """

    way: Way
    connected_seconds: float = 0.0
    registered_seconds: float = 0.0
    acked_seconds: float | None = None
    conversation_id: str | None = None
    has_presence: bool = True
    error: ConnectError | None = None


@dataclass(slots=True)
class Walk:
    """What came of all attempts at an endpoint.

    Args:
        error: what they came to; None for an agent that is registered by the last of them.
    """

    attempts: list[Attempt] = field(default_factory=list)
    error: ConnectError | None = None

    @property
    def failed(self) -> Attempt:
        """The attempt whose failure counts."""
        return next((one for one in self.attempts if one.error is self.error), self.attempts[-1])


class Prober:
    """Makes attempts for one agent with a token that is moments old.

    Args:
        connector: opens the agent's connections.
        timeout_seconds: for an answer over a connection.
    """

    def __init__(self, connector: Connector, clock: Clock, *, grant: Grant, timeout_seconds: float) -> None:
        self._connector = connector
        self._clock = clock
        self._grant = grant
        self._timeout = timeout_seconds

    async def walk(self, endpoint: Endpoint) -> Walk:
        """Try the ways into an endpoint as the supervisor does."""
        walk, search = Walk(), Search(endpoint, None)
        for way in search.ways():
            attempt = await self._attempt(endpoint, way)
            walk.attempts.append(attempt)
            walk.error = attempt.error
            if attempt.error is None or search.is_over(way, attempt.error):
                return walk
        walk.error = search.failure()
        return walk

    async def cure(self, endpoint: Endpoint | None) -> Attempt | None:
        """The attempt that leads to a registered agent; None when none does."""
        walk = Walk() if endpoint is None else await self.walk(endpoint)
        return walk.attempts[-1] if walk.attempts and walk.error is None else None

    async def _attempt(self, endpoint: Endpoint, way: Way) -> Attempt:
        """Connect, wait to be registered, ask something harmless, and close."""
        started = self._clock.monotonic()
        at = [started]
        try:
            if way.engine_path in endpoint.other_paths:
                await self._connector.look(endpoint, way)
            connection = await self._connector.attempt(
                endpoint, way, self._granted, on_connected=lambda _: at.append(self._clock.monotonic())
            )
        except ConnectError as error:
            return Attempt(way, error=error)
        try:
            registered = self._clock.monotonic()
            acked = await self._ask(connection)
            return Attempt(
                way,
                at[-1] - started,
                registered - at[-1],
                acked,
                connection.conversation_id,
                connection.has_presence,
            )
        except ConnectionLostError as lost:
            reason = f"registered, and then the connection was lost: {lost.reason}"
            return Attempt(way, error=ConnectError(reason))
        finally:
            await connection.close()

    async def _granted(self) -> Grant:
        return self._grant

    async def _ask(self, connection: Connection) -> float | None:
        """How long the answer to a question took that nobody else sees; None when there was none."""
        asked = self._clock.monotonic()
        try:
            await connection.questions.any_answer(min(self._timeout, PROOF_SECONDS))
        except AckTimeoutError:
            return None
        return self._clock.monotonic() - asked


def other_namespaces(endpoint: Endpoint, tried: Sequence[Attempt]) -> Endpoint | None:
    """The namespaces that a deployment may have, but for those that were tried; None where none is left."""
    known = namespace_candidates(endpoint.url, "auto")
    left = tuple(name for name in known if name not in [attempt.way.namespace for attempt in tried])
    return replace(endpoint, namespaces=left) if left else None


def other_paths(endpoint: Endpoint) -> Endpoint | None:
    """The engine paths that a deployment may have, where another one was chosen; None where it was not."""
    if endpoint.engine_path == ENGINE_PATH:
        return None
    others = path_candidates(endpoint.url, ENGINE_PATH)
    return replace(endpoint, engine_path=ENGINE_PATH, other_paths=others)
