"""From a token to a registered agent: opens the connections of one agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.core.errors import AckTimeoutError, ConnectError, ConnectionLostError, PlatformError, Verdict
from supervisor.core.tasks import first_done
from supervisor.platform.connection import PROOF_SECONDS, Connection, OnEvent
from supervisor.platform.endpoint import DOUBTFUL_NAMESPACE, Endpoint, Search
from supervisor.platform.heartbeats import Pulse, quiet_pulse
from supervisor.platform.hosts.engine_paths import EnginePaths
from supervisor.platform.hosts.facts import HostFacts, Way
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.repeats import Repeats
from supervisor.platform.tokens import Grant
from supervisor.platform.transport import KICKED, Transport

Grants = Callable[[], Awaitable[Grant]]
#: How long the own presence may take before a heartbeat is tried as the proof; presences come within 30 ms.
PRESENCE_SECONDS: Final = 2.0
#: How long a look at an engine path may hold up the news that an attempt has failed.
LOOK_SECONDS: Final = 5.0


OnConnected = Callable[[Connection], object]
#: How long a second socket may wait for what proves it, while the first is there.
BESIDE_SECONDS: Final = 300.0


def _ignore(_connection: Connection) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who connects.

    Args:
        agent_id: the agent's id.
        on_event: gets every event but the answers to the agent's own sends, in order; must only enqueue.
        pulse: what the agent's heartbeats say.
    """

    agent_id: str
    on_event: OnEvent
    pulse: Pulse = field(default_factory=quiet_pulse)


