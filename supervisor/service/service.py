"""The composition root: builds everything once, starts it, watches it, drains it (DESIGN §2)."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from supervisor import __version__
from supervisor.admin import AdminServer, build_app
from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import ConfigurationError
from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus, InboxCounts, MessageDetails, MessageSummary, Overview
from supervisor.fleet.fleet import Fleet
from supervisor.fleet.ledger import day_of
from supervisor.fleet.shared import Kit
from supervisor.handlers.loader import HandlerLoader, find_agents_dir
from supervisor.management import agents as editing
from supervisor.management import messages as dead_letters
from supervisor.management.messages import MessageQuery, Outcome
from supervisor.platform.transport import Transport
from supervisor.service.assembly import build_kit, lock_info, start_tracing_of
from supervisor.service.code_watch import CodeWatch
from supervisor.service.housekeeping import Maintenance
from supervisor.service.systemd import ServiceManager
from supervisor.service.watchdogs import LoopWatch, SideTasks
from supervisor.settings import Settings
from supervisor.settings.secrets import SecretBox
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger, listen

DISTRIBUTION = "aiwm-supervisor"
#: Exit codes of ``supervisor run``: drained cleanly; cut short by a second signal or the end of the grace period.
EXIT_CLEAN, EXIT_CUT_SHORT = 0, 1
#: How long closing may take once a second signal came (RELIABILITY R15: exits within 5 s).
SECOND_SIGNAL_SECONDS = 4.0
#: How long past the grace period a stop may take in all, whatever the disk and the platform do.
CLOSE_SECONDS = 10.0
#: What of that the journal's last transaction may take, which nothing interrupts.
TRANSACTION_SECONDS = 5.0


def check_import_name() -> None:
    """Refuse to run when another distribution (supervisord) also claims the import name ``supervisor``.

    Raises:
        ConfigurationError: it does.
    """
    owners = set(importlib.metadata.packages_distributions().get("supervisor", ())) - {DISTRIBUTION}
    if owners:
        raise ConfigurationError(
            f"The package {min(owners)!r} is installed too and has the same import name; "
            f"install {DISTRIBUTION} into a virtual environment of its own"
        )


def _count(agents: int) -> str:
    return "1 agent is" if agents == 1 else f"{agents} agents are"


class Service:
    """One running supervisor. Make it with :meth:`start`; end it with :meth:`stop`.

    ``settings``, ``metrics`` and ``registry`` are there for the admin server, the demo and tests.
    """

    def __init__(self, settings: Settings, registry: Registry, kit: Kit) -> None:
        self.settings = settings
        self.registry = registry
        self.metrics = kit.metrics
        self.events = kit.events
        self.fleet = Fleet(registry, kit)
        self._kit = kit
        self._started_at = kit.clock.now()
        self._draining = False
        self._stopped = False
        self._side_tasks = SideTasks(kit.metrics, kit.clock)
        self._admin = AdminServer(build_app(self), settings.admin_host, settings.admin_port)
        self._log = get_logger("supervisor.service")
        self._unheard: Callable[[], None] = lambda: None

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    async def start(cls, settings: Settings, *, clock: Clock | None = None, cwd: Path | None = None) -> Service:
        """Build and start everything; returns once the admin server answers and the agents are on their way.

        Args:
            cwd: where ``./agents`` is looked for.

        Raises:
            ConfigurationError, RegistryError: it cannot start like this; nothing is left running.
        """
        check_import_name()
        clock = clock or SystemClock()
        loader = HandlerLoader(
            find_agents_dir(settings.agents_dir, cwd=cwd),
            packages=settings.handler_packages,
            threads=settings.handler_threads,
        )
        undo: list[Callable[[], Coroutine[Any, Any, None]]] = []
        try:
            tracing = start_tracing_of(settings, clock)
            undo.append(tracing.close)
            lock = lock_info(settings, f"http://{settings.admin_host}:{settings.admin_port}")
            registry = await Registry.open(
                settings.registry_url,
                synchronous=settings.synchronous,
                upgrade=True,
                lock=lock,
                clock=clock,
                cipher=SecretBox.of(settings.secret_keys),
                encrypt=settings.journal_encryption,
            )
            undo.append(registry.close)
            transport = await Transport.create(ca_file=settings.ca_file, clock=clock)
            undo.append(transport.close)
            kit = build_kit(settings, registry, transport, loader, clock, tracing=tracing)
            service = cls(settings, registry, kit)
            undo += [service._admin.stop, service._unhear]
            await service._begin()
        except BaseException:
            for step in reversed(undo):
                await step()
            loader.close()
            raise
        return service

    async def _begin(self) -> None:
        self._unheard = listen(self._heard)
        await self._admin.start()
        self.registry.announce(lock_info(self.settings, self._admin.url))
        self.metrics.bind_agents(self.fleet.reading, self._kit.clock)
        self.metrics.bind_ready(lambda: not self.problems())
        rescued = await self.registry.journal.rescue()
        await self.registry.journal.cancel_removed()
        self._kit.ledger.load(await self.registry.usage(since_day=day_of(self._kit.clock.now())))
        await self.fleet.reconcile()
        upkeep = Maintenance(
            self.registry.journal,
            self.fleet,
            self.metrics,
            self._kit.clock,
            retention_seconds=self.settings.journal_retention,
            on_lag=self._kit.gates.note_lag,
        )
        self._side_tasks.start("registry watch", self.fleet.watch, essential=True)
        self._side_tasks.start("counts", upkeep.count)
        self._side_tasks.start("prune", upkeep.prune)
        self._side_tasks.start("usage", upkeep.write_usage)
        self._side_tasks.start("loop lag", upkeep.watch_loop)
        self._side_tasks.start("loop watch", LoopWatch(self.metrics, packages=self.settings.handler_packages).run)
        self._log.info(
            "started",
            version=__version__,
            agents=len(self.fleet.statuses()),
            admin=self._admin.url,
            **({"rescued": rescued} if rescued else {}),
        )

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def stop(self, grace_seconds: float | None = None) -> bool:
        """Drain and close everything; idempotent. Whether all that ran ended within the grace period."""
        if self._stopped:
            return True
        self._stopped = self._draining = True
        grace = self.settings.drain_seconds if grace_seconds is None else grace_seconds
        until = self._kit.clock.monotonic() + grace + CLOSE_SECONDS
        self._log.info("draining", seconds=grace)
        await self._side_tasks.stop()
        try:
            return await self.fleet.stop(grace)
        finally:
            await self._close(until)
            self._log.info("stopped")

    async def _unhear(self) -> None:
        self._unheard()

    async def _close(self, until: float) -> None:
        await self._unhear()
        # Those who follow would hold the admin server up.
        self.events.close()
        await self._kit.gates.close()
        await self._admin.stop()
        await self._kit.transport.close()
        await self._kit.outages.close()
        await self._kit.tracing.close()
        left = until - self._kit.clock.monotonic() - TRANSACTION_SECONDS
        await self.registry.close(timeout=max(1.0, left))
        self._kit.loader.close()

    @classmethod
    async def main(cls, settings: Settings, *, reload: bool = False) -> int:
        """Run until SIGTERM or SIGINT, drain, and return the exit code; a second signal ends the drain at once.

        Args:
            reload: follow changes of the handlers' code.

        Raises:
            ConfigurationError, RegistryError: it cannot start like this.
        """
        signals: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signals.put_nowait, number)
        manager = ServiceManager(os.environ)
        service = await cls.start(settings)
        manager.ready()
        posting = asyncio.create_task(manager.keep_posted(service._status_line), name="service manager")
        if reload:
            service.watch_code()
        told: asyncio.Future[int] = asyncio.ensure_future(signals.get())
        over: list[asyncio.Future[Any]] = [told, service._side_tasks.failed]
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        manager.stopping(settings.drain_seconds + CLOSE_SECONDS)
        drained = asyncio.ensure_future(service.stop())
        if told.done():
            told = asyncio.ensure_future(signals.get())
        over = [drained, told]
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        clean = drained.done() and drained.result() and not service._side_tasks.failed.done()
        if not drained.done():
            service._log.warning("stopping_at_once", reason="second signal")
            drained.cancel()
            await asyncio.wait([drained], timeout=SECOND_SIGNAL_SECONDS)
        told.cancel()
        posting.cancel()
        return EXIT_CLEAN if clean else EXIT_CUT_SHORT

    def _heard(self, line: Mapping[str, Any]) -> None:
        self.events.publish("log", str(line.get("agent", "")), line)

    # ── what the edges ask ───────────────────────────────────────────────────────────────────────────────────────────

    def watch_code(self) -> None:
        """Reload agents when their handlers' code changes: for development."""
        watch = CodeWatch(self._kit.loader.agents_dir, self.fleet, self._kit.clock)
        self._side_tasks.start("code watch", watch.run)

    async def wait_failed(self) -> None:
        """Return when the service died by itself: a side task that it needs keeps dying."""
        await asyncio.shield(self._side_tasks.failed)

    @property
    def admin_url(self) -> str:
        """Where the admin server answers."""
        return self._admin.url

    def problems(self) -> tuple[str, ...]:
        """What keeps it from being ready, one line each."""
        found = []
        if self._draining:
            found.append("draining: the supervisor is stopping")
        if self.registry.journal.problem:
            found.append(f"the journal cannot write: {self.registry.journal.problem}")
        found += self._side_tasks.problems()
        return tuple(found)

    def _status_line(self) -> str:
        """How it goes, for the service manager."""
        states = self.fleet.states()
        line = f"{states.get(AgentState.ONLINE, 0)} of {sum(states.values())} agents online"
        return "; ".join([line, *self.problems()])

    def overview(self) -> Overview:
        """The whole supervisor in a few figures."""
        states = self.fleet.states()
        inboxes = list(self.fleet.inbox().values())
        notices = list(self._kit.outages.notices())
        notices += [
            f"{_count(states[state])} {state}; see: supervisor agents list"
            for state in (AgentState.REJECTED, AgentState.FAULTED)
            if states.get(state)
        ]
        return Overview(
            version=__version__,
            pid=os.getpid(),
            registry_uuid=self.registry.uuid,
            started_at=self._started_at,
            agents={str(state): count for state, count in sorted(states.items()) if count},
            inbox=InboxCounts(
                sum(counts.available for counts in inboxes),
                sum(counts.running for counts in inboxes),
                sum(counts.dead for counts in inboxes),
            ),
            problems=self.problems(),
            notices=tuple(notices),
        )

    def statuses(self) -> list[AgentStatus]:
        """Every agent."""
        return self.fleet.statuses()

    def status(self, agent_id: str) -> AgentStatus:
        """One agent; raises AgentNotFoundError."""
        return self.fleet.runner(agent_id).status()

    async def add(self, record: AgentRecord) -> None:
        """Add an agent; raises as :func:`supervisor.management.agents.add_agent` does."""
        await editing.add_agent(self.registry, self._checker(), record)
        await self.fleet.reconcile()

    async def change(self, agent_id: str, changes: editing.Changes) -> None:
        """Change an agent; raises as :func:`supervisor.management.agents.change_agent` does."""
        await editing.change_agent(self.registry, self._checker(), agent_id, changes)
        await self.fleet.reconcile()

    async def remove(self, agent_id: str) -> None:
        """Remove an agent; raises AgentNotFoundError."""
        await self.registry.remove_agent(agent_id)
        await self.fleet.reconcile()

    def _checker(self) -> editing.Checker:
        return editing.Checker(self.settings, self._kit.loader.agents_dir)

    async def pause(self, agent_id: str) -> None:
        """Take an agent offline until it is resumed; raises AgentNotFoundError."""
        await self.registry.update_agent(agent_id, paused=True)
        await self.fleet.reconcile()

    async def resume(self, agent_id: str) -> None:
        """End an agent's pause or its wait; raises AgentNotFoundError."""
        await self.registry.update_agent(agent_id, paused=False)
        await self.fleet.reconcile()
        self.fleet.runner(agent_id).poke()

    async def reload(self, agent_id: str) -> None:
        """Read an agent's handler, instruction and settings anew; raises AgentNotFoundError."""
        self.fleet.runner(agent_id).reload()

    async def messages(self, query: MessageQuery, limit: int) -> list[MessageSummary]:
        """The newest ``limit`` messages that match."""
        conditions = query.conditions(self._kit.clock.now())
        rows = await self.registry.journal.messages(**conditions, limit=limit)
        return await dead_letters.summaries(self.registry, rows)

    async def message(self, number: int) -> MessageDetails:
        """One message; raises MessageNotFoundError."""
        return await dead_letters.details(self.registry, number)

    async def replay(self, number: int) -> None:
        """Have a dead letter run again.

        Raises:
            MessageNotFoundError: there is none of that number.
            MessageStateError: it is no dead letter, or its agent was removed.
        """
        await self._settled_by_hand(await dead_letters.replay(self.registry, [number]))

    async def discard(self, number: int) -> None:
        """Cancel a dead letter; raises as :meth:`replay` does."""
        await self._settled_by_hand(await dead_letters.discard(self.registry, [number]))

    async def _settled_by_hand(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.refused is not None:
                raise outcome.refused
        await self.fleet.take_up_replays()

    async def wait_online(self, count: int, timeout: float) -> None:
        """Return once ``count`` agents are online; raises TimeoutError."""
        await self.fleet.wait_online(count, timeout)
