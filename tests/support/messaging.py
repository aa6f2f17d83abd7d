"""Parts of one agent's messages over a real journal, for tests of single modules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families as parse_metrics

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import PlatformError
from supervisor.core.records import AgentRecord, JournaledMessage
from supervisor.core.states import MessageState
from supervisor.handler import Attachment
from supervisor.handlers import DaemonThreads, MountedHandler, ThreadShare
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.budgets import Limits
from supervisor.messages.conversations import Conversations
from supervisor.messages.delivery_check import DeliveryCheck
from supervisor.messages.executor import MessageExecutor
from supervisor.messages.ledger import Ledger
from supervisor.messages.outbox import Outbox
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile
from supervisor.messages.recall import Recall
from supervisor.messages.reply_sender import Terms
from supervisor.messages.scope import Scope
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.hosts.deliveries import Deliveries
from supervisor.settings import Settings
from supervisor.settings.secrets import SecretResolver
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.tracing import NO_TRACES
from tests.support.journaling import AGENT
from tests.support.token_server import TokenServer, client, token_server

CONVERSATION = "c" * 24


@asynccontextmanager
async def journal_in(folder: Path) -> AsyncIterator[Registry]:
    """A registry with its journal in a folder."""
    registry = await Registry.open(f"sqlite+aiosqlite:///{folder}/supervisor.db", upgrade=True, clock=SystemClock())
    yield registry
    await registry.close()


def scope_of(registry: Registry, clock: Clock) -> Scope:
    """The scope of the test's one agent."""
    log = get_logger("supervisor.agent").bind(agent=AGENT)
    return Scope(AGENT, log, registry.journal, Metrics(), clock, NO_TRACES)


def counted(metrics: Metrics, name: str, label: str) -> dict[str, float]:
    """The figures of a metric, by the value of a label; none for zero."""
    families = parse_metrics(metrics.render("")[0].decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {sample.labels[label]: sample.value for sample in samples if sample.value}


def dropped(metrics: Metrics) -> dict[str, float]:
    """How many messages were not taken in, by reason."""
    return counted(metrics, "supervisor_messages_dropped_total", "reason")


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for what the journal's thread does, or a server."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def worked(executor: MessageExecutor, row: JournaledMessage) -> float | None:
    """Have a message worked on; what came of it. Cancelled, it cancels that, and waits for its end."""
    over: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
    work = executor.begin(row, over.set_result)
    try:
        return await asyncio.shield(over)
    except asyncio.CancelledError:
        work.cancel()
        await over
        raise


async def ended(name: str) -> None:
    """Wait until the tasks of a name that run now have ended."""
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == name))


def row_id(number: int) -> str:
    """The platform's id of the n-th row."""
    return f"{number:024x}"


class HistoryServer:
    """The platform's history of one conversation, over HTTP, in the shape of v1."""

    def __init__(self, server: TokenServer) -> None:
        self.rows: list[dict[str, Any]] = []
        self.failures: list[int] = []  # statuses of the next answers
        self.slow = False  # answers when the test is over
        self.url = server.url
        self._server = server
        server.answer = self._answer

    @property
    def asked(self) -> int:
        """How many pages were asked for."""
        return len(self._server.requests)

    def add(self, content: str, *, at: float, by: str | None = None, number: int | None = None, **more: Any) -> str:
        """A row, written by an agent or by a person; its id."""
        identity = row_id(len(self.rows) + 1 if number is None else number)
        self.rows.append(
            {
                "_id": identity,
                "role": "user" if by is None else "assistant",
                "content": content,
                "createdAt": datetime.fromtimestamp(at, UTC).isoformat(),
                "createdBy": {"agentId": by},
                **more,
            }
        )
        return identity

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.slow:
            await asyncio.Event().wait()
        if self.failures:
            return web.Response(status=self.failures.pop(0))
        if (parts := request.path.split("/"))[-2] == "last":
            return web.json_response(self.rows[-int(parts[-1]) :])
        page, limit = int(request.query["page"]), int(request.query["limit"])
        shown = self.rows[(page - 1) * limit : page * limit]
        return web.json_response({"data": shown, "total": len(self.rows), "page": page, "limit": limit})


@asynccontextmanager
async def history_for(scope: Scope, token: str = "tok") -> AsyncIterator[tuple[AgentHistory, HistoryServer]]:
    """An agent's view of a history, and the server that has it."""
    async with token_server() as server, client() as made:
        platform = HistoryServer(server)
        yield AgentHistory(scope, made.history, lambda: Access(platform.url, token)), platform


def profile_of(scope: Scope, **settings: Any) -> Profile:
    """The profile of the test's agent, with the settings of its row."""
    record = AgentRecord(AGENT, "stage", "env:AGENT_SECRET", name="Ann", settings=settings)
    deployment = Settings()
    secrets = SecretResolver(environ={"AGENT_SECRET": "s3cret-of-ann"}, env_prefixes=("AGENT_",), dirs=(), box=None)
    ledger = Ledger(scope.clock, prices={}, fleet=Limits(), write=lambda _: None)
    made = Profile(record, scope, deployment, secrets, ledger)
    made.secrecy.use(record.secret)
    made.configure(record, deployment.effective(record.settings))
    return made


class Works:
    """One agent's executor and outbox over a real journal, without a connection: replies wait in the journal.

    Args:
        on_message: the handler.
        settings: of the agent's row.
    """

    def __init__(self, scope: Scope, history: AgentHistory, on_message: Callable[..., Any], **settings: Any) -> None:
        self.journal = scope.journal
        self.profile = profile_of(scope, **settings)
        self.threads = DaemonThreads(2, "handlers")
        self.profile.mount(MountedHandler("stage", None, on_message, ThreadShare(self.threads, 2)))
        terms = Terms(
            Deliveries(scope.clock),
            lambda: "platform.example",
            ack_seconds=5.0,
            at_most_once=lambda: False,
            on_sending=lambda _: None,
            was_delivered=DeliveryCheck(history),
        )
        self.outbox = Outbox(scope, terms)
        conversations = Conversations(scope)
        self.participation = Participation(scope, conversations, Recall(history, lambda: True), 5.0, no_upload)
        self.executor = MessageExecutor(
            self.profile, self.participation, self.outbox, backoff=lambda _: 7.0, cancel_grace_seconds=0.05
        )

    async def row(self, number: int) -> JournaledMessage:
        """A message as the journal has it."""
        rows = await self.journal.messages(agent_id=AGENT, states=list(MessageState), limit=1000)
        return next(row for row in rows if row.id == number)

    async def said(self, number: int) -> list[str]:
        """What is answered to a message, part by part."""
        replies = await self.journal.replies(number)
        return [reply.message.content for reply in sorted(replies, key=lambda reply: reply.part)]


async def no_upload(_content: bytes, name: str, _media_type: str) -> Attachment:
    """What a platform without a store does."""
    raise PlatformError(f"no room for {name}")


@asynccontextmanager
async def works(scope: Scope, on_message: Callable[..., Any], **settings: Any) -> AsyncIterator[Works]:
    """A :class:`Works`, closed afterwards."""
    async with history_for(scope) as (history, _):
        made = Works(scope, history, on_message, **settings)
        yield made
        await made.outbox.close()
