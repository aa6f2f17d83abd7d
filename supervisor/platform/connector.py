"""From a token to a registered agent: opens the connections of one agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from supervisor.core.errors import AckTimeoutError, ConnectError, ConnectionLostError, Verdict
from supervisor.platform.connection import PROOF_SECONDS, Connection, OnEvent
from supervisor.platform.endpoint import Endpoint
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.tokens import Grant
from supervisor.platform.transport import Transport

Grants = Callable[[], Awaitable[Grant]]


def _ignore() -> None:
    """Nobody wants to know."""


class Connector:
    """Opens one agent's connections.

    Args:
        transport: opens sockets, for all agents.
        gates: the bounds of all hosts.
        agent_id: the agent's id.
        on_event: gets every event but the answers to the agent's own sends, in order; must only enqueue.
        timeout_seconds: for the connect, and again for the registration.
    """

    def __init__(
        self, transport: Transport, gates: Gates, *, agent_id: str, on_event: OnEvent, timeout_seconds: float
    ) -> None:
        self._transport = transport
        self._gates = gates
        self._agent_id = agent_id
        self._on_event = on_event
        self._timeout = timeout_seconds

    async def open(
        self, endpoint: Endpoint, grants: Grants, *, prove: bool = False, on_connected: Callable[[], None] = _ignore
    ) -> Connection:
        """Connect and wait until the platform has registered the agent.

        Args:
            endpoint: where to; its namespaces are tried in order.
            grants: gives a valid token; asked when it is this attempt's turn, because a turn may be longer in coming
                than a token lasts.
            prove: ask for an acknowledged event on this socket too. A presence does not say whose it is, and another
                socket of the agent is open or was a moment ago.
            on_connected: called when the namespace is joined and the registration is awaited.

        Raises:
            ConnectError: no candidate led to a registration; nothing is left open.
            TokenError, HandlerError: there was no token, or the handler would not start with it.
        """
        refused: ConnectError | None = None
        for namespace in endpoint.namespaces:
            connection = Connection(self._agent_id, on_event=self._on_event)
            try:
                await self._connect(connection, endpoint, namespace, grants)
                on_connected()
                await self._register(connection, prove=prove)
            except ConnectError as error:
                await connection.close()
                if not error.invalid_namespace:
                    raise
                refused = error
            except BaseException:
                await connection.close()
                raise
            else:
                return connection
        tried = ", ".join(endpoint.namespaces)
        raise ConnectError(
            f"Invalid namespace; tried {tried}: set SUPERVISOR_WS_NAMESPACE", Verdict.REJECT
        ) from refused

    async def _connect(self, connection: Connection, endpoint: Endpoint, namespace: str, grants: Grants) -> None:
        async def attempt() -> None:
            grant = await grants()
            socket = await self._transport.open(
                endpoint.target(namespace),
                grant.token,
                agent_id=self._agent_id,
                on_event=connection.receive,
                timeout=self._timeout,
            )
            # Bound here, not by the caller: one that is cancelled at this moment still closes the connection.
            connection.bind(socket, grant, namespace)

        try:
            # The transport bounds itself; the pool's own bound only catches what the transport misses.
            await self._gates.of(endpoint.host).connect(attempt, timeout=self._timeout + 5)
        except TimeoutError:
            raise ConnectError(f"no connection within {self._timeout:g} s") from None

    async def _register(self, connection: Connection, *, prove: bool) -> None:
        """Wait for the agent's own presence, which alone proves its registration (docs/protocol.md#3-acceptance)."""
        either: list[asyncio.Future[Any]] = [connection.registered, connection.closed]
        done, _ = await asyncio.wait(either, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        if connection.closed in done:
            raise _lost_before_registered(connection.closed.result())
        if not done:
            raise ConnectError(f"connected, but no presence of its own within {self._timeout:g} s", deaf=True)
        if prove:
            await _prove(connection)


def _lost_before_registered(reason: str) -> ConnectError:
    kicked = reason == "server disconnect"
    verdict = Verdict.REAUTHENTICATE if kicked else Verdict.RETRY
    said = "the platform closed the connection without a reason" if kicked else f"connection lost: {reason}"
    return ConnectError(f"{said}, before the agent was registered", verdict, kicked=kicked)


async def _prove(connection: Connection) -> None:
    try:
        await connection.round_trip(PROOF_SECONDS)
    except AckTimeoutError:
        # A server that acknowledges nothing can prove nothing. The socket stayed open, and that has to do.
        return
    except ConnectionLostError as error:
        raise _lost_before_registered(error.reason) from None