class Connector:
    """Opens one agent's connections.

    Args:
        transport: opens sockets, for all agents.
        gates: the bounds of all hosts.
        paths: looks at engine paths, for all agents.
        facts: what is known of the hosts; learns which way worked, and whether a presence comes there.
        caller: the agent that connects.
        timeout_seconds: for the connect, and again for the registration.
    """

    def __init__(
        self,
        transport: Transport,
        gates: Gates,
        paths: EnginePaths,
        facts: HostFacts,
        caller: Caller,
        *,
        timeout_seconds: float,
    ) -> None:
        self._transport = transport
        self._gates = gates
        self._paths = paths
        self._facts = facts
        self._caller = caller
        self._timeout = timeout_seconds
        self._repeats = Repeats()

    async def open(
        self,
        endpoint: Endpoint,
        grants: Grants,
        *,
        prove: bool = False,
        first: Connection | None = None,
        last: Way | None = None,
        on_connected: OnConnected = _ignore,
    ) -> Connection:
        """Connect and wait until the platform has registered the agent.

        Args:
            endpoint: where to; its namespaces and engine paths are tried in order.
            grants: gives a valid token; asked when it is this attempt's turn, because a turn may be longer in coming
                than a token lasts.
            prove: ask for an acknowledged event on this socket too. A presence does not say whose it is, and another
                socket of the agent is open or was a moment ago.
            last: the way by which the agent was registered last; else the host's counts.
            first: the agent's open socket, beside which this one is to be the second. While that one is there a proof
                may be late in coming; once it is gone, no later than that of any other socket.
            on_connected: told the connection when the namespace is joined and the registration is awaited.

        Raises:
            ConnectError: no candidate led to a registration; nothing is left open.
            TokenError, HandlerError: there was no token, or the handler would not start with it.
        """
        search = Search(endpoint, last or self._facts.way(endpoint.host))
        for way in search.ways():
            try:
                if way.engine_path in endpoint.other_paths and way != search.last:
                    await self.look(endpoint, way)
                return await self.attempt(endpoint, way, grants, prove=prove, first=first, on_connected=on_connected)
            except ConnectError as error:
                if search.is_over(way, error):
                    raise
        raise search.failure()

    async def attempt(
        self,
        endpoint: Endpoint,
        way: Way,
        grants: Grants,
        *,
        prove: bool = False,
        first: Connection | None = None,
        on_connected: OnConnected = _ignore,
    ) -> Connection:
        """Try one way; arguments and errors as of :meth:`open`."""
        connection = Connection(
            self._caller.agent_id,
            on_event=self._caller.on_event,
            facts=self._facts.sockets(endpoint.host, way),
            repeats=self._repeats,
            pulse=self._caller.pulse,
        )
        try:
            await self._connect(connection, endpoint, way, grants)
            on_connected(connection)
            if first is not None:
                await self._register_beside(connection, first)
            else:
                await self._register(connection, prove=prove)
        except BaseException:
            await connection.close()
            raise
        self._facts.registered(endpoint.host, way)
        return connection

    async def _connect(self, connection: Connection, endpoint: Endpoint, way: Way, grants: Grants) -> None:
        async def attempt() -> None:
            if self._paths.known_wrong(endpoint.url, way.engine_path):
                # Another agent has found it out while this one waited for its turn.
                raise _no_engine(endpoint, way)
            grant = await grants()
            socket = await self._transport.open(
                endpoint.target(way),
                grant.token,
                agent_id=self._caller.agent_id,
                on_event=connection.receive,
                timeout=self._timeout,
            )
            # Bound here, not by the caller: one that is cancelled at this moment still closes the connection.
            connection.bind(socket, grant, way)

        try:
            # The transport bounds itself; the pool's own bound only catches what the transport misses.
            await self._gates.of(endpoint.host).connect(attempt, timeout=self._timeout + 5)
        except TimeoutError:
            raise ConnectError(f"no connection within {self._timeout:g} s") from None
        except ConnectError as error:
            if error.unanswered or (error.wrong_path and not error.no_engine):
                await self.look(endpoint, way)
            raise

    async def look(self, endpoint: Endpoint, way: Way) -> None:
        """See whether Socket.IO is there at all.

        Raises:
            ConnectError: the path is wrong.
        """
        look = self._paths.speaks(endpoint.url, way.engine_path, proxy=endpoint.proxy)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                speaks = await look
        except TimeoutError:
            return
        if speaks is False:
            raise _no_engine(endpoint, way)

    async def _register(self, connection: Connection, *, prove: bool) -> None:
        """Wait for what proves the registration: the agent's own presence, or the ack of a heartbeat.

        See docs/protocol.md#3-acceptance and docs/protocol.md#82-proof-of-being-registered.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._timeout
        # Half of the time at most: a heartbeat is to have its chance too.
        presence_seconds = 0.0 if connection.facts.has_presence is False else min(PRESENCE_SECONDS, self._timeout / 2)
        if not await _comes(connection, connection.registered, presence_seconds):
            await self._ask_for_proof(connection, ends - loop.time())
        if connection.has_presence and (prove or _doubtful(connection)):
            await _prove(connection, self._proof_seconds(connection))

    def _proof_seconds(self, connection: Connection) -> float:
        """How long an acknowledgement may take: where nothing else proves a socket a slow platform has all the time."""
        return self._timeout if _doubtful(connection) else PROOF_SECONDS

    async def _register_beside(self, connection: Connection, first: Connection) -> None:
        """Wait for what proves a second socket: an ack or a message on this very one. A presence may be the first's.

        Raises:
            ConnectError: it was lost, or nothing proved it in time.
        """
        proof = asyncio.ensure_future(_proved(connection, self._proof_seconds(connection)))
        over: list[asyncio.Future[Any]] = [proof, connection.proven, connection.closed]
        try:
            await asyncio.wait([*over, first.closed], timeout=BESIDE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if first.closed.done() and not any(one.done() for one in over):
                await asyncio.wait(over, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            proof.cancel()
            await asyncio.gather(proof, return_exceptions=True)
        if connection.closed.done():
            raise _lost_before_registered(connection)
        if not (connection.proven.done() or (proof.done() and not proof.cancelled())):
            raise ConnectError("connected, and nothing proved that the platform serves this socket", deaf=True)

    async def _ask_for_proof(self, connection: Connection, timeout: float) -> None:
        """No presence has come: the answer to a heartbeat will do, and so will a presence that is late.

        Raises:
            ConnectError: neither came within ``timeout`` seconds, or the platform refused the agent.
        """
        beat = asyncio.ensure_future(connection.questions.beat(timeout))
        try:
            either: list[asyncio.Future[Any]] = [connection.registered, beat]
            await asyncio.wait([*either, connection.closed], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if connection.closed.done():
                raise _lost_before_registered(connection)
            if connection.registered.done():
                return
            if not beat.done() or isinstance(beat.exception(), AckTimeoutError):
                raise ConnectError(
                    f"connected, but no presence of its own within {self._timeout:g} s, and no answer to a heartbeat",
                    deaf=True,
                )
            try:
                beat.result()
            except ConnectionLostError:
                raise _lost_before_registered(connection) from None
            except PlatformError as error:
                raise ConnectError(error.reason, error.verdict, refusal=error.refusal) from None
            connection.facts.has_presence = False
            connection.registered.set_result(None)
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)


def _doubtful(connection: Connection) -> bool:
    """Whether a presence alone proves nothing there: nothing was ever acknowledged where some never do."""
    return connection.namespace == DOUBTFUL_NAMESPACE and not connection.facts.handles


async def _proved(connection: Connection, seconds: float) -> None:
    """Return once an event of this socket was acknowledged, or where nothing ever is and a presence has to do.

    Args:
        seconds: how long an acknowledgement may take.
    """
    await asyncio.wait([connection.registered], timeout=PRESENCE_SECONDS)
    while connection.connected:
        try:
            await connection.questions.any_answer(seconds)
            return
        except AckTimeoutError:
            if connection.registered.done() and not _doubtful(connection):
                return


def _no_engine(endpoint: Endpoint, way: Way) -> ConnectError:
    said = f"{endpoint.host} has no Socket.IO at {way.engine_path}, as a plain request there shows"
    return ConnectError(f"{said}; set SUPERVISOR_WS_PATH", no_engine=True)


async def _comes(connection: Connection, what: asyncio.Future[None], seconds: float) -> bool:
    """Whether something comes within so many seconds.

    Raises:
        ConnectError: the connection was lost instead.
    """
    await first_done(what, connection.closed, within=seconds)
    if connection.closed.done():
        raise _lost_before_registered(connection)
    return what.done()


def _lost_before_registered(connection: Connection) -> ConnectError:
    reason = connection.closed.result()
    kicked = reason == KICKED
    said = "the platform closed the connection without a reason" if kicked else f"connection lost: {reason}"
    return ConnectError(
        f"{said}, before the agent was registered",
        Verdict.REAUTHENTICATE if kicked else Verdict.RETRY,
        kicked=kicked,
    )


async def _prove(connection: Connection, seconds: float) -> None:
    """Have an event acknowledged on this very socket, within so many seconds."""
    try:
        await connection.questions.any_answer(seconds)
    except AckTimeoutError:
        if _doubtful(connection):
            said = f"registered, but nothing is acknowledged in the namespace {connection.namespace}"
            raise ConnectError(said, deaf=True) from None
        # A server that acknowledges nothing can prove nothing. The socket stayed open, and that has to do.
    except ConnectionLostError:
        raise _lost_before_registered(connection) from None
