"""The parts that a service is made of, opened and built from its settings: the composition root's other half."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from supervisor import __version__
from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import ConfigurationError
from supervisor.fleet import Shared
from supervisor.fleet.room import Room
from supervisor.handlers import HandlerLoader, find_agents_dir
from supervisor.messages import Dispatcher, Ledger, Limits
from supervisor.net import Session, descriptors
from supervisor.platform.beats import HeartbeatClient
from supervisor.platform.conversations import PlatformConversations
from supervisor.platform.files import PlatformFiles
from supervisor.platform.history import PlatformHistory
from supervisor.platform.hosts.agent_api import AgentApi
from supervisor.platform.hosts.api import PlatformApi
from supervisor.platform.hosts.checks import CHECK_SECONDS, CHECKS_WITHIN_AGE, CONNECTS_FOR_CHECK, Checks
from supervisor.platform.hosts.deliveries import Deliveries
from supervisor.platform.hosts.engine_paths import EnginePaths
from supervisor.platform.hosts.facts import HostFacts
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.hosts.outages import Outages
from supervisor.platform.tokens import KeptTokens, TokenClient
from supervisor.platform.transport import MakeWire, Transport, choose_wire
from supervisor.service.watchdogs import SilenceWatch
from supervisor.settings import Settings
from supervisor.settings.otlp import request_headers, resource_attributes, traces_url
from supervisor.settings.secrets import SecretBox, SecretResolver
from supervisor.store import Access, LockInfo, Registry
from supervisor.store.opening import migrates_at_start
from supervisor.telemetry.events import Events
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.outage_log import OutageLog
from supervisor.telemetry.tracing import NO_TRACING, Collector, Tracing, start_tracing

DISTRIBUTION = "aiwm-supervisor"
#: A line of a distribution's list of files that names one of a package ``supervisor``.
_OWN_FILE = re.compile(r"^supervisor(/|\.py,)", re.MULTILINE)
#: Opens the registry of a deployment, see :func:`open_registry`.
RegistryOpener = Callable[[Settings, LockInfo, Clock], Awaitable[Registry]]
#: Starts the traces of a deployment, see :func:`start_tracing_of`.
TracingOpener = Callable[[Settings, Clock], Tracing]


def check_import_name() -> None:
    """Refuse to run when another distribution (supervisord) also claims the import name ``supervisor``.

    Raises:
        ConfigurationError: it does.
    """
    # Distributions are asked one by one: the standard library's map of all import names takes half a second to make.
    claiming = (one.metadata["Name"] for one in importlib.metadata.distributions() if _claims_import_name(one))
    if owners := set(claiming) - {DISTRIBUTION}:
        raise ConfigurationError(
            f"The package {min(owners)!r} is installed too and has the same import name; "
            f"install {DISTRIBUTION} into a virtual environment of its own"
        )


def _claims_import_name(distribution: importlib.metadata.Distribution) -> bool:
    if (top_level := distribution.read_text("top_level.txt")) is not None:
        return "supervisor" in top_level.split()
    return _OWN_FILE.search(distribution.read_text("RECORD") or "") is not None


async def open_registry(settings: Settings, lock: LockInfo, clock: Clock) -> Registry:
    """The registry of a deployment, held in the name of ``lock``; in a file, its schema brought up to date.

    Raises:
        RegistryError: it cannot be opened; one line says why and what to do.
    """
    return await Registry.open(
        settings.registry_url,
        synchronous=settings.synchronous,
        upgrade=migrates_at_start(settings.registry_url),
        access=Access(migration_copy=settings.migration_copy),
        lock=lock,
        clock=clock,
        cipher=SecretBox.of(settings.secret_keys),
        encrypt=settings.journal_encryption,
    )


def collector_of(settings: Settings, clock: Clock) -> Collector | None:
    """Where the settings send traces; None when they do not."""
    if settings.otlp_endpoint is None:
        return None
    headers = request_headers(settings.otlp_headers.get_secret_value() if settings.otlp_headers else "")
    named = {"deployment.environment.name": settings.deployment_name} if settings.deployment_name else {}
    resource = named | resource_attributes(settings.otlp_resource)
    return Collector(traces_url(settings.otlp_endpoint), clock, headers, settings.ca_file, resource)


def start_tracing_of(settings: Settings, clock: Clock) -> Tracing:
    """The traces that the settings ask for.

    Raises:
        ConfigurationError: the extra ``otel`` is missing, or CA_FILE cannot be used.
    """
    collector = collector_of(settings, clock)
    return start_tracing(collector, sample_ratio=settings.trace_sample_ratio) if collector is not None else NO_TRACING


async def open_parts(
    settings: Settings,
    clock: Clock,
    undo: AsyncExitStack,
    *,
    cwd: Path | None = None,
    make_wire: MakeWire | None = None,
    open_registry: RegistryOpener = open_registry,
    open_tracing: TracingOpener = start_tracing_of,
) -> tuple[Registry, Shared, Session]:
    """Open the registry, the session, the transport and the traces, and build what all agents share.

    Args:
        undo: closes what is open already, should a later part fail.
        cwd: where ``./agents`` is looked for.
        make_wire: makes the wire of each connection; None for what the settings say.
        open_registry: opens the registry that the settings name.
        open_tracing: starts the traces that the settings ask for.

    Raises:
        ConfigurationError, RegistryError: a part cannot be opened.
    """
    loader = HandlerLoader(
        find_agents_dir(settings.agents_dir, cwd=cwd),
        packages=settings.handler_packages,
        bundled=settings.bundled_handlers,
        threads=settings.handler_threads,
    )
    undo.callback(loader.close)
    tracing = open_tracing(settings, clock)
    undo.push_async_callback(tracing.close)
    lock = lock_info(settings, f"http://{settings.admin_host}:{settings.admin_port}", clock)
    registry = await open_registry(settings, lock, clock)
    undo.push_async_callback(registry.close)
    session = await Session.open(ca_file=settings.ca_file)
    undo.push_async_callback(session.close)
    transport = Transport(session, make_wire=make_wire or choose_wire(settings.wire), clock=clock)
    undo.push_async_callback(transport.close)
    shared = build_shared(settings, registry, session, transport, loader, clock=clock, tracing=tracing)
    return registry, shared, session


async def try_parts(settings: Settings) -> None:
    """Open all that a start opens, on an empty registry of its own, and close it: nothing is asked of the platform.

    Raises:
        ConfigurationError, RegistryError: a supervisor could not start like this.
    """
    check_import_name()
    with tempfile.TemporaryDirectory(prefix="supervisor-check-") as folder:
        url = f"sqlite+aiosqlite:///{folder}/supervisor.db"
        async with AsyncExitStack() as undo:
            await open_parts(settings.model_copy(update={"registry_url": url}), SystemClock(), undo)


def build_shared(
    settings: Settings,
    registry: Registry,
    session: Session,
    transport: Transport,
    loader: HandlerLoader,
    *,
    clock: Clock,
    tracing: Tracing = NO_TRACING,
) -> Shared:
    """What the agents of a service share, its figures bound to what they count."""
    metrics = Metrics(agent_limit=settings.metrics_agent_limit, clock=clock)
    gates = _gates(settings, clock)
    api = PlatformApi(session.http, clock, timeout_seconds=settings.handshake_seconds)
    facts = HostFacts()
    agent_api = AgentApi(api, gates, proxy=settings.proxy)
    outages = Outages(clock)
    _follow_journal(registry, metrics, clock)
    transport.on_silent = SilenceWatch(metrics, clock).count
    return Shared(
        settings=settings,
        clock=clock,
        metrics=metrics,
        journal=registry.journal,
        dispatcher=_dispatcher(settings, metrics),
        loader=loader,
        secrets=_secrets(settings),
        transport=transport,
        paths=EnginePaths(api, clock),
        tokens=_tokens(settings, api, gates, facts, metrics, clock),
        agent_api=agent_api,
        history=PlatformHistory(agent_api, clock, on_cut=lambda: metrics.dropped("history_cut")),
        conversations=PlatformConversations(agent_api, clock),
        files=PlatformFiles(agent_api),
        beats=HeartbeatClient(agent_api),
        gates=gates,
        outages=outages,
        deliveries=Deliveries(clock, on_acked=outages.takes_sends),
        checks=_checks(settings, clock),
        ledger=_ledger(settings, registry, metrics, clock),
        tracing=tracing,
        room=Room(clock, descriptors.current),
        turns=session.turns,
        facts=facts,
        events=Events(run=f"{clock.now():.3f}".replace(".", "")),
        kept_tokens=_kept_tokens(settings, registry, clock),
    )


def _gates(settings: Settings, clock: Clock) -> Gates:
    return Gates(
        connect_rate=settings.connect_rate,
        auth_rate=settings.auth_rate,
        connect_concurrency=settings.connect_concurrency,
        auth_concurrency=settings.auth_concurrency,
        api_rate=settings.api_rate,
        clock=clock,
    )


def _tokens(
    settings: Settings, api: PlatformApi, gates: Gates, facts: HostFacts, metrics: Metrics, clock: Clock
) -> TokenClient:
    return TokenClient(
        api,
        gates,
        clock=clock,
        facts=facts,
        refresh_margin_seconds=settings.refresh_margin,
        on_outcome=metrics.auth_refreshed,
    )


def _kept_tokens(settings: Settings, registry: Registry, clock: Clock) -> KeptTokens | None:
    box, replicas = SecretBox.of(settings.secret_keys), registry.replicas
    return KeptTokens(box, replicas.token, replicas.keep_token, clock) if box is not None and replicas.shared else None


def _checks(settings: Settings, clock: Clock) -> Checks:
    """Checks are a tenth of what connects may be, and an agent has many within the age that its socket may have."""
    interval = min(CHECK_SECONDS, settings.socket_max_age / CHECKS_WITHIN_AGE)
    return Checks(clock, rate=settings.connect_rate / CONNECTS_FOR_CHECK, interval_seconds=interval)


def _secrets(settings: Settings) -> SecretResolver:
    return SecretResolver(
        environ=os.environ,
        env_prefixes=settings.secret_env_prefixes,
        dirs=settings.secret_dirs,
        box=SecretBox.of(settings.secret_keys),
    )


def _dispatcher(settings: Settings, metrics: Metrics) -> Dispatcher:
    dispatcher = Dispatcher(settings.concurrency, memory_bytes=settings.memory_limit)
    metrics.bind_memory(lambda: dispatcher.memory.used_bytes, settings.memory_limit)
    return dispatcher


def _ledger(settings: Settings, registry: Registry, metrics: Metrics, clock: Clock) -> Ledger:
    ledger = Ledger(
        clock,
        prices=settings.prices,
        fleet=Limits(settings.budget_tokens, settings.budget_cost),
        write=registry.journal.usage.add,
        on_alert=metrics.budget_alert,
    )
    metrics.bind_budgets(ledger.used_ratios)
    return ledger


def _follow_journal(registry: Registry, metrics: Metrics, clock: Clock) -> None:
    """Count the journal's commits; say once that it cannot write and once that it can again."""
    journal = registry.journal
    log = get_logger("supervisor.journal")
    outages = OutageLog(log, clock, subject="journal", began="journal_cannot_write", ended="journal_writes_again")

    def failed(problem: str) -> None:
        metrics.journal_failed()
        # One change that the database refuses is its caller's trouble: the others are written.
        if not journal.healthy:
            outages.failed(registry.where, problem)

    def committed(seconds: float, operations: int) -> None:
        metrics.committed(seconds, operations)
        outages.recovered(registry.where)

    def unreadable(agent_id: str, rows: int, reason: str) -> None:
        log.error("journaled_text_unreadable", agent=agent_id, rows=rows, reason=reason)

    def usage_lost(reason: str) -> None:
        log.error("usage_not_written", reason=reason)

    hooks = journal.hooks
    hooks.on_error, hooks.on_commit, hooks.on_unreadable = failed, committed, unreadable
    hooks.on_usage_lost = usage_lost


def lock_info(settings: Settings, address: str, clock: Clock) -> LockInfo:
    """What the registry's lock says of this process: where it answers, and a mark of the key that it encrypts with.

    Args:
        address: where it listens; ADVERTISE_URL goes before.
    """
    box = SecretBox.of(settings.secret_keys)
    return LockInfo(
        address=settings.advertise_url or address,
        started_at=clock.now(),
        first_key=box.first_key_id if box else "",
        keys=box.key_ids if box else (),
        version=__version__,
        capacity=settings.replica_capacity,
        pace=settings.connect_rate,
        moves=settings.rebalance_moves,
        lease_seconds=settings.lease_seconds,
        api_url=settings.api_url,
    )
