"""One agent's working parts: handler, inbox, lanes, outbox, and what its row and the platform say about it.

The runner decides when it is connected; everything here goes on working while it is not.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from supervisor.clock import Clock
from supervisor.connection import Connection
from supervisor.context import AgentContext
from supervisor.dispatcher import Dispatcher, Lanes
from supervisor.errors import ConfigurationError, ConnectionLostError, HandlerError, RegistryError
from supervisor.execution import Executor as MessageExecutor
from supervisor.execution import Limits
from supervisor.failures import describe
from supervisor.gates import Gates
from supervisor.handler import AgentInfo, HistoryItem, Usage
from supervisor.handlers import HandlerLoader, MountedHandler
from supervisor.inbox import Inbox, Intake
from supervisor.logs import REDACTED, get_logger, redact
from supervisor.metrics import Metrics
from supervisor.outages import Outages
from supervisor.outbox import Outbox
from supervisor.protocol import (
    InvalidEventError,
    Membership,
    Presence,
    ReadReceipt,
    Typing,
    clean_text,
    parse_event,
)
from supervisor.records import AgentRecord, JournaledMessage
from supervisor.registry import Journal
from supervisor.secrets import SecretResolver
from supervisor.settings import AGENT_SETTING_NAMES, AgentSettings, Settings, parse_agent_settings
from supervisor.states import MessageState
from supervisor.threads import DaemonThreads
from supervisor.tokens import Grant, TokenClient
from supervisor.transport import Transport

FULL_NOTICE = "Sorry, I have too many messages waiting. Please try again in a little while."
#: How long a hook may take; it must not hold up the agent.
HOOK_SECONDS = 30.0
MIN_SECRET_CHARS = 5
#: How long a handler's code may take to load.
LOAD_SECONDS = 30.0
#: How long hooks may take once the agent stops.
CLOSE_SECONDS = 5.0
#: When to look again at a message that could not be settled.
UNSETTLED_RETRY_SECONDS = 5.0
_EVENTS: Mapping[str, type[Presence] | type[Typing] | type[Membership] | type[ReadReceipt]] = {
    "presence:update": Presence,
    "user:joined": Membership,
    "user:left": Membership,
    "user:typing": Typing,
    "agent:typing": Typing,
    "message:read": ReadReceipt,
}
_HOOKS: Mapping[type, str] = {Typing: "on_typing", ReadReceipt: "on_read"}


@dataclass(frozen=True, slots=True)
class Kit:
    """What every agent needs of the process; built by the service, shared by all."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    journal: Journal
    dispatcher: Dispatcher
    loader: HandlerLoader
    secrets: SecretResolver
    transport: Transport
    tokens: TokenClient
    gates: Gates
    outages: Outages
    #: Where handlers are imported: a bounded number at once, and not where DNS is looked up.
    imports: Executor = field(default_factory=lambda: DaemonThreads(2, "import"))


