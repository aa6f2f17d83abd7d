"""How one agent is connected: where to, in which namespace, and what the platform must be reminded of afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from supervisor.core.errors import ConnectError, PlatformError
from supervisor.fleet.agent import Agent
from supervisor.fleet.shared import Shared
from supervisor.messages.backfill import Backfill, Reach
from supervisor.platform.connection import Connection
from supervisor.platform.connector import Connector, Grants
from supervisor.platform.endpoint import Endpoint, namespace_candidates
from supervisor.platform.joins import Joins, JoinTimes

#: So many conversations, the most recently active ones, are joined again on platforms that forget them.
REJOIN_LIMIT = 512
#: For so long after a loss a presence of ours may still be the old socket's.
DOUBT_SECONDS = 60.0


def _is_joined(connection: Connection, conversation_id: str) -> bool:
    return connection.member_since(conversation_id) is not None


class Dialer:
    """Opens an agent's connections; remembers the namespace that registered last."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        self._agent = agent
        self._shared = shared
        self._namespace: str | None = None
        self._lost_at: float | None = None
        self._warned = False
        settings = shared.settings
        self._connector = Connector(
            shared.transport,
            shared.gates,
            agent_id=agent.record.id,
            on_event=agent.receive,
            timeout_seconds=settings.handshake_seconds,
        )
        reach = Reach(min(settings.backfill_age, settings.journal_retention), settings.backfill_messages)
        self._backfill = Backfill(agent.past, agent.inbox, reach)

    @property
    def host(self) -> str:
        """The platform host that the agent connects to."""
        return self._endpoint().host

    def _endpoint(self) -> Endpoint:
        own = self._agent.settings
        namespaces = namespace_candidates(own.ws_url, own.ws_namespace)
        if self._namespace in namespaces:
            # The one that registered last time first; the others stay candidates, a platform may be rebuilt.
            namespaces = tuple(dict.fromkeys([self._namespace, *namespaces]))
        return Endpoint(own.ws_url, namespaces, own.ws_path, own.token_via, self._shared.settings.proxy)

    async def open(self, grants: Grants, on_connected: Callable[[], None]) -> Connection:
        """Connect, register and join again; see :meth:`Connector.open`.

        Raises:
            ConnectError, ConnectionLostError: the attempt failed; nothing is left open.
        """
        try:
            connection = await self._open(grants, on_connected)
        except PlatformError as error:
            kicked = isinstance(error, ConnectError) and error.kicked
            self._shared.metrics.connection_attempt("kicked" if kicked else str(error.verdict))
            raise
        self._shared.metrics.connection_attempt("online")
        return connection

    async def _open(self, grants: Grants, on_connected: Callable[[], None]) -> Connection:
        """Open a connection and ask for what was said while none was there (DESIGN §4: backfill)."""
        beside_another = self._has_another()
        held = [] if beside_another else self._backfill.begin()
        try:
            connection = await self._register(grants, on_connected)
            try:
                if beside_another:
                    held = self._begin_gap()
                await self._meet(connection)
                await self._rejoin(connection)
                if beside_another and not held:
                    held = self._begin_gap()
            except BaseException:
                await connection.close()
                raise
        except BaseException:
            self._backfill.give_up(held)
            raise
        if held:
            connection.start_task(self._backfill.run(held, partial(_is_joined, connection)), "backfill")
        return connection

    def catch_up(self, connection: Connection) -> None:
        """Ask what was missed: the other connection was thought to be there, and had died silently."""
        self._backfill.lost()
        if held := self._backfill.begin():
            connection.start_task(self._backfill.run(held, partial(_is_joined, connection)), "backfill")

    def _has_another(self) -> bool:
        """Whether another connection of the agent is open: while one is, nothing can be missed."""
        return self._agent.connection is not None and self._agent.connection.connected

    def _begin_gap(self) -> list[str]:
        """Hold what comes from now on, if the other connection went away while this one was made.

        So it is where the platform allows an agent one socket and the new one puts out the old one.
        """
        if self._has_another():
            return []
        self._backfill.lost()
        return self._backfill.begin()

    async def _register(self, grants: Grants, on_connected: Callable[[], None]) -> Connection:
        connection = await self._connector.open(
            self._endpoint(), grants, prove=self._presence_may_be_anothers(), on_connected=on_connected
        )
        if connection.namespace != self._namespace:
            self._namespace = connection.namespace
            self._agent.log.debug("namespace", namespace=connection.namespace)
        return connection

    async def _meet(self, connection: Connection) -> None:
        """Note the conversation that the platform put us into (PROTOCOL §3): after a gap it is asked about."""
        conversation_id = connection.conversation_id
        if conversation_id is not None:
            connection.record_member(conversation_id, self._shared.clock.monotonic())
            if conversation_id not in self._agent.inbox.conversations:
                await self._agent.inbox.conversations.joined(conversation_id)

    def lost(self) -> None:
        """The agent's connection went away just now."""
        self._lost_at = self._shared.clock.monotonic()
        self._backfill.lost()

    def _presence_may_be_anothers(self) -> bool:
        """Whether another socket of ours is open or was a moment ago: a presence does not say whose it is."""
        recent = self._lost_at is not None and self._shared.clock.monotonic() - self._lost_at < DOUBT_SECONDS
        return self._agent.connection is not None or recent

    async def _rejoin(self, connection: Connection) -> None:
        """Join the known conversations that the platform has not put us back into by itself (PROTOCOL §3).

        v1 does so with one, which our own presence names; v2 with none.

        Raises:
            ConnectionLostError: the connection was lost meanwhile.
        """
        inbox = self._agent.inbox
        known = [c for c in reversed(inbox.conversations) if c != connection.conversation_id]
        if len(known) > REJOIN_LIMIT and not self._warned:
            self._agent.log.warning("too_many_conversations", known=len(known), joined=REJOIN_LIMIT)
        self._warned = len(known) > REJOIN_LIMIT
        joins = Joins(
            connection,
            clock=self._shared.clock,
            times=JoinTimes(self._shared.settings.ack_seconds),
            is_known=inbox.conversations.__contains__,
            forget=inbox.conversations.left,
            on_late=partial(self._backfill.run, is_joined=partial(_is_joined, connection)),
            log=self._agent.log,
        )
        await joins.run(known[:REJOIN_LIMIT])
