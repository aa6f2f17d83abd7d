"""How one agent is connected: where to, in which namespace, and whether a presence proves it."""

from __future__ import annotations

from supervisor.core.errors import ConnectError, PlatformError
from supervisor.fleet.agent import Agent
from supervisor.fleet.shared import Shared
from supervisor.platform.connection import Connection
from supervisor.platform.connector import Caller, Connector, Grants, OnConnected
from supervisor.platform.endpoint import Endpoint, host_of, namespace_candidates, path_candidates
from supervisor.platform.hosts.facts import Way

#: For so long after a loss a presence of the agent's may still be the old socket's.
DOUBT_SECONDS = 60.0


class Dialer:
    """Opens an agent's connections; remembers the way in by which it was registered last."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        self._agent = agent
        self.clock = shared.clock
        self.room = shared.room
        self._metrics = shared.metrics
        self._proxy = shared.settings.proxy
        self._way: Way | None = None
        self._lost_at: float | None = None
        self._connector = Connector(
            shared.transport,
            shared.gates,
            shared.paths,
            shared.facts,
            Caller(agent.record.id, agent.pipeline.receive, agent.pulse),
            timeout_seconds=shared.settings.handshake_seconds,
        )

    @property
    def host(self) -> str:
        """The platform host that the agent connects to."""
        return host_of(self._agent.profile.settings.ws_url)

    def _endpoint(self) -> Endpoint:
        own = self._agent.profile.settings
        namespaces = namespace_candidates(own.ws_url, own.ws_namespace)
        others = path_candidates(own.ws_url, own.ws_path)
        return Endpoint(own.ws_url, namespaces, own.ws_path, own.token_via, self._proxy, others)

    async def open(self, grants: Grants, on_connected: OnConnected) -> Connection:
        """Connect, register, join again and catch up.

        See :meth:`Connector.open` and :meth:`supervisor.messages.Pipeline.connect`.

        Raises:
            ConnectError, ConnectionLostError: the attempt failed; nothing is left open.
        """

        async def register(opened: OnConnected) -> Connection:
            def tell(connection: Connection) -> None:
                opened(connection)
                on_connected(connection)

            return await self._register(grants, tell)

        try:
            connection = await self._agent.pipeline.connect(register)
        except PlatformError as error:
            kicked = isinstance(error, ConnectError) and error.kicked
            self._metrics.connection_attempt("kicked" if kicked else str(error.verdict))
            raise
        self._metrics.connection_attempt("online")
        return connection

    async def _register(self, grants: Grants, on_connected: OnConnected) -> Connection:
        first = self._agent.connection
        connection = await self._connector.open(
            self._endpoint(),
            grants,
            prove=self._presence_may_be_anothers(),
            first=first if first is not None and first.connected else None,
            last=self._way,
            on_connected=on_connected,
        )
        if connection.way != self._way:
            self._way = connection.way
            self._agent.log.debug("namespace", namespace=self._way.namespace, engine_path=self._way.engine_path)
        return connection

    def lost(self) -> None:
        """The agent's connection went away just now."""
        self._lost_at = self.clock.monotonic()
        self._agent.pipeline.lost()

    def _presence_may_be_anothers(self) -> bool:
        """Whether another socket of the agent is open or was a moment ago: a presence does not say whose it is."""
        recent = self._lost_at is not None and self.clock.monotonic() - self._lost_at < DOUBT_SECONDS
        return self._agent.connection is not None or recent or self._agent.pipeline.standby.waits