class Agent:
    """One agent's parts; an :class:`supervisor.execution.ExecutionView` for its executor and contexts."""

    def __init__(self, record: AgentRecord, kit: Kit) -> None:
        self.record = record
        self.settings = AgentSettings()
        self.grant: Grant | None = None
        self.connection: Connection | None = None
        self.health = "ok"
        self.log = get_logger("supervisor.agent").bind(agent=record.id)
        self._kit = kit
        self._handler: MountedHandler | None = None
        self._secret = ""
        self._started = False
        self._hooks: set[asyncio.Task[None]] = set()
        self._retiring: dict[asyncio.Task[None], MountedHandler] = {}
        deployment, clock, journal, metrics = kit.settings, kit.clock, kit.journal, kit.metrics
        self._executor = MessageExecutor(self, journal, metrics, clock)
        self.lanes = Lanes(
            kit.dispatcher,
            clock,
            concurrency=lambda: self.settings.concurrency or deployment.agent_concurrency,
            work=self._work,
            refill=self._refill,
        )
        self.inbox = Inbox(
            record.id,
            lambda: self.record.handler,
            lambda: Intake(self.settings.roles, self.settings.inbox_limit or deployment.inbox_limit),
            journal=journal,
            lanes=self.lanes,
            metrics=metrics,
            clock=clock,
            on_full=self._tell_full,
        )
        self.outbox = Outbox(
            record.id,
            journal,
            metrics,
            clock,
            ack_seconds=deployment.ack_seconds,
            at_most_once=lambda: (self.settings.delivery or deployment.delivery) == "at_most_once",
            on_sending=self.inbox.remember_own,
        )

    # ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────

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
        settings = parse_agent_settings(record.settings, self._kit.settings)
        handler = self._handler
        self._secret = self._kit.secrets.resolve(record.secret)
        if handler is None or fresh or self._must_reload(record):
            handler = await self._load(record.handler, fresh=fresh)
            self._retire()
            # Until its on_start is through the new one gets no message.
            self.lanes.hold()
            self._handler = handler
        self.record = record
        self.settings = settings

    async def _load(self, reference: str, *, fresh: bool) -> MountedHandler:
        """Import a handler's code in a thread: a slow import must not hold up the fleet."""
        load = functools.partial(self._kit.loader.load, reference, fresh=fresh)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._kit.imports, load)
        except TimeoutError:
            raise HandlerError(f"Handler {reference!r} takes longer than {LOAD_SECONDS:g} s to load") from None

    def _must_reload(self, record: AgentRecord) -> bool:
        """A handler that reads its settings when it starts must be started anew when they change."""
        return (record.handler, _handler_settings(record)) != (self.record.handler, _handler_settings(self.record))

    def _retire(self) -> None:
        """Stop the old handler once the messages it works on are done."""
        old, started = self._handler, self._started
        self._started = False
        if old is not None and started:
            self._retiring[self._spawn_hook(self._stop_when_idle(old), timeout=None)] = old

    async def _stop_when_idle(self, handler: MountedHandler) -> None:
        await handler.idle.wait()
        await handler.hook("on_stop", AgentContext(self))

    async def use_grant(self, grant: Grant) -> None:
        """Take over a new token with what came along; start the handler if it is not, else tell it.

        Raises:
            HandlerError: the handler's ``on_start`` failed.
        """
        new = self.grant is not grant
        self.grant = grant
        self._kit.metrics.auth_expiry(self.record.id, grant.expires_at)
        if not self._started:
            await self._start_handler()
        elif new:
            self._spawn_hook(self.handler.hook("on_reload", AgentContext(self)))
        self._watch_presences()
        self.lanes.go()

    async def _start_handler(self) -> None:
        try:
            async with asyncio.timeout(HOOK_SECONDS):
                await self.handler.hook("on_start", AgentContext(self))
        except Exception as error:
            raise HandlerError(f"on_start of {self.record.handler!r} failed: {describe(error, self.redact)}") from error
        self._started = True

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def restore(self) -> None:
        """Take up what an earlier run left in the journal: replies are sent, messages run again."""
        await self.outbox.restore()
        self.lanes.restore()
        since = self._kit.clock.now() - self._kit.settings.journal_retention
        for conversation_id in reversed(await self._kit.journal.conversations(self.record.id, since=since, limit=512)):
            self.inbox.conversations[conversation_id] = since

    def use(self, connection: Connection | None) -> None:
        """Send over ``connection`` from now on; None: offline."""
        self.connection = connection
        self._watch_presences()
        self.outbox.use(connection)

    def _watch_presences(self) -> None:
        if self.connection is not None and self._handler is not None:
            self.connection.watch_presences(self._handler.wants("on_presence"))

    async def drain(self) -> None:
        """Start nothing more; return once what runs has ended and, while there is a connection, its replies are out."""
        await self.lanes.drain(None)
        if self.connection is not None:
            await self.outbox.flush(None)

    async def close(self) -> None:
        """Stop at once; what is not settled stays in the journal for the next start."""
        await self.inbox.close()
        await self.lanes.close()
        await self.outbox.close()
        if self._handler is not None and self._started:
            self._started = False
            self._spawn_hook(self._handler.hook("on_stop", AgentContext(self)))
        for task, handler in list(self._retiring.items()):
            if not handler.idle.is_set():
                # It swallowed its cancellation and may never be idle again.
                task.cancel()
        if self._hooks:
            await asyncio.wait(set(self._hooks), timeout=CLOSE_SECONDS)
        left = list(self._hooks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._handler = None

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, connection: Connection, event: str, payload: object) -> None:
        """Take an event from one of the agent's sockets."""
        if event == "message:new":
            self.inbox.receive(payload)
        elif event == "__malformed__":
            self._kit.metrics.dropped(str(payload))
        elif event == "exception":
            said = payload.get("message") if isinstance(payload, dict) else None
            # Redacted before it is cut: half a token no longer looks like one.
            reason = self.redact(clean_text(said, 1000)[0])[:200] if isinstance(said, str) else "no message"
            self.log.warning("platform_exception", reason=reason, namespace=connection.namespace)
        else:
            self._tell_handler(event, payload)

    def _tell_handler(self, event: str, payload: object) -> None:
        kind = _EVENTS.get(event)
        handler = self._handler
        if kind is None or handler is None or not self._started:
            return
        hook = _HOOKS.get(kind, "on_presence")
        if not handler.wants(hook):
            return
        try:
            parsed: Presence | Typing | Membership | ReadReceipt = parse_event(kind, payload)  # type: ignore[type-var]
        except InvalidEventError as error:
            self._kit.metrics.dropped(error.reason)
            return
        if parsed.agent_id == self.record.id and parsed.type == "agent":
            return
        fields = {name: getattr(parsed, name) for name in parsed.__struct_fields__}
        if kind is Membership:
            fields["status"] = event.removeprefix("user:")
        self._spawn_hook(handler.hook(hook, fields, AgentContext(self)))

    def _spawn_hook(
        self, hook: Coroutine[Any, Any, None], *, timeout: float | None = HOOK_SECONDS
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run_hook(hook, timeout), name=f"hook {self.record.id}")
        self._hooks.add(task)
        task.add_done_callback(self._forget_hook)
        return task

    def _forget_hook(self, task: asyncio.Task[None]) -> None:
        self._hooks.discard(task)
        self._retiring.pop(task, None)

    async def _run_hook(self, hook: Coroutine[Any, Any, None], timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await hook
        except Exception as error:  # noqa: BLE001  a hook may raise anything; it harms nothing but itself
            self.log.warning("hook_failed", handler=self.record.handler, reason=describe(error, self.redact))

    async def _work(self, row: JournaledMessage) -> float | None:
        try:
            again_at = await self._executor.work(row)
        except RegistryError as error:
            self.log.warning("message_not_settled", message_id=row.key, reason=str(error))
            return self._kit.clock.now() + UNSETTLED_RETRY_SECONDS
        except Exception:
            self.log.exception("message_not_settled", message_id=row.key)
            return self._kit.clock.now() + UNSETTLED_RETRY_SECONDS
        if again_at is None:
            self.inbox.settled(dead=row.state is MessageState.DEAD)
        return again_at

    async def _refill(self, after_id: int, limit: int) -> list[JournaledMessage]:
        return await self._kit.journal.unsettled(self.record.id, after_id=after_id, limit=limit)

    def _tell_full(self, conversation_id: str) -> None:
        """Refuse aloud: a short notice, sent without the journal that has no room."""
        if self.connection is None:
            return
        notice = {"role": "assistant", "type": "system", "content": FULL_NOTICE, "participantId": self.record.id}
        self.connection.emit("message:send", {**notice, "conversationId": conversation_id})

    # ── what contexts and the executor ask (ExecutionView) ───────────────────────────────────────────────────────────

    @property
    def info(self) -> AgentInfo:
        name = self.record.name or (self.grant.answer.name if self.grant else None) or self.record.id
        return AgentInfo(self.record.id, name, self.record.labels)

    @property
    def handler(self) -> MountedHandler:
        if self._handler is None:
            raise HandlerError(f"Agent {self.record.id} has no handler")
        return self._handler

    @property
    def handler_settings(self) -> Mapping[str, Any]:
        return _handler_settings(self.record)

    @property
    def ack_seconds(self) -> float:
        """How long the platform's acknowledgements may take."""
        return self._kit.settings.ack_seconds

    @property
    def limits(self) -> Limits:
        deployment = self._kit.settings
        return Limits(
            self.settings.timeout_seconds or deployment.timeout_seconds,
            self.settings.max_attempts or deployment.max_attempts,
        )

    @property
    def shows_typing(self) -> bool:
        return self.settings.typing

    @property
    def marks_read(self) -> bool:
        return self.settings.mark_read

    async def join(self, conversation_id: str) -> None:
        await self._online_connection().join(conversation_id, self.ack_seconds)
        await self.inbox.joined(conversation_id)

    async def leave(self, conversation_id: str) -> None:
        await self._online_connection().leave(conversation_id, self.ack_seconds)
        await self.inbox.left(conversation_id)

    async def online_users(self, conversation_id: str) -> list[str]:
        return await self._online_connection().online_users(conversation_id, self.ack_seconds)

    def _online_connection(self) -> Connection:
        if self.connection is None:
            raise ConnectionLostError("the agent is not online")
        return self.connection

    async def history(self, conversation_id: str, limit: int) -> list[HistoryItem]:
        rows = await self._kit.journal.history(self.record.id, conversation_id, limit)
        return [HistoryItem(*row) for row in rows]

    def count_usage(self, usage: Usage) -> None:
        self._kit.metrics.tokens(self.record.id, self.record.handler, usage)

    def redact(self, text: str) -> str:
        """``text`` without this agent's secret and token, by value, and without whatever else looks like one."""
        known = (self._secret, self.grant.token if self.grant else "")
        for value in known:
            # A secret of a few letters would blank out ordinary words; the platform's are long.
            if len(value) >= MIN_SECRET_CHARS:
                text = text.replace(value, REDACTED)
        return redact(text)

    def handler_failed(self, reason: str) -> None:
        self.health = f"failing: {self.redact(reason)[:200]}"

    def handler_succeeded(self) -> None:
        self.health = "ok"


def _handler_settings(record: AgentRecord) -> dict[str, Any]:
    return {name: value for name, value in record.settings.items() if name not in AGENT_SETTING_NAMES}
