"""Keeps what an agent runs with current: its configuration, its token and, once online, its socket (DESIGN §4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from supervisor.core.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    HandlerError,
    PlatformError,
    Verdict,
)
from supervisor.core.records import AgentRecord
from supervisor.core.tasks import TaskSet
from supervisor.fleet.agent import Agent
from supervisor.fleet.dialer import Dialer
from supervisor.fleet.recovery import Recovery
from supervisor.fleet.shared import Kit
from supervisor.platform.connection import Connection
from supervisor.platform.tokens import Grant, TokenSource

#: Instruction and settings are fetched anew this often (DESIGN §4), drawn from the last fifth so that a fleet that was
#: started at once does not ask at once.
REFETCH_SECONDS = 3600.0
#: After so many refusals of a second socket in a row the first one is closed to make room.
REFUSED_ROTATIONS = 2
#: How long the first socket is kept for conversations that the second one cannot join.
JOIN_SECONDS = 300.0
#: Settings whose change needs a new token or a new socket; all others are taken over in place.
_CONNECTION_SETTINGS = ("api_url", "ws_url", "ws_namespace", "ws_path", "token_via")


def connection_differs(before: AgentRecord, after: AgentRecord) -> bool:
    """Whether a changed row asks for another token or socket."""
    return before.secret != after.secret or any(
        before.settings.get(name) != after.settings.get(name) for name in _CONNECTION_SETTINGS
    )


class SecondSocketRefusedError(Exception):
    """The platform allows an agent one socket: the first is closed, so that the next attempt has the place."""


class Upkeep:
    """One agent's configuration, token source and the rotation it owes.

    Args:
        on_trouble: told why the agent cannot be brought up to date while it stays online; empty once it could.
    """

    def __init__(
        self, agent: Agent, dialer: Dialer, recovery: Recovery, kit: Kit, on_trouble: Callable[[str], None]
    ) -> None:
        self._agent = agent
        self._dialer = dialer
        self._recovery = recovery
        self._kit = kit
        self._clock = kit.clock
        self._on_trouble = on_trouble
        self._source: TokenSource | None = None
        self._rotation_due = False
        self._refused_rotations = 0
        self._one_socket_only = False
        self._refetch_at = 0.0
        self._retiring = TaskSet()
        self.configured: AgentRecord | None = None
        self.reload_due = False
        #: A second connection is being opened: it may outlive the first.
        self.rotating = False

    async def configure(self, wanted: AgentRecord) -> None:
        """Take over a row where it differs from what the agent runs with, or all of it when a reload is due.

        Raises:
            ConfigurationError, HandlerError: the agent cannot run like this.
        """
        fresh = self.reload_due
        if wanted is self.configured and not fresh:
            return
        await self._agent.configure(wanted, fresh=fresh)
        before, self.configured, self.reload_due = self.configured, wanted, False
        if before is None or fresh or connection_differs(before, wanted):
            self._rotation_due = True
            old, self._source = (
                self._source,
                TokenSource(
                    self._kit.tokens,
                    wanted.id,
                    self._dialer.api_url,
                    lambda: self._kit.secrets.resolve(wanted.secret),
                    self._clock,
                    proxy=self._kit.settings.proxy,
                ),
            )
            if old is not None:
                await old.close()

    def note_description(self, record: AgentRecord) -> None:
        """Take over a row of which only the name or labels changed."""
        self.configured = self._agent.record = record

    async def grant(self) -> Grant:
        """A valid token, handed to the agent with what came along.

        Raises:
            TokenError: the platform gave none. HandlerError: the handler would not start.
        """
        grant = await self._required_source().get()
        await self._agent.use_grant(grant)
        return grant

    def _required_source(self) -> TokenSource:
        if self._source is None:
            raise ConfigurationError("the agent is not configured")
        return self._source

    def refuse(self) -> None:
        """The platform refused the agent's token: never use it again."""
        if self._source is not None and self._agent.grant is not None:
            self._source.refuse(self._agent.grant)

    def online(self) -> None:
        """A connection was made with what the agent runs with now: nothing is owed."""
        self._rotation_due = False
        self._refetch_at = self._clock.monotonic() + REFETCH_SECONDS * random.uniform(0.8, 1.0)  # noqa: S311

    # ── while online; the runner drops a turn when the connection goes or something else is wanted ───────────────────

    async def turn(self, connection: Connection, wanted: AgentRecord) -> Connection:
        """Do what is due next, now or when its time comes.

        Trouble leaves the open connection in use, is shown, and is followed by another turn after a wait.

        Returns:
            The connection to use from now on.

        Raises:
            ConfigurationError, HandlerError: the agent cannot run like this.
            PlatformError: the platform refuses the agent, and its token is no longer good.
            SecondSocketRefusedError: ``connection`` is closed to make room for the next.
            ConnectionLostError: it was lost meanwhile, and the next was not to be had.
        """
        await self._configure_online(wanted)
        if self._agent.grant is not None:
            # A new handler starts with the token at hand; it must not wait for the platform.
            await self._agent.use_grant(self._agent.grant)
        await self._clock.sleep(self._seconds_to_due(connection))
        try:
            grant = await self._required_source().refresh()
            await self._agent.use_grant(grant)
            if self._rotation_due or connection.grant.refresh_at <= self._clock.now():
                connection = await self._rotate(connection)
        except PlatformError as error:
            await self._bear(connection, error)
        else:
            self.online()
            self._on_trouble("")
        return connection

    async def _configure_online(self, wanted: AgentRecord) -> None:
        """As :meth:`configure`, but a reload of code that is broken leaves the agent with the code it has."""
        try:
            await self.configure(wanted)
        except HandlerError as error:
            if wanted is not self.configured:
                raise
            self.reload_due = False
            self._on_trouble(f"reload failed, the old code goes on: {error}")

    def _seconds_to_due(self, connection: Connection) -> float:
        if self._rotation_due:
            return 0.0
        now, wall = self._clock.monotonic(), self._clock.now()
        return max(0.0, min(connection.grant.refresh_at - wall, self._refetch_at - now))

    async def _rotate(self, old: Connection) -> Connection:
        """Make before break: the new socket is registered and has joined before the old one closes (DESIGN §4).

        Raises:
            SecondSocketRefusedError: the platform allows one socket an agent; the old one is closed.
            PlatformError: the new one could not be opened.
        """
        if self._one_socket_only:
            await self._make_room(old)
        self.rotating = True
        try:
            new = await self._dialer.open(self.grant, lambda: None)
        except ConnectError as error:
            if not (error.refused and old.connected):
                raise
            await self._note_refusal(old, error)
            # The token is new, so the refusal is not the agent's: as a passing failure it is tried again.
            raise ConnectError(error.reason) from error
        finally:
            self.rotating = False
        self._refused_rotations = 0
        self._agent.use(new)
        self._retiring.spawn(self._hand_over(old, new), f"retire {self._agent.record.id}")
        return new

    async def _note_refusal(self, old: Connection, error: ConnectError) -> None:
        """Fall back to break before make where a second socket is refused again and again beside one that works."""
        self._refused_rotations += 1
        if self._refused_rotations >= REFUSED_ROTATIONS:
            self._one_socket_only = True
            self._agent.log.info("second_socket_refused", reason=error.reason, remedy="renewing by break before make")
            await self._make_room(old)

    async def _make_room(self, old: Connection) -> None:
        """Close the first socket once it has ended what it was at.

        Raises:
            SecondSocketRefusedError: always; the agent has no connection now.
        """
        self._agent.use(None)
        await self._retire(old)
        raise SecondSocketRefusedError

    async def _hand_over(self, old: Connection, new: Connection) -> None:
        """Close the first socket once the second one is in every conversation; until then both are listened to."""
        joined = asyncio.ensure_future(new.joined.wait())
        over: list[asyncio.Future[Any]] = [joined, old.closed, new.closed]
        try:
            await asyncio.wait(over, timeout=JOIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await old.close()
            raise
        finally:
            joined.cancel()
            await asyncio.gather(joined, return_exceptions=True)
        if not await self._retire(old) and new.connected:
            # It had died, who knows when, and what was sent into it is in the history only.
            self._dialer.catch_up(new)

    async def _retire(self, old: Connection) -> bool:
        """Close a socket that has ended what it was at; whether all that was sent to it is certainly in."""
        try:
            # What is in flight on the old one is settled there: sent again it could be doubled. And what the platform
            # sent before the new one was in a conversation is on the old one only.
            return await old.drain(self._kit.settings.ack_seconds)
        finally:
            await old.close()

    async def _bear(self, connection: Connection, error: PlatformError) -> None:
        """Wait before the next turn; a refusal ends the connection once its own token is no longer good."""
        if not connection.connected:
            raise ConnectionLostError(connection.closed.result() if connection.closed.done() else "closed")
        refused = error.verdict is Verdict.REJECT
        if refused and (self._rotation_due or connection.grant.expired(self._clock.now())):
            raise error
        self._on_trouble(f"cannot renew: {error.reason}")
        seconds = self._recovery.after(error).seconds if refused else self._recovery.backoff_seconds(error)
        await self._clock.sleep(seconds)

    async def close(self) -> None:
        """Forget the configuration, the token and sockets that were on their way out."""
        await self._retiring.cancel()
        if self._source is not None:
            await self._source.close()
            self._source = None
        self.configured = None
