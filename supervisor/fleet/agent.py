"""One agent's working parts: handler, inbox, lanes, outbox, and what its row and the platform say about it.

The runner decides when it is connected; everything here goes on working while it is not.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

from supervisor.core.command_words import command_in
from supervisor.core.errors import ConfigurationError, ConnectionLostError, HandlerError, RegistryError
from supervisor.core.records import AgentRecord, JournaledMessage
from supervisor.core.states import FINAL_MESSAGE_STATES, MessageState
from supervisor.fleet.hooks import HOOK_SECONDS, Hooks
from supervisor.fleet.ledger import Limits as Spendable
from supervisor.fleet.shared import Shared
from supervisor.handler import AgentInfo, Budget, HistoryItem, ModelCall, Permission, Usage
from supervisor.handlers import MountedHandler
from supervisor.handlers.loader import LOAD_SECONDS
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.attempt import AttemptLimits
from supervisor.messages.commands import Commands, Controls
from supervisor.messages.context import AgentContext
from supervisor.messages.delivery_check import DeliveryCheck
from supervisor.messages.executor import STOP_REASON, MessageExecutor
from supervisor.messages.inbox import Inbox, Intake
from supervisor.messages.lanes import Lanes
from supervisor.messages.missed import FULL_NOTICE
from supervisor.messages.outbox import Outbox
from supervisor.messages.recall import Recall
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.platform.history import Access
from supervisor.platform.tokens import Grant
from supervisor.protocol.text import clean_text
from supervisor.settings import AGENT_SETTING_NAMES
from supervisor.telemetry.failures import describe
from supervisor.telemetry.logs import bind_message
from supervisor.telemetry.redaction import REDACTED, redact
from supervisor.telemetry.usage import cleaned

MIN_SECRET_CHARS = 5
#: What is far past this cannot survive the cut.
MAX_REASON_CHARS = 10_000
#: Secrets that an agent's handler may have asked for before the oldest is no longer looked for in what is shown.
MAX_RESOLVED = 64
#: When to look again at a message that could not be settled.
UNSETTLED_RETRY_SECONDS = 5.0


class Agent:
    """One agent's parts; an :class:`supervisor.messages.attempt.ExecutionView` for its executor and contexts."""

    def __init__(self, record: AgentRecord, shared: Shared, log: Any, controls: Controls) -> None:
        self._record = record
        self.settings = shared.settings.effective({})
        self.grant: Grant | None = None
        self.connection: Connection | None = None
        #: What the commands of its chats may ask for.
        self.controls = controls
        self.log = log
        self._shared = shared
        self._handler: MountedHandler | None = None
        self._secret = ""
        # What references of the handler's resolved to, for redaction; a rotated secret stays one.
        self._resolved: dict[str, None] = {}
        # Why the last message failed, and what the handler itself says is wrong; the latter it has to take back.
        self._failure: str | None = None
        self._noted: str | None = None
        self._started = False
        self._restored = False
        self._hooks = Hooks(record.id, shared.metrics, self.redact, self.log)
        deployment, clock = shared.settings, shared.clock
        self._traces = shared.tracing.of(record.id, lambda: self.record.handler)
        self.scope = Scope(record.id, self.log, shared.journal, shared.metrics, clock, self._traces)
        #: The platform's history of this agent's conversations.
        self.past = AgentHistory(self.scope, shared.history, self.access)
        self._executor = MessageExecutor(self, self.scope)
        self.lanes = Lanes(
            shared.dispatcher,
            clock,
            concurrency=lambda: self.settings.concurrency,
            work=self._work,
            refill=self._refill,
        )
        self.inbox = Inbox(
            self.scope,
            self.lanes,
            shared.dispatcher.memory,
            handler=lambda: self.record.handler,
            intake=self._intake,
            on_full=self._tell_full,
            on_command=self._obey,
        )
        self.outbox = Outbox(
            self.scope,
            ack_seconds=deployment.ack_seconds,
            at_most_once=lambda: self.settings.delivery == "at_most_once",
            on_sending=self.inbox.remember_own,
            was_delivered=DeliveryCheck(self.past),
        )
        self._commands = Commands(self, self.scope, self._settled)
        self._recall = Recall(self.past, has_commands=lambda: self.settings.commands)

    def access(self) -> Access:
        """The platform's REST API as this agent sees it, and its current token."""
        return Access(self.settings.api_url, self.grant.token if self.grant else "")

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
        settings = self._shared.settings.effective(record.settings)
        handler = self._handler
        self._secret = self._shared.secrets.resolve(record.secret)
        if handler is None or fresh or self._must_reload(record):
            handler = await self._load(record.handler, fresh=fresh)
            self._retire()
            # Until its on_start is through the new one gets no message.
            self.lanes.pause()
            self._handler = handler
            self._failure = self._noted = None
        self._shared.metrics.handler_known(record.handler)
        self._record = record
        self.settings = settings
        self._shared.ledger.limit(record.id, Spendable(settings.budget_tokens, settings.budget_cost))

    async def _load(self, reference: str, *, fresh: bool) -> MountedHandler:
        """Import a handler's code in a thread: a slow import must not hold up the fleet."""
        load = functools.partial(self._shared.loader.load, reference, fresh=fresh)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._shared.imports, load)
        except TimeoutError:
            raise HandlerError(f"Handler {reference!r} takes longer than {LOAD_SECONDS:g} s to load") from None

    @property
    def record(self) -> AgentRecord:
        """The row that the agent runs with."""
        return self._record

    def describe(self, record: AgentRecord) -> None:
        """Take a row over of which nothing that runs depends on what differs."""
        self._record = record

    def _must_reload(self, record: AgentRecord) -> bool:
        """A handler that reads its settings when it starts must be started anew when they change."""
        return (record.handler, _handler_settings(record)) != (self.record.handler, _handler_settings(self.record))

    def _retire(self) -> None:
        """Stop the old handler once the messages it works on are done."""
        old, started = self._handler, self._started
        self._started = False
        if old is not None and started:
            self._hooks.retire(old, AgentContext(self))

    async def use_grant(self, grant: Grant) -> None:
        """Take over a new token with what came along; start the handler if it is not, else tell it.

        Raises:
            HandlerError: the handler's ``on_start`` failed.
        """
        new = self.grant is not grant
        self.grant = grant
        self._shared.metrics.auth_expiry(self.record.id, grant.expires_at)
        if not self._started:
            await self._start_handler()
        elif new:
            self._hooks.spawn(self.handler, self.handler.hook("on_reload", AgentContext(self)))
        self._watch_presences()
        self.lanes.resume()

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
        if self._restored:
            # What was claimed in the last moment before a pause and not given back; nothing of it runs any more.
            await self._shared.journal.rescue(self.record.id)
        self._restored = True
        since = self._shared.clock.now() - self._shared.settings.journal_retention
        await self.inbox.conversations.restore(since)
        await self.outbox.restore()
        # Last: what is journaled from here on, and not by us, is put into the lanes by whoever notices it.
        self.lanes.restore()

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
        await self._commands.close()
        await self.lanes.close()
        await self.outbox.close()
        if self._handler is not None and self._started:
            self._started = False
            self._hooks.spawn(self._handler, self._handler.hook("on_stop", AgentContext(self)))
        await self._hooks.close()
        self._handler = None

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, connection: Connection, event: str, payload: object) -> None:
        """Take an event from one of the agent's sockets."""
        if event == "message:new":
            self.inbox.receive(payload, connection)
        elif event == "__malformed__":
            self._shared.metrics.dropped(str(payload))
        elif event == "exception":
            said = payload.get("message") if isinstance(payload, dict) else None
            # Redacted before it is cut: half a token no longer looks like one.
            reason = self.redact(clean_text(said, 1000)[0])[:200] if isinstance(said, str) else "no message"
            self.log.warning("platform_exception", reason=reason, namespace=connection.namespace)
        elif self._handler is not None and self._started:
            self._hooks.tell(self._handler, event, payload, AgentContext(self))

    async def _work(self, row: JournaledMessage) -> float | None:
        again_at = None
        self.concern(row)
        try:
            if self.settings.commands and command_in(row.message):
                await self._commands.work(row)
            else:
                again_at = await self._executor.work(row)
        except asyncio.CancelledError:
            if row.state in FINAL_MESSAGE_STATES:
                self._settled(row)
            raise
        except RegistryError as error:
            self.log.warning("message_not_settled", reason=str(error))
            return self._shared.clock.now() + UNSETTLED_RETRY_SECONDS
        except Exception:
            self.log.exception("message_not_settled")
            return self._shared.clock.now() + UNSETTLED_RETRY_SECONDS
        if again_at is None:
            self._settled(row)
        return again_at

    def concern(self, row: JournaledMessage) -> None:
        """What this task logs from here on is about a message."""
        ids = {"message_id": row.key, **self._traces.log_fields(row)}
        bind_message(agent=row.agent_id, conversation=row.conversation_id, **ids)

    def _settled(self, row: JournaledMessage) -> None:
        self.inbox.settled(dead=row.state is MessageState.DEAD)
        self._traces.settled(row)

    async def _refill(self, after_id: int, limit: int) -> list[JournaledMessage]:
        return await self._shared.journal.unsettled(self.record.id, after_id=after_id, limit=limit)

    def _intake(self) -> Intake:
        own = self.settings
        return Intake(own.roles, own.inbox_limit, own.loop_limit, own.commands)

    def _tell_full(self, conversation_id: str) -> None:
        """Refuse aloud: a short notice, sent without the journal that has no room."""
        if self.connection is None:
            return
        notice = {"role": "assistant", "type": "system", "content": FULL_NOTICE, "participantId": self.record.id}
        self.connection.emit("message:send", {**notice, "conversationId": conversation_id})

    def _obey(self, row: JournaledMessage) -> None:
        self._commands.start(row)

    async def stop_answer(self, conversation_id: str, before_id: int) -> bool:
        """Cancel the answer that is being made in a conversation to what came before ``before_id`` (``/stop``).

        Returns:
            Whether there was one.
        """
        if await self._executor.stop(conversation_id, before_id):
            return True
        row = self.lanes.between_attempts(conversation_id)
        if row is None or row.id > before_id:
            return False
        stopped = await self._shared.journal.settle(row, MessageState.CANCELLED, error=STOP_REASON)
        self.lanes.retry_now(conversation_id)
        # Where its next attempt was faster, it is that which is stopped.
        return stopped is not None or await self._executor.stop(conversation_id, before_id)

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
    def merged_settings(self) -> Mapping[str, Any]:
        """The platform's settings for the agent, overlaid with those of its row."""
        return AgentContext(self).settings

    @property
    def ack_seconds(self) -> float:
        """How long the platform's acknowledgements may take."""
        return self._shared.settings.ack_seconds

    @property
    def limits(self) -> AttemptLimits:
        return AttemptLimits(self.settings.timeout_seconds, self.settings.max_attempts)

    @property
    def shows_typing(self) -> bool:
        return self.settings.typing

    @property
    def marks_read(self) -> bool:
        return self.settings.mark_read

    async def join(self, conversation_id: str) -> None:
        connection = self._online_connection()
        await connection.join(conversation_id, self.ack_seconds)
        connection.record_member(conversation_id, self._shared.clock.monotonic())
        await self.inbox.conversations.joined(conversation_id)

    async def leave(self, conversation_id: str) -> None:
        await self._online_connection().leave(conversation_id, self.ack_seconds)
        await self.inbox.conversations.left(conversation_id)

    async def online_users(self, conversation_id: str) -> list[str]:
        return await self._online_connection().online_users(conversation_id, self.ack_seconds)

    def _online_connection(self) -> Connection:
        if self.connection is None:
            raise ConnectionLostError("the agent is not online")
        return self.connection

    async def history(self, conversation_id: str, limit: int) -> list[HistoryItem]:
        return await self._recall.last(conversation_id, limit)

    def count_usage(self, usage: Usage) -> None:
        usage = cleaned(usage)
        self._shared.metrics.tokens(self.record.id, self.record.handler, usage)
        cost = self._shared.ledger.record(self.record.id, usage)
        if cost is not None:
            self._shared.metrics.cost(self.record.id, self.record.handler, usage.model, cost)

    def budget(self) -> Budget:
        return self._shared.ledger.budget(self.record.id)

    def model_call(self, model: str, provider: str) -> AbstractContextManager[ModelCall]:
        return self._shared.metrics.model_call(model, provider, self._shared.clock)

    def secret(self, reference: str) -> str:
        # It comes from a row's settings, where it may be anything.
        secret = self._shared.secrets.resolve(str(reference))
        self._resolved[secret] = None
        if len(self._resolved) > MAX_RESOLVED:
            del self._resolved[next(iter(self._resolved))]
        return secret

    def reaches(self, url: str) -> bool:
        return urlsplit(url).hostname in self._shared.settings.hosts

    def permits(self, permission: Permission) -> bool:
        deployment = self._shared.settings
        allowed = {"commands": deployment.allow_commands, "private_webhooks": deployment.allow_private_webhooks}
        return allowed.get(permission, False)

    def redact(self, text: str) -> str:
        """``text`` without this agent's secret and token, by value, and without whatever else looks like one."""
        known = (*tuple(self._resolved), self._secret, self.grant.token if self.grant else "")
        for value in known:
            # A secret of a few letters would blank out ordinary words; the platform's are long.
            if len(value) >= MIN_SECRET_CHARS:
                text = text.replace(value, REDACTED)
        return redact(text)

    @property
    def health(self) -> str:
        """``ok``, or ``failing`` with what the handler says of itself, else with why the last message failed."""
        reason = self._noted or self._failure
        return f"failing: {reason}" if reason else "ok"

    @property
    def failing(self) -> bool:
        """Whether :attr:`health` is anything but ``ok``."""
        return bool(self._noted or self._failure)

    def handler_failed(self, reason: str) -> None:
        self._failure = self._shown(reason)

    def handler_succeeded(self) -> None:
        self._failure = None

    def note_health(self, reason: str | None) -> None:
        before, self._noted = self._noted, None if reason is None else self._shown(reason) or "no reason given"
        if self._noted is None:
            self._failure = None
        if self._noted != before:
            if self._noted is None:
                self.log.info("health_ok")
            else:
                self.log.warning("health_failing", reason=self._noted)

    def _shown(self, reason: object) -> str:
        # Redacted before it is cut: half a secret no longer looks like one.
        return " ".join(clean_text(self.redact(str(reason)[:MAX_REASON_CHARS]))[0].split())[:200]


def _handler_settings(record: AgentRecord) -> dict[str, Any]:
    return {name: value for name, value in record.settings.items() if name not in AGENT_SETTING_NAMES}
