"""One agent's life: authenticate, connect, register, stay online, and find back from every trouble (DESIGN §3)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace

from supervisor.core.errors import (
    ConfigurationError,
    ConnectionLostError,
    HandlerError,
    PlatformError,
    RegistryError,
    Verdict,
)
from supervisor.core.records import AgentRecord
from supervisor.core.states import AGENT_TRANSITIONS, AgentState, check_transition
from supervisor.core.status import AgentStatus
from supervisor.fleet.agent import Agent
from supervisor.fleet.change import Change, Changed
from supervisor.fleet.dialer import Dialer
from supervisor.fleet.recovery import FAULT_RECHECK_SECONDS, Bounds, Recovery
from supervisor.fleet.shared import Kit
from supervisor.fleet.upkeep import SecondSocketRefusedError, Upkeep
from supervisor.platform.connection import Connection
from supervisor.platform.tokens import Grant

#: A first socket that is lost while a second one is being opened: so soon the second must be there.
REPLACED_SECONDS = 2.0
#: How long to wait before the journal is read again when it could not be.
REGISTRY_RETRY_SECONDS = 5.0

_REFUSED = frozenset({AgentState.REJECTED, AgentState.FAULTED})

OnState = Callable[["Runner", AgentState, AgentState], None]


class Runner:
    """Runs one agent. Give it a row with :meth:`want`; :meth:`run` is its task's body.

    Args:
        on_state: told of every change of state, after it.
    """

    def __init__(self, record: AgentRecord, kit: Kit, on_state: OnState) -> None:
        self.agent = Agent(record, kit)
        self.agent.control = self
        self.state = AgentState.STOPPED
        self.since = kit.clock.now()
        self.reason = ""
        self.cut_short = False  # handlers still ran when the grace period of the last drain was over
        self._wanted = record
        self._kit = kit
        self._settings = kit.settings
        self._clock = kit.clock
        self._on_state = on_state
        self._change = Change(kit.clock)
        self._stop_grace: float | None = None
        self._stop_at = math.inf
        self._dialer = Dialer(self.agent, kit)
        self._restored = False
        self._refreshed: list[asyncio.Future[str]] = []
        self._told = ""  # the refusal or fault that was logged last and has not ended
        self._seen_online = False
        self._asked_to_wait = False
        self._accepted: Grant | None = None
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
        self._upkeep = Upkeep(self.agent, self._dialer, self._recovery, kit, self._note_trouble)

    # ── what others say ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def wanted(self) -> AgentRecord:
        """The row as the fleet last saw it."""
        return self._wanted

    @property
    def restored(self) -> bool:
        """Whether what waits in the journal was taken up; what a person replays before that is found there then."""
        return self._restored

    @property
    def host(self) -> str:
        """The platform host that the agent connects to."""
        return self._dialer.host

    def want(self, record: AgentRecord) -> None:
        """The row changed: make the agent fit it."""
        before, self._wanted = self._wanted, record
        described = replace(before, name=record.name, labels=record.labels)
        same = self._kit.secrets.same
        if same(before.secret, record.secret) and same(before.settings, record.settings):
            described = replace(described, secret=record.secret, settings=record.settings)
        if self._upkeep.configured is before and described.same_content(record):
            # Only how it is called, or under which key it is sealed: nothing that runs or waits has to stop for that.
            self._upkeep.note_description(record)
        else:
            self._change.set()

    def poke(self) -> None:
        """Try again now, whatever the agent waits for (``agents resume``)."""
        self._recovery.forgive()
        self._change.set()

    def follow(self) -> None:
        """Do not wait out the backoff: the platform is back. One that asked us to wait is left its time."""
        if self.state is AgentState.BACKOFF and not self._asked_to_wait:
            self._change.set()

    def reload(self) -> None:
        """Read handler code, instruction and settings anew and rotate the connection (``agents reload``)."""
        self._upkeep.reload_due = True
        self._change.set()

    async def refresh(self) -> str:
        """As :meth:`reload`; returns once that is done, empty, or once it failed, with the reason."""
        refreshed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._refreshed.append(refreshed)
        self.reload()
        return await refreshed

    def _tell_refreshed(self, reason: str) -> None:
        # While the reload is due, what was done is what was asked for before.
        if not self._upkeep.reload_due:
            for refreshed in self._refreshed:
                if not refreshed.done():
                    refreshed.set_result(reason)
            self._refreshed.clear()

    def stop(self, grace_seconds: float) -> None:
        """Drain for so long at most, then go offline; :meth:`run` ends."""
        self._stop_grace = grace_seconds
        self._stop_at = self._clock.monotonic() + grace_seconds
        self._change.set()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Live until stopped. Trouble is dealt with here; an exception out of it is a defect of ours."""
        try:
            while self._stop_grace is None:
                self._change.clear()
                try:
                    await (self._paused() if self._wanted.paused else self._live())
                except Changed:
                    continue
        finally:
            await self._end()

    async def _paused(self) -> None:
        await self._go_offline(self._settings.drain_seconds)
        await self._let_go()
        self._become(AgentState.PAUSED)
        self._kit.outages.forget(self.agent.record.id)
        self.agent.record = self._wanted
        await self._change.wait()

    async def _live(self) -> None:
        """Authenticate, connect, stay online; one failure after another leads back here."""
        try:
            connection = await self._change.unless(self._establish())
            await self._stay_online(connection)
        except (ConfigurationError, HandlerError) as error:
            self._kit.outages.forget(self.agent.record.id)
            await self._wait(AgentState.FAULTED, str(error), FAULT_RECHECK_SECONDS)
        except RegistryError as error:
            # The journal could not be read: no fault of the agent's.
            await self._wait(AgentState.BACKOFF, str(error), REGISTRY_RETRY_SECONDS)
        except PlatformError as error:
            await self._recover(error)
        except SecondSocketRefusedError:
            # The next attempt has the platform's one place for itself, and a new token.
            return

    async def _end(self) -> None:
        try:
            await self._close_opened()
            await self._go_offline(self._stop_grace or 0.0)
        finally:
            # A second signal cuts the drain short, but what runs is given back all the same.
            await self._let_go()
            self._become(AgentState.STOPPED)

    async def _let_go(self) -> None:
        """Stop all that runs; what is not settled stays in the journal for the next time."""
        self._restored = False
        await self.agent.close()
        await self._upkeep.close()

    # ── going online ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _establish(self) -> Connection:
        """Configure, authenticate, connect, register.

        Raises:
            ConfigurationError, HandlerError: the agent cannot run like this. PlatformError: the attempt failed.
        """
        await self._close_opened()
        await self._upkeep.configure(self._wanted)
        self._become(AgentState.AUTHENTICATING)
        if not self._restored:
            await self.agent.restore()
            self._restored = True
        await self._upkeep.grant()
        self._become(AgentState.CONNECTING)
        self._opened = await self._dialer.open(self._upkeep.grant, lambda: self._become(AgentState.REGISTERING))
        return self._opened

    async def _close_opened(self) -> None:
        """Close a connection that was opened and never taken over: its attempt was dropped at that moment."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    # ── being online ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _stay_online(self, connection: Connection) -> None:
        """Stay until the connection is lost or something else is wanted.

        Raises:
            ConnectionLostError: it was lost. Changed: the agent is to pause or stop; it is offline by then.
        """
        self._opened = None
        self._come_online(connection)
        try:
            while True:
                try:
                    connection = await self._next_turn(connection)
                except Changed:
                    if self._stop_grace is not None or self._wanted.paused:
                        await self._go_offline(self._settings.drain_seconds)
                        raise
        finally:
            await self._close_all(connection)

    async def _next_turn(self, connection: Connection) -> Connection:
        """One turn of upkeep, dropped when the connection is lost or something else is wanted meanwhile.

        Raises:
            ConnectionLostError, Changed: that happened. Otherwise as :meth:`Upkeep.turn` does.
        """
        self._change.clear()
        if self._stop_grace is not None or self._wanted.paused:
            raise Changed
        turn = asyncio.ensure_future(self._upkeep.turn(connection, self._wanted))
        try:
            await self._change.or_first_of(turn, connection.closed)
            if connection.closed.done() and self._upkeep.rotating:
                # Where the platform allows one socket, the second has put out the first, and is nearly there.
                await self._change.or_first_of(turn, within=REPLACED_SECONDS)
            if turn.done():
                return turn.result()
            if connection.closed.done():
                raise ConnectionLostError(connection.closed.result())
            raise Changed
        finally:
            turn.cancel()
            await asyncio.gather(turn, return_exceptions=True)

    def _come_online(self, connection: Connection) -> None:
        self.agent.use(connection)
        self._accepted = connection.grant
        self._recovery.online()
        self._upkeep.online()
        self._become(AgentState.ONLINE)
        self._kit.outages.recovered(self.agent.record.id, self._dialer.host)
        self._tell_refreshed("")

    def _note_trouble(self, reason: str) -> None:
        """An online agent cannot be brought up to date, or again can."""
        self._tell_refreshed(reason)
        if reason and reason != self.reason:
            self.agent.log.warning("renewal_failed", reason=reason)
        if self.state is AgentState.ONLINE:
            self._become(AgentState.ONLINE, reason)

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
        """Drain: start nothing more, finish what runs while the connection still carries replies (DESIGN §4).

        Raises:
            Changed: the pause was taken back meanwhile.
        """
        if self.state in (AgentState.STOPPED, AgentState.PAUSED, AgentState.DRAINING):
            return
        self._become(AgentState.DRAINING)
        drain = asyncio.ensure_future(self.agent.drain())
        until = min(self._clock.monotonic() + grace_seconds, self._stop_at)
        try:
            while not drain.done() and (left := until - self._clock.monotonic()) > 0:
                self._change.clear()
                await self._change.or_first_of(drain, within=left)
                if self._stop_grace is not None:
                    until = min(until, self._stop_at)
                elif not self._wanted.paused:
                    raise Changed
            if not drain.done():
                self.agent.log.warning("drain_incomplete", seconds=grace_seconds)
                self.cut_short = self.agent.lanes.running > 0
                # While the connection can still carry what is said last: that nobody types any more.
                await self.agent.lanes.close()
        finally:
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)

    # ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _recover(self, error: PlatformError) -> None:
        """Wait as the failure asks, then return for the next attempt."""
        if error.verdict in (Verdict.RETRY, Verdict.REAUTHENTICATE):
            self._kit.outages.failed(self.agent.record.id, self._dialer.host, error.reason)
        else:
            self._kit.outages.forget(self.agent.record.id)
        self._asked_to_wait = error.retry_after_seconds is not None
        step = self._recovery.after(error, self._untried_seconds())
        if step.state is None:
            # At once, with a new token, whoever else tries: it is this attempt that goes on.
            self._upkeep.refuse()
        else:
            await self._wait(step.state, error.reason, step.seconds)
            await self._take_turn(error.reason)

    async def _take_turn(self, reason: str) -> None:
        """Wait while the host is down and others try it: only a few probes go out (DESIGN §3)."""
        outages, agent_id = self._kit.outages, self.agent.record.id
        if outages.must_wait(agent_id):
            self._become(AgentState.BACKOFF, f"waits for its turn, {self._dialer.host} is down: {reason}")
            await self._change.unless(outages.turn(agent_id))

    def _untried_seconds(self) -> float | None:
        """The age of a token that the platform has never accepted; None for one that it has, which may have ended."""
        grant = self.agent.grant
        return None if grant is None or grant is self._accepted else self._clock.now() - grant.issued_at

    async def _wait(self, state: AgentState, reason: str, seconds: float) -> None:
        self._become(state, reason)
        await self._change.unless(self._clock.sleep(seconds))

    def _become(self, state: AgentState, reason: str = "") -> None:
        """The one setter of the state: checks, logs, tells."""
        old = self.state
        # A reason may quote a handler's own words, and those a token or the secret.
        reason = self.agent.redact(reason)
        if old is state:
            self.reason = reason
            if state in _REFUSED:
                self._log_refusal()
            return
        check_transition(AGENT_TRANSITIONS, old, state)
        self.state, self.reason, self.since = state, reason, self._clock.now()
        self._log_state(old)
        self._on_state(self, old, state)

    def _log_state(self, old: AgentState) -> None:
        """A line for a refusal or fault and one for its end; outages are told by :mod:`supervisor.platform.outages`."""
        if self.state in _REFUSED:
            self._log_refusal()
        elif self.state is AgentState.ONLINE and (self._told or not self._seen_online):
            self._told, self._seen_online = "", True
            self.agent.log.info("agent_online")
        elif self.state is AgentState.PAUSED:
            self._told, self._seen_online = "", False
            self.agent.log.info("agent_paused")
        else:
            self.agent.log.debug("state", state=str(self.state), was=str(old), reason=self.reason or None)

    def _log_refusal(self) -> None:
        """Once for each reason: the retries say nothing new."""
        if self.reason != self._told:
            self._told = self.reason
            self.agent.log.warning(f"agent_{self.state}", reason=self.reason)

    # ── showing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> AgentStatus:
        """The agent as the contract shows it."""
        agent, record = self.agent, self._wanted
        connection = agent.connection
        return AgentStatus(
            id=record.id,
            name=record.name or (agent.grant.answer.name if agent.grant else None) or "",
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
