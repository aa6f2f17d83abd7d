"""The way from a token to a registered agent: one attempt, and the candidates that may cure one that failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from supervisor.core.clock import Clock
from supervisor.core.errors import AckTimeoutError, ConnectError, ConnectionLostError
from supervisor.platform.connection import PROOF_SECONDS, Connection
from supervisor.platform.connector import Connector
from supervisor.platform.endpoint import Endpoint, namespace_candidates
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.tokens import Grant
from supervisor.platform.transport import Transport

ENGINE_PATH: Final = "/socket.io"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt to connect in one namespace over one engine path.

    Args:
        connected_seconds: until the namespace's CONNECT was acked.
        registered_seconds: from there to the agent's own presence.
        acked_seconds: of an event that was acknowledged after that; None where it was not.
        error: why it came to nothing; None for an agent that is registered.
    """

    namespace: str
    engine_path: str
    connected_seconds: float = 0.0
    registered_seconds: float = 0.0
    acked_seconds: float | None = None
    conversation_id: str | None = None
    error: ConnectError | None = None


class Prober:
    """Makes attempts for one agent with a token that is moments old.

    Args:
        timeout_seconds: for the connect, and again for the registration.
    """

    def __init__(
        self, transport: Transport, gates: Gates, clock: Clock, *, agent_id: str, grant: Grant, timeout_seconds: float
    ) -> None:
        self._connector = Connector(
            transport,
            gates,
            agent_id=agent_id,
            on_event=lambda _connection, _event, _payload: None,
            timeout_seconds=timeout_seconds,
        )
        self._clock = clock
        self._grant = grant
        self._timeout = timeout_seconds

    async def walk(self, endpoint: Endpoint) -> AsyncIterator[Attempt]:
        """Try the namespaces of an endpoint until one says anything but that it is not there."""
        for namespace in endpoint.namespaces:
            attempt = await self.attempt(replace(endpoint, namespaces=(namespace,)))
            yield attempt
            if attempt.error is None or not attempt.error.invalid_namespace:
                return

    async def cure(self, endpoints: Iterable[Endpoint]) -> Attempt | None:
        """The first attempt that leads to a registered agent; None when none does."""
        for endpoint in endpoints:
            async for attempt in self.walk(endpoint):
                if attempt.error is None:
                    return attempt
        return None

    async def attempt(self, endpoint: Endpoint) -> Attempt:
        """Connect in the endpoint's one namespace, wait to be registered, ask something harmless, and close."""
        namespace = endpoint.namespaces[0]
        started = self._clock.monotonic()
        at = [started]
        try:
            connection = await self._connector.open(
                endpoint, self._granted, on_connected=lambda: at.append(self._clock.monotonic())
            )
        except ConnectError as error:
            # The connector words a failure of all candidates. There is one only: its own words are its cause's.
            cause = error.__cause__
            error = cause if isinstance(cause, ConnectError) else error
            return Attempt(namespace, endpoint.engine_path, error=error)
        try:
            registered = self._clock.monotonic()
            acked = await self._ask(connection)
            return Attempt(
                namespace,
                endpoint.engine_path,
                at[-1] - started,
                registered - at[-1],
                acked,
                connection.conversation_id,
            )
        except ConnectionLostError as lost:
            reason = f"registered, and then the connection was lost: {lost.reason}"
            return Attempt(namespace, endpoint.engine_path, error=ConnectError(reason))
        finally:
            await connection.close()

    async def _granted(self) -> Grant:
        return self._grant

    async def _ask(self, connection: Connection) -> float | None:
        """How long the answer to a question took that nobody else sees; None when there was none."""
        asked = self._clock.monotonic()
        try:
            await connection.round_trip(min(self._timeout, PROOF_SECONDS))
        except AckTimeoutError:
            return None
        return self._clock.monotonic() - asked


def other_namespaces(endpoint: Endpoint, tried: Sequence[Attempt]) -> list[Endpoint]:
    """The namespaces that a deployment may have, but for those that were tried."""
    known = namespace_candidates(endpoint.url, "auto")
    left = tuple(name for name in known if name not in [attempt.namespace for attempt in tried])
    return [replace(endpoint, namespaces=left)] if left else []


def other_paths(endpoint: Endpoint) -> list[Endpoint]:
    """Engine paths that a proxy may want: the usual one behind each part of the URL's path."""
    parts = [part for part in urlsplit(endpoint.url).path.split("/") if part]
    prefixes = ["/" + "/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    paths = [*(prefix + ENGINE_PATH for prefix in prefixes), ENGINE_PATH]
    return [replace(endpoint, engine_path=path) for path in paths if path != endpoint.engine_path]
