"""The parts that a service is made of, built from its settings: the composition root's other half (DESIGN §2)."""

from __future__ import annotations

import os

from supervisor.core.clock import Clock
from supervisor.fleet.ledger import Ledger, Limits
from supervisor.fleet.shared import Kit
from supervisor.handlers.loader import HandlerLoader
from supervisor.messages.lanes import Dispatcher
from supervisor.platform.gates import Gates
from supervisor.platform.history import PlatformHistory
from supervisor.platform.outages import Outages
from supervisor.platform.tokens import TokenClient
from supervisor.platform.transport import Transport
from supervisor.service.watchdogs import SilenceWatch
from supervisor.settings import Settings
from supervisor.settings.otlp import request_headers, traces_url
from supervisor.settings.secrets import SecretBox, SecretResolver
from supervisor.store import LockInfo, Registry
from supervisor.telemetry.events import Events
from supervisor.telemetry.logs import OutageLog, get_logger
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.tracing import NO_TRACING, Collector, Tracing, start_tracing


def build_kit(
    settings: Settings,
    registry: Registry,
    transport: Transport,
    loader: HandlerLoader,
    clock: Clock,
    *,
    tracing: Tracing = NO_TRACING,
) -> Kit:
    """What the agents of a service share, its figures bound to what they count."""
    metrics = Metrics(agent_limit=settings.metrics_agent_limit)
    gates = Gates(
        connect_rate=settings.connect_rate,
        auth_rate=settings.auth_rate,
        connect_concurrency=settings.connect_concurrency,
        auth_concurrency=settings.auth_concurrency,
        clock=clock,
    )
    tokens = TokenClient(
        transport.session,
        clock=clock,
        pool_for=lambda host: gates.of(host).token_pool,
        bucket_for=lambda host: gates.of(host).tokens,
        timeout_seconds=settings.handshake_seconds,
        refresh_margin_seconds=settings.refresh_margin,
        on_outcome=metrics.auth_refreshed,
    )
    secrets = SecretResolver(
        environ=os.environ,
        env_prefixes=settings.secret_env_prefixes,
        dirs=settings.secret_dirs,
        box=SecretBox.of(settings.secret_keys),
    )
    _follow_journal(registry, metrics, clock)
    transport.on_silent = SilenceWatch(metrics, clock).note
    dispatcher = Dispatcher(settings.concurrency, memory_bytes=settings.memory_limit)
    metrics.bind_memory(lambda: dispatcher.memory.held_bytes, settings.memory_limit)
    ledger = Ledger(
        clock,
        prices=settings.prices,
        fleet=Limits(settings.budget_tokens, settings.budget_cost),
        write=registry.journal.usage.add,
        on_alert=metrics.budget_alert,
    )
    metrics.bind_budgets(ledger.used_ratios)
    return Kit(
        settings=settings,
        clock=clock,
        metrics=metrics,
        journal=registry.journal,
        dispatcher=dispatcher,
        loader=loader,
        secrets=secrets,
        transport=transport,
        tokens=tokens,
        history=PlatformHistory(tokens, clock, proxy=settings.proxy),
        gates=gates,
        outages=Outages(clock),
        ledger=ledger,
        tracing=tracing,
        events=Events(run=f"{clock.now():.3f}".replace(".", "")),
    )


def _follow_journal(registry: Registry, metrics: Metrics, clock: Clock) -> None:
    """Count the journal's commits; say once that it cannot write and once that it can again."""
    journal = registry.journal
    log = get_logger("supervisor.journal")
    outages = OutageLog(log, clock, subject="journal", began="journal_cannot_write", ended="journal_writes_again")

    def failed(problem: str) -> None:
        metrics.journal_failed()
        # One change that the database refuses is its caller's trouble: the others are written.
        if not journal.healthy:
            outages.failed(str(registry.path), problem)

    def committed(seconds: float, operations: int) -> None:
        metrics.committed(seconds, operations)
        outages.recovered(str(registry.path))

    def unreadable(agent_id: str, rows: int, reason: str) -> None:
        log.error("journaled_text_unreadable", agent=agent_id, rows=rows, reason=reason)

    def usage_lost(reason: str) -> None:
        log.error("usage_not_written", reason=reason)

    journal.on_error, journal.on_commit, journal.on_unreadable = failed, committed, unreadable
    journal.usage.on_lost = usage_lost


def start_tracing_of(settings: Settings, clock: Clock) -> Tracing:
    """The traces that the settings ask for.

    Raises:
        ConfigurationError: the extra ``otel`` is missing, or CA_FILE cannot be used.
    """
    if settings.otlp_endpoint is None:
        return NO_TRACING
    headers = request_headers(settings.otlp_headers.get_secret_value() if settings.otlp_headers else "")
    collector = Collector(traces_url(settings.otlp_endpoint), clock, headers, settings.ca_file)
    return start_tracing(collector, sample_ratio=settings.trace_sample_ratio)


def lock_info(settings: Settings, address: str) -> LockInfo:
    """What the registry's lock tells of this process: where it answers, and a mark of the key that it encrypts with."""
    box = SecretBox.of(settings.secret_keys)
    return LockInfo(address=address, first_key=box.first_key_id if box else "")
