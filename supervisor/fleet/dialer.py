"""How one agent is connected: where to, in which namespace, and whether a presence proves it."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.errors import ConnectError, PlatformError
from supervisor.fleet.agent import Agent
from supervisor.fleet.shared import Shared
from supervisor.platform.connection import Connection
from supervisor.platform.connector import Connector, Grants
from supervisor.platform.endpoint import Endpoint, namespace_candidates

#: For so long after a loss a presence of the agent's may still be the old socket's.
DOUBT_SECONDS = 60.0


class Dialer:
    """Opens an agent's connections; remembers the namespace that registered last."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        self._agent = agent
        self._clock = shared.clock
        self._metrics = shared.metrics
        self._proxy = shared.settings.proxy
        self._namespace: str | None = None
        self._lost_at: float | None = None
        self._connector = Connector(
            shared.transport,
            shared.gates,
            agent_id=agent.record.id,
            on_event=agent.pipeline.receive,
            timeout_seconds=shared.settings.handshake_seconds,
        )

    @property
    def host(self) -> str:
        """The platform host that the agent connects to."""
        return self._endpoint().host

    def _endpoint(self) -> Endpoint:
        own = self._agent.profile.settings
        namespaces = namespace_candidates(own.ws_url, own.ws_namespace)
        if self._namespace in namespaces:
            # The one that registered last time first; the others stay candidates, a platform may be rebuilt.
            namespaces = tuple(dict.fromkeys([self._namespace, *namespaces]))
        return Endpoint(own.ws_url, namespaces, own.ws_path, own.token_via, self._proxy)

    async def open(self, grants: Grants, on_connected: Callable[[], None]) -> Connection:
        """Connect, register, join again and catch up.

        See :meth:`Connector.open` and :meth:`supervisor.messages.Pipeline.connect`.

        Raises:
            ConnectError, ConnectionLostError: the attempt failed; nothing is left open.
        """
        try:
            connection = await self._agent.pipeline.connect(lambda: self._register(grants, on_connected))
        except PlatformError as error:
            kicked = isinstance(error, ConnectError) and error.kicked
            self._metrics.connection_attempt("kicked" if kicked else str(error.verdict))
            raise
        self._metrics.connection_attempt("online")
        return connection

    async def _register(self, grants: Grants, on_connected: Callable[[], None]) -> Connection:
        connection = await self._connector.open(
            self._endpoint(), grants, prove=self._presence_may_be_anothers(), on_connected=on_connected
        )
        if connection.namespace != self._namespace:
            self._namespace = connection.namespace
            self._agent.log.debug("namespace", namespace=connection.namespace)
        return connection

    def lost(self) -> None:
        """The agent's connection went away just now."""
        self._lost_at = self._clock.monotonic()
        self._agent.pipeline.lost()

    def _presence_may_be_anothers(self) -> bool:
        """Whether another socket of the agent is open or was a moment ago: a presence does not say whose it is."""
        recent = self._lost_at is not None and self._clock.monotonic() - self._lost_at < DOUBT_SECONDS
        return self._agent.connection is not None or recent
