"""Keeps an agent that is online current: its configuration, its token and its socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from supervisor.core.errors import ConnectError, ConnectionLostError, HandlerError, PlatformError, Verdict
from supervisor.fleet.agent import Agent
from supervisor.fleet.change import Changed
from supervisor.fleet.configuration import Configuration
from supervisor.fleet.desired import Desired
from supervisor.fleet.recovery import Recovery
from supervisor.fleet.rotation import Rotation
from supervisor.fleet.shared import Shared
from supervisor.platform.connection import Connection

#: A new token is asked for this often, drawn from the last fifth: a fleet that began at once does not ask at once.
#: Of the older platforms only this endpoint tells that an agent was suspended (docs/protocol.md#7-findings, 6), and on
#: some it is the only way to instruction and settings.
REFETCH_SECONDS = 3600.0
#: A first socket that is lost while a second one is being opened: so soon the second must be there.
REPLACED_SECONDS = 5.0


class Upkeep:
    """One online agent's turns: each does what is due next, and waits for its time.

    Args:
        on_trouble: told why the agent cannot be brought up to date while it stays online; empty once it could.
    """

    def __init__(
        self,
        agent: Agent,
        desired: Desired,
        configuration: Configuration,
        rotation: Rotation,
        *,
        recovery: Recovery,
        shared: Shared,
        on_trouble: Callable[[str], None],
    ) -> None:
        self._agent = agent
        self._desired = desired
        self._configuration = configuration
        self._rotation = rotation
        self._renewal = rotation.renewal
        self._heartbeat = rotation.heartbeat
        self._recovery = recovery
        self._clock = shared.clock
        self._uniform = shared.uniform
        self._on_trouble = on_trouble
        self._renewed_at = 0.0
        self._refetch_seconds = 0.0
        self._refused: PlatformError | None = None
        self._token_suspect = False

    def refuse(self, error: PlatformError) -> None:
        """The platform refuses the agent that is online: its connection is to end."""
        self._refused = error
        self._desired.change.set()

    def renewed(self) -> None:
        """Everything is current as of now: nothing is due before its time."""
        self._refused = None
        self._configuration.connected()
        self._renewed_at = self._clock.monotonic()
        self._refetch_seconds = REFETCH_SECONDS * self._uniform(0.8, 1.0)

    async def next_turn(self, connection: Connection) -> Connection:
        """One turn, dropped when the connection is lost or something else is wanted meanwhile.

        Trouble leaves the open connection in use, is shown, and is followed by another turn after a wait.

        Returns:
            The connection to use from now on.

        Raises:
            Changed: something else is wanted.
            ConnectionLostError: the connection was lost, and the next was not to be had.
            ConfigurationError, HandlerError: the agent cannot run like this.
            PlatformError: the platform refuses the agent, and its token is no longer good.
            SecondSocketRefusedError: ``connection`` is closed to make room for the next.
        """
        change = self._desired.change
        change.clear()
        if self._desired.offline:
            raise Changed
        if (refused := self._refused) is not None:
            self._refused = None
            raise refused
        if self._is_up_to_date and not await self._rest(connection):
            raise Changed
        turn = asyncio.ensure_future(self._turn(connection))
        try:
            await change.or_first_of(turn, connection.closed)
            if connection.closed.done() and self._rotation.opening:
                # Where the platform allows one socket, the second has put out the first, and is nearly there.
                await change.or_first_of(turn, within=REPLACED_SECONDS)
            if not turn.done() and self._rotation.taken_over:
                # The agent uses the second already, which is being proven and joins: that is bounded.
                await change.or_first_of(turn)
            if turn.done():
                return turn.result()
            if connection.closed.done():
                raise ConnectionLostError(connection.closed.result())
            raise Changed
        finally:
            turn.cancel()
            await asyncio.gather(turn, return_exceptions=True)

    @property
    def _is_up_to_date(self) -> bool:
        """Whether the agent runs with what is wanted."""
        return self._configuration.is_of(self._desired.record) and not self._desired.reload_due

    async def _rest(self, connection: Connection) -> bool:
        """Wait until something is due; whether it is, or something else is wanted. Here an agent spends its days.

        Raises:
            ConnectionLostError: the connection was lost.
        """
        change = self._desired.change
        while (left := self._renewal.seconds_to_due(self._seconds_to_due(connection))) > 0:
            forgotten = self._renewal.waiter()
            try:
                await change.or_first_of(connection.closed, forgotten, within=left)
            finally:
                forgotten.cancel()
            if connection.closed.done():
                raise ConnectionLostError(connection.closed.result())
            if change.is_set():
                return False
        return True

    async def _turn(self, connection: Connection) -> Connection:
        await self._configure()
        if self._agent.grant is not None:
            # A new handler starts with the token at hand; it must not wait for the platform.
            await self._agent.use_grant(self._agent.grant)
        if self._renewal.seconds_to_due(self._seconds_to_due(connection)) > 0:
            return connection
        try:
            return await self._renew(connection)
        except PlatformError as error:
            # A refusal of a second socket may mean that the token was revoked: the next attempt is made with a new one.
            self._token_suspect = isinstance(error, ConnectError) and error.refused
            await self._wait_after(error, connection)
            return connection

    async def _renew(self, connection: Connection) -> Connection:
        """Do what is due: get a new token, open a new socket with it, or one with the token at hand."""
        due = self._token_suspect or (self._seconds_to_due(connection) <= 0 and not self._has_newer_token(connection))
        if due:
            await self._configuration.fetch_grant()
            self._token_suspect = False
        token_ends = self._configuration.connection_due or connection.grant.seconds_to_refresh(self._clock) <= 0
        if token_ends or self._renewal.due:
            connection = await self._rotation.run(connection, self._configuration.grant)
        if due:
            self.renewed()
        self._on_trouble("")
        return connection

    def _has_newer_token(self, connection: Connection) -> bool:
        """Whether all that is due is a token, and a fresh one is at hand: a heartbeat brought it."""
        grant = self._agent.grant
        refetch = self._configuration.connection_due or self._clock.monotonic() >= self._refetch_at()
        if refetch or grant is None or grant is connection.grant:
            return False
        return grant.seconds_to_refresh(self._clock) > 0

    async def _configure(self) -> None:
        """Take over what is wanted; a reload of code that is broken leaves the agent with the code it has."""
        wanted = self._desired.record
        try:
            await self._configuration.take_over()
        except HandlerError as error:
            if not self._configuration.is_of(wanted):
                raise
            self._desired.reload_taken()
            self._on_trouble(f"reload failed, the old code goes on: {error}")

    def _seconds_to_due(self, connection: Connection) -> float:
        if self._configuration.connection_due:
            return 0.0
        to_refetch = self._refetch_at() - self._clock.monotonic()
        return max(0.0, min(connection.grant.seconds_to_refresh(self._clock), to_refetch))

    def _refetch_at(self) -> float:
        """When a token is to be asked for although the present one is good.

        An answered heartbeat tells as much of the agent, and costs the platform no check of the secret.
        """
        told_at = self._renewed_at
        if self._configuration.refetched:
            told_at = max(told_at, self._heartbeat.answered_at)
        return told_at + self._refetch_seconds

    async def _wait_after(self, error: PlatformError, connection: Connection) -> None:
        """Wait before the next turn; a refusal ends the connection once its own token is no longer good.

        One that names the agent suspended or unknown ends it at once.
        """
        if not connection.connected:
            raise ConnectionLostError(connection.closed.result() if connection.closed.done() else "closed")
        refused = error.verdict is Verdict.REJECT
        if error.refusal is not None:
            # It said so itself: whatever the present token is good for, people are not to meet the agent there.
            raise error
        if refused and (self._configuration.connection_due or connection.grant.expired(self._clock)):
            raise error
        deaf = "not found for new conversations, and " if self._renewal.unfindable else ""
        seconds = self._recovery.after(error).seconds if refused else self._recovery.backoff_seconds(error)
        self._on_trouble(f"{deaf}cannot renew: {self._recovery.explain(error, seconds)}")
        await self._clock.sleep(seconds)
