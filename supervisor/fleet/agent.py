"""One agent's working parts: its row as it runs, its handler and hooks, and the pipeline of its messages.

The runner decides when an agent is connected; everything here goes on working while it is not.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from supervisor.core.activity import Activity
from supervisor.core.errors import ConfigurationError, HandlerError, PlatformError
from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.core.trouble import online_trouble
from supervisor.fleet.hooks import HOOK_SECONDS, Hooks
from supervisor.fleet.shared import Shared
from supervisor.fleet.works import Pace, WorkFetcher
from supervisor.handlers import MountedHandler, foreign
from supervisor.handlers.loader import LOAD_SECONDS
from supervisor.handlers.loading import StillLoadingError
from supervisor.messages import AgentActions, AgentContext, Limits, Pipeline, Profile, Scope
from supervisor.messages.pipeline import PlatformApis
from supervisor.platform.connection import Connection
from supervisor.platform.heartbeats import Pulse
from supervisor.platform.tokens import Grant
from supervisor.telemetry.failures import describe, describe_fully

#: How often it is asked whether code is loaded that another agent's load hangs in.
LOAD_AGAIN_SECONDS: Final = 1.0


class Agent:
    """One agent. Writes its profile, which its pipeline reads.

    Args:
        log: the agent's logger.
        actions: what the commands of the agent's chats may ask for.
    """

    def __init__(self, record: AgentRecord, shared: Shared, log: Any, actions: AgentActions) -> None:
        traces = shared.tracing.of(record.id, lambda: (self.profile.record.name or "", self.profile.record.handler))
        self.activity = Activity(shared.clock)
        scope = Scope(record.id, log, shared.journal, shared.metrics, shared.clock, traces, self.activity)
        self.log = log
        self.profile = Profile(record, scope, shared.settings, shared.secrets, shared.ledger)
        self.pipeline = Pipeline(
            self.profile,
            shared.dispatcher,
            PlatformApis(shared.history, shared.conversations, shared.files),
            shared.deliveries,
            actions,
            self._receive,
        )
        #: Told that the platform refuses the agent although it is connected; the runner sets it.
        self.on_refused: Callable[[PlatformError], None] = lambda _error: None
        self._fetcher = WorkFetcher(
            shared.beats,
            self.pulse,
            self.profile.access,
            Pace(shared.clock, shared.settings.heartbeat_seconds, shared.uniform),
            on_refused=self._refuse,
            log=log,
        )
        self._shared = shared
        self._hooks = Hooks(record.id, shared.metrics, self.redact, log, tracebacks=shared.settings.shows_tracebacks)
        self._started = False
        # The traceback that was shown last: what fails is tried again and again.
        self._shown = ""

    @property
    def record(self) -> AgentRecord:
        """The row that the agent runs with."""
        return self.profile.record

    @property
    def grant(self) -> Grant | None:
        """The agent's token with what came along; None before the first one."""
        return self.profile.grant

    @property
    def connection(self) -> Connection | None:
        """The connection that is in use; None while the agent is offline."""
        return self.pipeline.connection

    def sockets(self, connection: Connection) -> set[Connection]:
        """``connection`` and the one in use: two while one takes the place of another."""
        return {connection, self.connection or connection}

    @property
    def pulse(self) -> Pulse:
        """What its heartbeats say, and where that goes which they bring."""
        return self.pipeline.duties.pulse

    @property
    def _context(self) -> AgentContext:
        return AgentContext(self.profile)

    def trouble(self, state: AgentState) -> str:
        """What troubles it while it is online; empty where nothing does. One that sleeps lets messages wait."""
        if state is not AgentState.ONLINE:
            return ""
        oldest_at = None if self.pipeline.duties.sleeping.current is not None else self.pipeline.answers.oldest_at
        return online_trouble(
            failing=self.profile.health.failing,
            waited_seconds=0.0 if oldest_at is None else self._shared.clock.now() - oldest_at,
            may_take_seconds=self.profile.settings.timeout_seconds,
            spent=bool(self.profile.spending.used_up),
        )

    def redact(self, text: str) -> str:
        """``text`` without this agent's secrets."""
        return self.profile.secrecy.redact(text)

    async def configure(self, record: AgentRecord, *, fresh: bool = False) -> None:
        """Take a row over: its settings and its handler. Messages under way end with the handler that began them.

        Args:
            fresh: read the handler's code from disk again.

        Raises:
            ConfigurationError: the row's settings are not right, or reach beyond the deployment's bounds.
            HandlerError: the handler cannot be loaded.
        """
        if record.problem:
            raise ConfigurationError(record.problem)
        settings = self._shared.settings.effective(record.settings)
        self.profile.secrecy.use(record.secret)
        if fresh or not self.profile.suits_handler(record):
            handler = await self._load(record.handler, fresh=fresh)
            self._retire()
            # Until its on_start is through the new handler gets no message.
            self.pipeline.pause()
            self.profile.mount(handler)
            self.profile.health.reset()
        self._shared.metrics.handler_known(record.handler)
        self.profile.configure(record, settings)
        self.pipeline.duties.renew()
        self._shared.ledger.limit(record.id, Limits(settings.budget_tokens, settings.budget_cost))

    def describe(self, record: AgentRecord) -> None:
        """Take over a row in which only that differs on which nothing that runs depends."""
        self.profile.describe(record)

    async def _load(self, reference: str, *, fresh: bool) -> MountedHandler:
        """Import a handler's code in a thread: a slow import must not hold up the fleet."""
        load = functools.partial(self._shared.loader.load, reference, fresh=fresh)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                while True:
                    # Not in the thread: others need it meanwhile.
                    with suppress(StillLoadingError):
                        return await asyncio.get_running_loop().run_in_executor(self._shared.imports, load)
                    await self._shared.clock.sleep(LOAD_AGAIN_SECONDS)
        except TimeoutError:
            raise HandlerError(f"Handler {reference!r} takes longer than {LOAD_SECONDS:g} s to load") from None
        except HandlerError as error:
            self._show(error.__cause__)
            raise

    def _show(self, error: BaseException | None) -> None:
        """Show whoever writes the handler where its code failed, once as long as it fails alike."""
        if error is None or not self._shared.settings.shows_tracebacks:
            return
        report = describe_fully(error, self.redact)
        if report != self._shown:
            self._shown = report
            self.log.warning("handler_code_failed", exception=report.rstrip())

    def _retire(self) -> None:
        """Stop the old handler once the messages it works on are done."""
        old, started = self.profile.mounted, self._started
        self._started = False
        if old is not None and started:
            self._hooks.retire(old, self._context)

    async def use_grant(self, grant: Grant) -> None:
        """Take over a new token with what came along; start the handler where it is not, else tell it.

        Raises:
            HandlerError: the handler's ``on_start`` failed.
        """
        new = self.grant is not grant
        self.profile.authorize(grant)
        self._shared.metrics.auth_expiry(self.record.id, grant.expires_at)
        if not self._started:
            await self._start_handler()
        elif new:
            handler = self.profile.handler
            self._hooks.spawn(handler, handler.hook("on_reload", self._context))
        self._watch_presences()
        self.pipeline.resume()

    def amend(self, grant: Grant) -> None:
        """Take over what the platform tells of the agent now, the token being the same; the handler hears of it."""
        self.profile.authorize(grant)
        if self._started:
            handler = self.profile.handler
            self._hooks.spawn(handler, handler.hook("on_reload", self._context))

    async def _start_handler(self) -> None:
        handler = self.profile.handler
        try:
            if handler.wants("on_start"):
                async with asyncio.timeout(HOOK_SECONDS):
                    await foreign.call(handler.hook("on_start", self._context), self.record.id, "on_start")
        except Exception as error:
            self._show(error)
            raise HandlerError(f"on_start of {self.record.handler!r} failed: {describe(error, self.redact)}") from error
        self._started = True

    def use(self, connection: Connection | None) -> None:
        """Send over ``connection`` from now on; None: offline."""
        self.pipeline.use(connection)
        if connection is not None:
            self._fetcher.follow(connection, lambda: self.connection is connection)
        self._watch_presences()

    def _watch_presences(self) -> None:
        handler, connection = self.profile.mounted, self.connection
        if connection is not None and handler is not None:
            connection.watch_presences(handler.wants("on_presence"))

    def _receive(self, event: str, payload: object) -> None:
        """Tell the handler what other people and agents do."""
        handler = self.profile.mounted
        if handler is not None and self._started:
            self._hooks.notify(handler, event, payload, self._context)

    def _refuse(self, error: PlatformError) -> None:
        self.on_refused(error)

    async def close(self) -> None:
        """Stop at once; what is not settled stays in the journal for the next start."""
        await self.pipeline.close()
        handler = self.profile.mounted
        if handler is not None and self._started:
            self._started = False
            self._hooks.spawn(handler, handler.hook("on_stop", self._context))
        await self._hooks.close()
        self.profile.mount(None)
