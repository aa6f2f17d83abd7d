"""One agent's life: authenticate, connect, register, stay online, and find back from every trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from supervisor.core.errors import (
    ConfigurationError,
    HandlerError,
    PlatformError,
    RegistryError,
    Verdict,
)
from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus
from supervisor.core.trouble import SPENT
from supervisor.fleet.agent import Agent
from supervisor.fleet.change import Changed
from supervisor.fleet.coming import Coming
from supervisor.fleet.condition import Condition
from supervisor.fleet.configuration import Configuration
from supervisor.fleet.desired import Desired
from supervisor.fleet.dialer import Dialer
from supervisor.fleet.drain import Drain
from supervisor.fleet.findability import Findability
from supervisor.fleet.going import Going
from supervisor.fleet.recovery import FAULT_RECHECK_SECONDS, Bounds, Recovery
from supervisor.fleet.refetch import Refetch
from supervisor.fleet.rotation import Rotation, SecondSocketRefusedError
from supervisor.fleet.shared import Shared
from supervisor.fleet.upkeep import Upkeep
from supervisor.messages import AgentActions, Situation
from supervisor.platform.connection import Connection
from supervisor.platform.tokens.notes import notes_of
from supervisor.telemetry.logs import get_logger

#: How long to wait before the journal is read again when it could not be.
REGISTRY_RETRY_SECONDS = 5.0

OnState = Callable[["Runner", AgentState, AgentState], None]


class Runner:
    """Runs one agent. Give it a row with :meth:`want`; :meth:`run` is its task's body.

    Args:
        on_state: told of every change of state, after it.
    """

    def __init__(self, record: AgentRecord, shared: Shared, on_state: OnState) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._clock = shared.clock
        self._desired = desired = Desired(record, shared.clock)
        log = get_logger("supervisor.agent").bind(agent=record.id)
        self.condition = condition = Condition(shared.clock, log, lambda old, new: on_state(self, old, new))

        def situation() -> Situation:
            return Situation(desired.record.handler, condition.state, condition.since)

        self.agent = Agent(record, shared, log, AgentActions(situation, desired.refresh))
        self._drain = Drain(self.agent, desired, condition, shared.clock)
        self._dialer = Dialer(self.agent, shared)
        self._recovery = Recovery(Bounds.of(shared.settings), shared.clock, uniform=shared.uniform)
        self._configuration = Configuration(self.agent, desired, shared)
        self.coming = Coming(self.agent, desired, self._configuration)
        self.going = Going(self.agent, desired, shared.settings.ack_seconds)
        self.findability = Findability(self.agent, self._dialer, shared, self._configuration.adopt)
        self.rotation = Rotation(self.agent, self._dialer, shared.settings.ack_seconds, self.findability)
        self._refetch = Refetch(self.agent, self._configuration, shared)
        self._upkeep = Upkeep(
            self.agent,
            desired,
            self._configuration,
            self.rotation,
            recovery=self._recovery,
            shared=shared,
            on_trouble=self._show_trouble,
        )
        self.agent.on_refused = self._upkeep.refuse
        self._asked_to_wait = False
        self._opened: Connection | None = None

    @property
    def wanted(self) -> AgentRecord:
        """The row as the fleet last saw it."""
        return self._desired.record

    @property
    def host(self) -> str:
        """The platform host that the agent connects to."""
        return self._dialer.host

    @property
    def cut_short(self) -> bool:
        """Whether handlers still ran when the grace period of the last drain was over."""
        return self._drain.cut_short

    def want(self, record: AgentRecord) -> None:
        """The row changed: make the agent fit it."""
        before = self._desired.record
        self._desired.replace(record)
        described = replace(before, name=record.name, labels=record.labels)
        same = self._shared.secrets.same
        if same(before.secret, record.secret) and same(before.settings, record.settings):
            described = replace(described, secret=record.secret, settings=record.settings)
        if self._configuration.is_of(before) and described.same_content(record):
            # Only how it is called, or under which key it is sealed: nothing that runs or waits has to stop for that.
            self._configuration.describe(record)
        else:
            self._desired.change.set()

    def retry_now(self) -> None:
        """Try again now, whatever the agent waits for, and sleep no longer (``agents resume``)."""
        self.agent.pipeline.duties.resume()
        self._recovery.reset()
        self._desired.change.set()

    def host_is_back(self) -> None:
        """Do not wait out the backoff. A platform that asked us to wait is left its time."""
        if self.condition.state is AgentState.BACKOFF and not self._asked_to_wait:
            self._desired.change.set()

    def reload(self) -> None:
        """Read handler code, instruction and settings anew and rotate the connection (``agents reload``)."""
        self._desired.reload()

    async def refresh(self) -> str:
        """As :meth:`reload`; returns once that is done, empty, or once it failed, with the reason."""
        return await self._desired.refresh()

    def stop(self, grace_seconds: float) -> None:
        """Drain for so long at most, then go offline; :meth:`run` ends."""
        self._desired.stop(grace_seconds)

    def status(self) -> AgentStatus:
        """The agent as the contract shows it."""
        agent, record, condition = self.agent, self._desired.record, self.condition
        connection = agent.connection
        undelivered, reason = agent.pipeline.outbox.undelivered
        state = condition.state
        trouble = agent.trouble(state)
        return AgentStatus(
            id=record.id,
            name=record.name or (agent.grant.answer.name if agent.grant else None) or "",
            handler=record.handler,
            state=state,
            since=condition.since,
            reason=condition.reason
            or agent.pipeline.duties.sleeping.shown
            or (agent.profile.spending.used_up if trouble == SPENT else ""),
            health=str(agent.profile.health),
            conversation_id=connection.conversation_id if connection else None,
            conversations=len(agent.pipeline.inbox.conversations),
            auth_expires_at=agent.grant.expires_at if agent.grant and state is not AgentState.REJECTED else None,
            inbox=agent.pipeline.counts,
            settings=record.settings,
            labels=record.labels,
            paused=record.paused,
            secret=record.secret_place,
            undelivered=undelivered,
            undelivered_reason=agent.redact(reason),
            notes=(*agent.profile.notes, *notes_of(agent.grant)),
            trouble=trouble,
            oldest_at=agent.pipeline.answers.oldest_at,
            answered_lately=agent.activity.answered_lately(),
        )

    async def run(self) -> None:
        """Live until stopped. Trouble is dealt with here; an exception out of it is a defect of ours."""
        desired = self._desired
        try:
            while not desired.stopping:
                desired.change.clear()
                try:
                    await (self._paused() if desired.record.paused else self._live())
                except Changed:
                    continue
        finally:
            await self._end()

    async def _paused(self) -> None:
        await self._drain.run(self._settings.drain_seconds)
        await self._let_go()
        self._become(AgentState.PAUSED)
        self._shared.outages.forget(self.wanted.id)
        self.agent.describe(self.wanted)
        await self._desired.change.wait()

    async def _live(self) -> None:
        """Authenticate, connect, stay online; one failure after another leads back here."""
        try:
            connection = await self._desired.change.unless(self._establish())
            await self.coming.take_over(connection)
            await self._stay_online(connection)
        except (ConfigurationError, HandlerError) as error:
            self._shared.outages.forget(self.wanted.id)
            self._desired.reload_failed(self.agent.redact(str(error)))
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
            await self._drain.run(self._desired.grace_seconds)
        finally:
            # A second signal cuts the drain short, but what runs is given back all the same.
            await self._let_go()
            self._become(AgentState.STOPPED)
            self._desired.reload_failed("the agent has ended")

    async def _let_go(self) -> None:
        """Stop all that runs; what is not settled stays in the journal for the next time."""
        await self.agent.close()
        await self.rotation.close()
        await self._configuration.close()

    async def _establish(self) -> Connection:
        """Configure, authenticate, connect, register.

        Raises:
            ConfigurationError, HandlerError: the agent cannot run like this. PlatformError: the attempt failed.
        """
        await self._close_opened()
        await self._configuration.take_over()
        self._become(AgentState.AUTHENTICATING)
        room = self._shared.room
        if not room.take(self.wanted.id):
            self._become(AgentState.BACKOFF, room.reason)
            self._desired.answer_reloads(room.reason)
            await room.wait(self.wanted.id)
            self._become(AgentState.AUTHENTICATING)
        await self.coming.restore()
        await self._configuration.grant()
        self._become(AgentState.CONNECTING)
        self._opened = await self._dialer.open(
            self._configuration.grant, lambda _: self._become(AgentState.REGISTERING)
        )
        return self._opened

    async def _close_opened(self) -> None:
        """Close a connection that was opened and never taken over: its attempt was dropped at that moment."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

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
                    connection = await self._upkeep.next_turn(connection)
                except Changed:
                    if self._desired.offline:
                        await self.going.read(connection)
                        await self._drain.run(self._settings.drain_seconds)
                        raise
        finally:
            await self._close_all(connection)

    def _come_online(self, connection: Connection) -> None:
        self.agent.use(connection)
        self.findability.opened(connection)
        self.rotation.came_online(connection)
        self._recovery.online()
        self._configuration.accepted(connection.grant)
        self._upkeep.renewed()
        self._refetch.start()
        self._become(AgentState.ONLINE)
        self._shared.outages.recovered(self.wanted.id, self._dialer.host)
        self._desired.answer_reloads("")

    def _show_trouble(self, reason: str) -> None:
        """An online agent cannot be brought up to date, or again can."""
        # Whoever waits for a reload logs how it went.
        told = self._desired.answer_reloads(reason)
        if reason and reason != self.condition.reason and not told:
            self.agent.log.warning("renewal_failed", reason=reason)
        if self.condition.state is AgentState.ONLINE:
            self._become(AgentState.ONLINE, reason)

    async def _close_all(self, connection: Connection) -> None:
        sockets = self.agent.sockets(connection)
        self.agent.use(None)
        self.findability.closed()
        self._dialer.lost()
        await self._refetch.stop()
        self._recovery.offline()
        self._shared.metrics.disconnected(connection.closed.result() if connection.closed.done() else "closed by us")
        for one in sockets:
            await one.close()

    async def _recover(self, error: PlatformError) -> None:
        """Wait as the failure asks, then return for the next attempt."""
        outages, agent_id = self._shared.outages, self.wanted.id
        self.coming.failed(error)
        if error.verdict in (Verdict.RETRY, Verdict.REAUTHENTICATE):
            outages.failed(agent_id, self._dialer.host, error.reason)
        else:
            outages.forget(agent_id)
        self._asked_to_wait = error.retry_after_seconds is not None
        if error.refusal is not None:
            # The token at hand would let it in again: what the platform thinks of it now, only a new one tells.
            self._configuration.refused()
        step = self._recovery.after(error, self._configuration.untried_seconds())
        if step.state is None:
            # At once, with a new token, whoever else tries: it is this attempt that goes on.
            self._configuration.refused()
            return
        reason = self._recovery.explain(error, step.seconds)
        if reason != error.reason:
            self.agent.log.info("asked_to_wait", seconds=round(step.seconds), reason=self.agent.redact(reason))
        if step.state is AgentState.REJECTED:
            # It may stay so for long, whoever waits for a reload.
            self._desired.reload_failed(self.agent.redact(reason))
        await self._wait(step.state, reason, step.seconds)
        if error.suspended:
            # However many are suspended, the tokens of the others come first.
            host = urlsplit(self.agent.profile.settings.api_url).hostname or ""
            await self._desired.change.unless(self._shared.gates.of(host).recheck_rate.acquire())
        if outages.must_wait(agent_id):
            # While the host is down only a few probes go out; the other agents wait for their turn.
            self._become(AgentState.BACKOFF, f"waits for its turn, {self._dialer.host} is down: {error.reason}")
            await self._desired.change.unless(outages.turn(agent_id))

    async def _wait(self, state: AgentState, reason: str, seconds: float) -> None:
        self._become(state, reason)
        await self._desired.change.unless(self._clock.sleep(seconds))

    def _become(self, state: AgentState, reason: str = "") -> None:
        # A reason may quote a handler's own words, and those a token or the secret.
        self.condition.become(state, self.agent.redact(reason) if reason else "")
        self.coming.notice(state)
        self._shared.room.note(self.wanted.id, state)
