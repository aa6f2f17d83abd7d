"""One agent's life: authenticate, connect, register, stay online, and find back from every trouble (DESIGN §3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from supervisor.agent import Agent, Kit
from supervisor.connection import Connection
from supervisor.dialer import Dialer
from supervisor.errors import (
    ConfigurationError,
    ConnectionLostError,
    HandlerError,
    PlatformError,
    RegistryError,
    Verdict,
)
from supervisor.records import AgentRecord
from supervisor.recovery import FAULT_RECHECK_SECONDS, Bounds, Recovery
from supervisor.states import AGENT_TRANSITIONS, AgentState, check_transition
from supervisor.status import AgentStatus
from supervisor.tokens import Grant, TokenSource

#: Instruction and settings are fetched anew this often (DESIGN §4).
REFETCH_SECONDS = 3600.0
#: How long to wait before the journal is read again when it could not be.
REGISTRY_RETRY_SECONDS = 5.0
#: Settings whose change needs a new token or a new socket; all others are taken over in place.
_CONNECTION_SETTINGS = ("api_url", "ws_url", "ws_namespace", "ws_path", "token_via")

_T = TypeVar("_T")
OnState = Callable[["Runner", AgentState, AgentState], None]


class Changed(Exception):  # noqa: N818  a signal, not an error
    """What the agent was doing no longer fits what is wanted of it; look again."""


class Runner:
    """Runs one agent. Give it a row with :meth:`want`; :meth:`run` is its task's body.

    Args:
        on_state: told of every change of state, after it.
    """

    def __init__(self, record: AgentRecord, kit: Kit, on_state: OnState) -> None:
        self.agent = Agent(record, kit)
        self.state = AgentState.STOPPED
        self.since = kit.clock.now()
        self.reason = ""
        self._wanted = record
        self._kit = kit
        self._settings = kit.settings
        self._clock = kit.clock
        self._on_state = on_state
        self._changed = asyncio.Event()
        self._configured: AgentRecord | None = None
        self._reload = False
        self._stop_grace: float | None = None
        self._source: TokenSource | None = None
        self._dialer = Dialer(self.agent, kit)
        self._restored = False
        self._opened: Connection | None = None
        settings = kit.settings
        bounds = Bounds(
            settings.backoff_initial_seconds,
            settings.backoff_cap_seconds,
            settings.reject_initial_seconds,
            settings.reject_cap_seconds,
            settings.stable_seconds,
        )
        self._recovery = Recovery(bounds, kit.clock)

    # ── what others say ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def wanted(self) -> AgentRecord:
        """The row as the fleet last saw it."""
        return self._wanted

    def want(self, record: AgentRecord) -> None:
        """The row changed: make the agent fit it."""
        self._wanted = record
        self._changed.set()

    def poke(self) -> None:
        """Try again now, whatever the agent waits for (``agents resume``)."""
        self._recovery.forgive()
        self._changed.set()

    def reload(self) -> None:
        """Read handler code, instruction and settings anew and rotate the connection (``agents reload``)."""
        self._reload = True
        self._changed.set()

    def stop(self, grace_seconds: float) -> None:
        """Drain for so long at most, then go offline; :meth:`run` ends."""
        self._stop_grace = grace_seconds
        self._changed.set()

    def kill(self) -> None:
        """Stop without waiting for what runs."""
        self.stop(0.0)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Live until stopped. Trouble is dealt with here; an exception out of it is a defect of ours."""
        try:
            while self._stop_grace is None:
                self._changed.clear()
                try:
                    await (self._paused() if self._wanted.paused else self._live())
                except Changed:
                    continue
        finally:
            await self._end()

    async def _paused(self) -> None:
        await self._go_offline(self._settings.drain_seconds)
        await self.agent.close()
        self._configured, self._restored = None, False
        self._become(AgentState.PAUSED)
        self._kit.outages.forget(self.agent.record.id, self.host)
        self.agent.record = self._wanted
        await self._changed.wait()

    async def _live(self) -> None:
        """Authenticate, connect, stay online; one failure after another leads back here."""
        try:
            await self._configure()
            connection = await self._unless_changed(self._establish())
            await self._stay_online(connection)
        except (ConfigurationError, HandlerError) as error:
            await self._wait(AgentState.FAULTED, str(error), FAULT_RECHECK_SECONDS)
        except RegistryError as error:
            # The journal could not be read: no fault of the agent's.
            await self._wait(AgentState.BACKOFF, str(error), REGISTRY_RETRY_SECONDS)
        except PlatformError as error:
            await self._recover(error)

    async def _end(self) -> None:
        await self._close_opened()
        await self._go_offline(self._stop_grace or 0.0)
        await self.agent.close()
        if self._source is not None:
            await self._source.close()
        self._configured, self._restored = None, False
        self._become(AgentState.STOPPED)

    async def _unless_changed(self, work: Awaitable[_T]) -> _T:
        """Do ``work``, but drop it when what is wanted changes.

        Raises:
            Changed: it did.
        """
        task = asyncio.ensure_future(work)
        change = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({task, change}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Changed
        finally:
            change.cancel()
            task.cancel()
            await asyncio.gather(task, change, return_exceptions=True)

    # ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _configure(self) -> None:
        """Take over the wanted row where it differs from what the agent runs with.

        Raises:
            ConfigurationError, HandlerError: the agent cannot run like this.
        """
        wanted, reload = self._wanted, self._reload
        if self._configured is wanted and not reload:
            return
        before = self._configured
        self.agent.configure(wanted, fresh=reload)
        self._reload = False
        if before is None or reload or self._connection_differs(before, wanted):
            if self._source is not None:
                await self._source.close()
            self._source = TokenSource(
                self._kit.tokens,
                wanted.id,
                self._dialer.api_url,
                lambda: self._kit.secrets.resolve(wanted.secret),
                self._clock,
                proxy=self._settings.proxy,
            )
        self._configured = wanted

    @staticmethod
    def _connection_differs(before: AgentRecord, after: AgentRecord) -> bool:
        return before.secret != after.secret or any(
            before.settings.get(name) != after.settings.get(name) for name in _CONNECTION_SETTINGS
        )

    @property
    def host(self) -> str:
        """The platform host that the agent connects to."""
        return self._dialer.host

    # ── going online ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _establish(self) -> Connection:
        """Authenticate, connect, register.

        Raises:
            PlatformError: the attempt failed; HandlerError: the handler would not start.
        """
        await self._close_opened()
        self._become(AgentState.AUTHENTICATING)
        if not self._restored:
            await self.agent.restore()
            self._restored = True
        grant = await self._grant()
        self._become(AgentState.CONNECTING)
        self._opened = await self._dialer.open(grant, lambda: self._become(AgentState.REGISTERING))
        return self._opened

    async def _close_opened(self) -> None:
        """Close a connection that was opened and never taken over: its attempt was dropped at that moment."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def _grant(self) -> Grant:
        if self._source is None:
            raise ConfigurationError("the agent is not configured")
        grant = await self._source.get()
        await self.agent.use_grant(grant)
        return grant

    # ── being online ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _stay_online(self, connection: Connection) -> None:
        """Stay until the connection is lost or something else is wanted.

        Raises:
            ConnectionLostError: it was lost. Changed: the agent is to pause or stop; it is offline by then.
        """
        self._opened = None
        self._come_online(connection)
        refetch_at = self._clock.monotonic() + REFETCH_SECONDS
        try:
            while True:
                due = self._seconds_to_refresh(connection, refetch_at)
                what = await self._next(connection, due)
                if what == "lost":
                    raise ConnectionLostError(connection.closed.result())
                if what == "changed":
                    if self._stop_grace is not None or self._wanted.paused:
                        await self._go_offline(self._settings.drain_seconds)
                        raise Changed
                    self._changed.clear()
                    connection = await self._refit(connection)
                else:
                    connection = await self._refresh(connection)
                    refetch_at = self._clock.monotonic() + REFETCH_SECONDS
        finally:
            await self._close_all(connection)

    def _come_online(self, connection: Connection) -> None:
        self.agent.use(connection)
        self._recovery.online()
        self._become(AgentState.ONLINE)
        self._kit.outages.recovered(self.agent.record.id, self.host)

    def _seconds_to_refresh(self, connection: Connection, refetch_at: float) -> float:
        return max(0.0, min(connection.grant.refresh_at - self._clock.now(), refetch_at - self._clock.monotonic()))

    async def _next(self, connection: Connection, due_seconds: float) -> str:
        change = asyncio.ensure_future(self._changed.wait())
        due = asyncio.ensure_future(self._clock.sleep(due_seconds))
        try:
            events: list[asyncio.Future[Any]] = [connection.closed, change, due]
            done, _ = await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()
            due.cancel()
        if connection.closed in done:
            return "lost"
        return "changed" if change in done else "due"

    async def _refit(self, connection: Connection) -> Connection:
        """Make an online agent fit its changed row: in place where that does, else over a new connection."""
        before, rotate = self._configured, self._reload
        await self._configure()
        assert self._configured is not None  # noqa: S101  configured above
        if before is not None and self._connection_differs(before, self._configured):
            rotate = True
        if not rotate:
            if self.agent.grant is not None:
                await self.agent.use_grant(self.agent.grant)
            return connection
        return await self._refresh(connection, rotate=True)

    async def _refresh(self, connection: Connection, *, rotate: bool = False) -> Connection:
        """Renew the token; rotate the socket when its own token is due. Trouble leaves the open one in use."""
        try:
            grant = await self._renewed_grant()
            if rotate or connection.grant.refresh_at <= self._clock.now():
                return await self._rotate(connection, grant)
        except PlatformError as error:
            self.agent.log.warning("refresh_failed", reason=error.reason)
            if error.verdict is Verdict.REJECT:
                raise
            await self._pause_between_refreshes(connection, error)
        return connection

    async def _renewed_grant(self) -> Grant:
        assert self._source is not None  # noqa: S101  online, so it was configured
        grant = await self._source.refresh()
        await self.agent.use_grant(grant)
        return grant

    async def _rotate(self, old: Connection, grant: Grant) -> Connection:
        """Make before break: the new socket is registered and has joined before the old one closes (DESIGN §4)."""
        new = await self._dialer.open(grant, lambda: None)
        self.agent.use(new)
        # What is in flight on the old one is settled there: sent again it could be doubled.
        await old.idle(self._settings.ack_seconds)
        await old.close()
        return new

    async def _pause_between_refreshes(self, connection: Connection, error: PlatformError) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(self._recovery.backoff_seconds(error)))
        change = asyncio.ensure_future(self._changed.wait())
        try:
            events: list[asyncio.Future[Any]] = [connection.closed, change, sleep]
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            change.cancel()

    async def _close_all(self, connection: Connection) -> None:
        current = self.agent.connection
        self.agent.use(None)
        self._dialer.note_loss()
        self._recovery.offline()
        self._kit.metrics.disconnected(connection.closed.result() if connection.closed.done() else "closed by us")
        for open_one in {connection, current} - {None}:
            assert open_one is not None  # noqa: S101  for the type checker
            await open_one.close()

    async def _go_offline(self, grace_seconds: float) -> None:
        """Drain: start nothing more, finish what runs while the connection still carries replies (DESIGN §4)."""
        if self.state in (AgentState.STOPPED, AgentState.PAUSED, AgentState.DRAINING):
            return
        grace = grace_seconds if self._stop_grace is None else self._stop_grace
        self._become(AgentState.DRAINING)
        if not await self.agent.drain(grace):
            self.agent.log.warning("drain_incomplete", seconds=grace)

    # ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _recover(self, error: PlatformError) -> None:
        """Wait as the failure asks, then return for the next attempt."""
        if error.verdict in (Verdict.RETRY, Verdict.REAUTHENTICATE):
            self._kit.outages.failed(self.agent.record.id, self.host, error.reason)
        else:
            self._kit.outages.forget(self.agent.record.id, self.host)
        step = self._recovery.after(error)
        if step.state is not None:
            await self._wait(step.state, error.reason, step.seconds)
        elif self._source is not None and self.agent.grant is not None:
            self._source.refuse(self.agent.grant)

    async def _wait(self, state: AgentState, reason: str, seconds: float) -> None:
        self._become(state, reason)
        await self._unless_changed(self._clock.sleep(seconds))

    def _become(self, state: AgentState, reason: str = "") -> None:
        """The one setter of the state: checks, logs, tells."""
        old = self.state
        if old is state:
            self.reason = reason
            return
        check_transition(AGENT_TRANSITIONS, old, state)
        self.state, self.reason, self.since = state, reason, self._clock.now()
        level = "warning" if state in (AgentState.REJECTED, AgentState.FAULTED) else "debug"
        getattr(self.agent.log, level)("state", state=str(state), was=str(old), reason=reason or None)
        self._on_state(self, old, state)

    # ── showing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> AgentStatus:
        """The agent as the contract shows it."""
        agent, record = self.agent, self._wanted
        connection = agent.connection
        return AgentStatus(
            id=record.id,
            name=agent.info.name,
            handler=record.handler,
            state=self.state,
            since=self.since,
            reason=self.reason,
            health=agent.health,
            conversation_id=connection.conversation_id if connection else None,
            conversations=len(agent.inbox.conversations),
            auth_expires_at=agent.grant.expires_at if agent.grant else None,
            inbox=agent.inbox.counts,
            settings=record.settings,
            labels=record.labels,
            paused=record.paused,
        )
