"""The composition root: builds everything once, starts it, watches it, drains it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor import __version__
from supervisor.admin import AdminServer
from supervisor.core.clock import Clock, SystemClock
from supervisor.core.days import day_of
from supervisor.core.errors import RegistryError
from supervisor.core.tasks import cancel_all, to_the_end
from supervisor.fleet import Fleet, Shared
from supervisor.net import Session, descriptors
from supervisor.platform.transport import MakeWire
from supervisor.service.assembly import (
    RegistryOpener,
    TracingOpener,
    check_import_name,
    lock_info,
    open_parts,
    open_registry,
    start_tracing_of,
)
from supervisor.service.code_watch import CodeWatch
from supervisor.service.control import Control
from supervisor.service.fleetwide import admin_app
from supervisor.service.housekeeping import Housekeeping
from supervisor.service.instruction_watch import InstructionWatch
from supervisor.service.last_run import tell_failed_run
from supervisor.service.replica_watch import ReplicaWatch
from supervisor.service.sharing import Sharing
from supervisor.service.side_tasks import SideTasks
from supervisor.service.stall import StallExit
from supervisor.service.storage_watch import StorageWatch
from supervisor.service.watchdogs import LoopWatch
from supervisor.settings import Settings
from supervisor.store import LockInfo, Registry
from supervisor.telemetry.logs import get_logger, listen

if TYPE_CHECKING:
    from supervisor.service.agents_file import AgentsFile

#: How long past the grace period a stop may take in all, whatever the disk and the platform do.
CLOSE_SECONDS = 10.0
#: What of that the journal's last transaction may take, which nothing interrupts.
TRANSACTION_SECONDS = 5.0
#: How long one whose agents are others' goes on reading what its sockets have.
HAND_IN_SECONDS = 0.5
#: How long the others are told that this one ends.
LEAVE_SECONDS = 1.0
#: How often it is looked whether the others have the agents.
LOOK_SECONDS = 0.05
#: What any other part may take to close.
PART_SECONDS = 6.0


class Service:
    """One running supervisor. Make it with :meth:`start`; end it with :meth:`stop`.

    Attributes:
        registry, shared: what it was made of.
        metrics: every figure that it shows.
        fleet: its agents.
        control: what the admin API asks of this process, for tests and the demo too.
        side_tasks: its own loops; ``side_tasks.failed`` is done when it cannot go on by itself.
    """

    def __init__(self, registry: Registry, shared: Shared, session: Session) -> None:
        self.registry = registry
        self.shared = shared
        self._session = session
        self.settings = shared.settings
        self.metrics = shared.metrics
        self.fleet = Fleet(registry, shared)
        self.side_tasks = SideTasks(shared.metrics, shared.clock)
        self.storage = StorageWatch(registry, shared.clock, self.side_tasks.give_up)
        self.control = Control(registry, self.fleet, shared, self.problems, self.dead, self._notices)
        self._agents_file = self._make_agents_file()
        self._holder = LockInfo()
        self._replica_watch: ReplicaWatch | None = None
        self._failed = ""
        self._stall: StallExit | None = None
        self._admin: AdminServer | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self._draining = False
        self._stopped = False
        self._log = get_logger("supervisor.service")

    @classmethod
    async def start(
        cls,
        settings: Settings,
        *,
        clock: Clock | None = None,
        cwd: Path | None = None,
        make_wire: MakeWire | None = None,
        open_registry: RegistryOpener = open_registry,
        open_tracing: TracingOpener = start_tracing_of,
    ) -> Service:
        """Build and start everything; returns once the admin server answers and the agents are on their way.

        Args:
            cwd: where ``./agents`` is looked for.
            make_wire: makes the wire of each connection to the platform; None for what the settings say.
            open_registry: opens the registry that the settings name.
            open_tracing: starts the traces that the settings ask for.

        Raises:
            ConfigurationError, RegistryError: it cannot start like this; nothing is left running.
        """
        check_import_name()
        async with AsyncExitStack() as undo:
            clock = clock or SystemClock()
            descriptors.raise_limit()
            parts = await open_parts(
                settings,
                clock,
                undo,
                cwd=cwd,
                make_wire=make_wire,
                open_registry=open_registry,
                open_tracing=open_tracing,
            )
            service = cls(*parts)
            undo.push_async_callback(service._undo)
            await service._begin()
            undo.pop_all()
        return service

    async def _begin(self) -> None:
        admin_url = await self._answer()
        self._holder = lock_info(self.settings, admin_url, self.shared.clock)
        self.registry.announce(self._holder)
        await tell_failed_run(self.registry)
        self.metrics.bind_agents(self.fleet.reading, self.shared.clock, self.fleet.name_and_handler)
        self.metrics.bind_unfindable(self.fleet.unfindable)
        self.metrics.bind_ready(lambda: not self.problems())
        self.metrics.bind_registry(lambda: self.storage.space)
        self.metrics.bind_agents_file(lambda: bool(self._agents_file and self._agents_file.problem))
        if self._agents_file is not None:
            # Before the journal is taken over: what waits for agents that it removes is nobody's.
            await self._agents_file.take()
        rescued = await self.registry.journal.maintenance.take_over()
        self.shared.ledger.load(await self.registry.usage(since_day=day_of(self.shared.clock.now())))
        await self.fleet.reconcile()
        self._tell_descriptors(sum(not one.paused for one in self.fleet.statuses()))
        self._start_side_tasks()
        self._log.info(
            "started",
            version=__version__,
            agents=len(self.fleet.statuses()),
            admin=admin_url,
            **({"rescued": rescued} if rescued else {}),
        )

    def _make_agents_file(self) -> AgentsFile | None:
        path, prune = self.settings.agents_file, self.settings.agents_prune
        if path is None:
            return None
        from supervisor.service.agents_file import AgentsFile  # noqa: PLC0415  YAML is loaded where a file is given

        return AgentsFile(path, self.registry, self.control.checker, self.shared.clock, prune=prune)

    def _tell_descriptors(self, agents: int) -> None:
        """Say how many file descriptors there are, and whether they suffice for so many agents."""
        budget, needed = descriptors.current(), descriptors.needed(agents)
        found = {"limit": budget.limit, "needed": needed, "agents": agents}
        if needed > budget.limit:
            self._log.warning("descriptors", **found, agents_fit=budget.agents, remedy=descriptors.REMEDY)
        else:
            self._log.info("descriptors", **found)

    async def _answer(self) -> str:
        """Publish the log's lines as events, and start the admin server; its address."""
        self._unlisten = listen(self._publish)
        http, clock = self._session.http, self.shared.clock
        app = admin_app(self.control, self.registry, http, clock, lambda: self._holder.address)
        self._admin = AdminServer(app, self.settings.admin_host, self.settings.admin_port)
        await self._admin.start()
        return self._admin.url

    def _publish(self, line: Mapping[str, Any]) -> None:
        self.shared.events.publish("log", str(line.get("agent", "")), line)

    def _start_side_tasks(self) -> None:
        housekeeping = Housekeeping(
            self.registry,
            self.fleet,
            self.metrics,
            self.shared.clock,
            retention_seconds=self.settings.journal_retention,
            on_lag=self.shared.gates.adapt,
        )
        self.side_tasks.start("registry watch", self.fleet.watch, essential=True)
        self.side_tasks.start("room", self.shared.room.watch)
        self.side_tasks.start("file watch", self.storage.watch_file)
        self.side_tasks.start("disk watch", self.storage.watch_room)
        if self._agents_file is not None:
            self.side_tasks.start("agents file", partial(self._agents_file.watch, self.fleet.reconcile))
        if self.registry.replicas.shared:
            token = bool(self.settings.admin_token)
            watch = ReplicaWatch(self.registry, self.shared.clock, self.metrics.fenced, token=token)
            self._replica_watch = watch
            self.metrics.bind_replicas(lambda: watch.figures)
            self.side_tasks.start("replicas", watch.run)
            self.side_tasks.start("sharing", Sharing(self.registry, self.shared).run)
        self.side_tasks.start("counts", housekeeping.count)
        self.side_tasks.start("prune", housekeeping.prune)
        self.side_tasks.start("usage", housekeeping.write_usage)
        self.side_tasks.start("lives", housekeeping.write_lives)
        instructions = InstructionWatch(self.registry.history, self.fleet, self.shared.clock, self.shared.turns)
        self.side_tasks.start("instructions", instructions.run)
        self.side_tasks.start("loop lag", housekeeping.watch_loop)
        self.side_tasks.start("loop watch", LoopWatch(self.metrics, packages=self.settings.handler_packages).run)

    async def stop(self, grace_seconds: float | None = None) -> bool:
        """Drain and close everything; idempotent. Whether all that ran ended within the grace period."""
        if self._stopped:
            return True
        self._stopped = self._draining = True
        grace = self.settings.drain_seconds if grace_seconds is None else grace_seconds
        if self.registry.taken_over:
            # What runs is another process's, and what comes of it can be written nowhere; what was heard is handed in.
            grace = min(grace, HAND_IN_SECONDS)
        until = self.shared.clock.monotonic() + grace + CLOSE_SECONDS
        self._log.info("draining", seconds=grace)
        try:
            handing_over = until - CLOSE_SECONDS
            try:
                if not self.registry.taken_over:
                    await self._leave()
                    await self._hand_over(handing_over)
                grace = max(0.0, handing_over - self.shared.clock.monotonic())
            except BaseException:
                grace = 0.0
                raise
            finally:
                await self.side_tasks.stop()
                drained = await self.fleet.stop(grace)
            return drained
        finally:
            # Who is in a hurry lets agents go at once; what was journaled is written all the same.
            await to_the_end(self._close(until))
            self._log.info("stopped")

    async def _leave(self) -> None:
        """Be given no more agents by those who share the registry."""
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.registry.replicas.leave()
        except (RegistryError, TimeoutError) as error:
            self._log.warning("leave_not_noted", reason=str(error))

    async def _hand_over(self, until: float) -> None:
        """Have others connect the agents before they end here, where there are any others."""
        clock, journal = self.shared.clock, self.registry.journal
        while self.fleet.agent_ids() and self.registry.replicas.takers and clock.monotonic() < until:
            if not (journal.healthy and journal.sure):
                # Nothing that is handed over would be written.
                return
            await clock.sleep(LOOK_SECONDS)

    async def _close(self, until: float) -> None:
        # What is logged from here on has nobody to read it.
        self._unlisten()
        # Those who follow would hold the admin server up.
        self.shared.events.close()
        shared = self.shared
        if shared.kept_tokens is not None:
            await self._close_part("tokens", shared.kept_tokens.close(), PART_SECONDS)
        for part, close in {
            "gates": shared.gates.close,
            "admin server": self._stop_answering,
            "transport": shared.transport.close,
            "session": self._session.close,
            "outages": shared.outages.close,
            "deliveries": shared.deliveries.close,
            "checks": shared.checks.close,
            "tracing": shared.tracing.close,
        }.items():
            await self._close_part(part, close(), PART_SECONDS)
        if self._stall is not None:
            self._stall.leave_no_word()
        left = max(1.0, until - shared.clock.monotonic() - TRANSACTION_SECONDS)
        await self._close_part("registry", self.registry.close(timeout=left), left + TRANSACTION_SECONDS)
        shared.loader.close()
        shared.imports.shutdown(wait=False, cancel_futures=True)

    async def _close_part(self, part: str, closing: Coroutine[Any, Any, None], seconds: float) -> None:
        """Close one part; whether or not it can be closed, the others are."""
        task = asyncio.ensure_future(closing)
        await asyncio.wait([task], timeout=seconds)
        error = task.exception() if task.done() and not task.cancelled() else None
        if error is not None or not task.done():
            self._log.critical("close_failed", part=part, seconds=seconds, exc_info=error)
            self.fail(f"its {part} could not be closed")
            await cancel_all([task], 0.0)

    async def _undo(self) -> None:
        """Leave nothing running of a start that failed or was cut short."""
        self._stopped = self._draining = True
        await self.side_tasks.stop()
        await self.fleet.stop(0.0)
        await self._stop_answering()

    async def _stop_answering(self) -> None:
        self._unlisten()
        if self._admin is not None:
            await self._admin.stop()

    def watch_code(self) -> None:
        """Reload agents when their handlers' code changes: for development."""
        watch = CodeWatch(self.shared.loader.agents_dir, self.fleet, self.shared.clock)
        self.side_tasks.start("code watch", watch.run)

    def fail(self, reason: str) -> None:
        """It ends otherwise than it was told to: it no longer counts as alive, and the next start says why."""
        self._failed = self._failed or reason
        self._announce()

    def _announce(self) -> None:
        """Say anew who holds the registry, and why it ends where it does."""
        try:
            self.registry.announce(replace(self._holder, ended=self._failed))
        except (RegistryError, OSError) as error:
            self._log.warning("holder_not_noted", reason=str(error))

    def watched_by(self, stall: StallExit) -> None:
        """Have a stall or a crash that ends the process leave word of it for the next start."""
        file = self.registry.database.last_words
        if file is not None:
            self._stall = stall
            stall.leave_word(file, self._announce)

    def dead(self) -> tuple[str, ...]:
        """What has ended on which the fleet depends, one line each; only another start brings it back."""
        found = [self._failed] if self._failed else []
        if not self._stopped:
            found += [*self.side_tasks.dead(), *self.fleet.dead()]
        return tuple(found)

    @property
    def admin_url(self) -> str:
        """Where the admin server answers; empty before the start."""
        return self._admin.url if self._admin is not None else ""

    def _notices(self) -> tuple[str, ...]:
        """What people should know of it, while that is so."""
        of_file = self._agents_file.problem if self._agents_file is not None else ""
        watch = self._replica_watch
        of_replicas = (watch.apart, watch.clock) if watch is not None else ()
        return tuple(filter(None, (of_file, self.storage.notice, *of_replicas)))

    def problems(self) -> tuple[str, ...]:
        """What keeps it from being ready, one line each."""
        found = []
        if self._draining:
            found.append("draining: the supervisor is stopping")
        elif self.registry.replicas.draining:
            found.append("draining: its agents are other replicas', until it is started anew")
        if self.registry.journal.problem:
            found.append(f"the journal cannot write: {self.registry.journal.problem}")
        found += [*self.storage.problems(), *self.side_tasks.problems()]
        return tuple(dict.fromkeys([*found, *self.dead()]))
