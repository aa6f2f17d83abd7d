"""What the admin API shows of agents beside their states: what they did, used and may use, and what is wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from supervisor.core.activity import Minute
from supervisor.core.days import days_before
from supervisor.core.errors import ConfigurationError
from supervisor.core.records import AgentRecord, Removal, UsageRecord
from supervisor.core.status import AgentStatus, CheckResult, Overview
from supervisor.doctor import Examiner, Finding, Report, Running, check_agent, check_fleet, check_supervisor
from supervisor.doctor.deployment import check_descriptors, check_settings, find_handlers, report_registry
from supervisor.doctor.findings import from_the_next_start, misconfigured
from supervisor.fleet import Fleet, Shared
from supervisor.handlers import Folders
from supervisor.management.handlers import KnownHandler, known_handlers
from supervisor.settings.environment import env_file_notes
from supervisor.settings.secrets import SecretBox, SecretResolver
from supervisor.store import Registry
from supervisor.telemetry.redaction import redact

#: Agents that an examination of the fleet tries over the network.
_TRIED: Final = 20


class Insight:
    """As :class:`supervisor.admin.AdminService` shows it."""

    def __init__(self, registry: Registry, fleet: Fleet, shared: Shared, overview: Callable[[], Overview]) -> None:
        self._registry = registry
        self._overview = overview
        self._fleet = fleet
        self._shared = shared
        # One at a time: each tries agents over the network.
        self._examining = asyncio.Lock()

    def activity(self, agent_id: str) -> list[Minute]:
        """What an agent did in each minute of the last hour; raises AgentNotFoundError."""
        return self._fleet.runner(agent_id).agent.activity.minutes()

    def conversations(self, agent_id: str) -> list[str]:
        """The conversations that an agent is in, the latest first; raises AgentNotFoundError."""
        return list(reversed(self._fleet.runner(agent_id).agent.pipeline.inbox.conversations))

    async def usage(self, agent_id: str | None, days: int) -> list[UsageRecord]:
        """What was used of language models in so many UTC days, today included."""
        since = days_before(self._shared.clock.now(), days - 1)
        return await self._registry.usage(agent_id, since_day=since)

    async def removals(self) -> list[Removal]:
        """The removals of agents that can be undone, the last one first."""
        return await self._registry.history.removals()

    async def handlers(self) -> list[KnownHandler]:
        """The handlers that a row may name; raises HandlerError."""
        folders = Folders(self._shared.loader.agents_dir, self._shared.settings.bundled_handlers)
        return await asyncio.to_thread(known_handlers, folders)

    async def examine(
        self, agent_id: str | None, statuses: Mapping[str, AgentStatus] | None = None
    ) -> list[CheckResult]:
        """What ``supervisor doctor`` finds, of one agent or of the fleet; raises AgentNotFoundError.

        Args:
            statuses: how every agent is, by its id; None: this process runs them all.
        """
        settings, found = self._shared.settings, list[Finding]()
        report = from_the_next_start(found.append)
        records = [await self._registry.agent(agent_id)] if agent_id else await self._registry.agents()
        if not agent_id:
            await self._examine_deployment(records, report)
        if statuses is None:
            statuses = {status.id: status for status in self._fleet.statuses()}
        running = Running(statuses)
        secrets = SecretResolver(
            environ=os.environ,
            env_prefixes=settings.secret_env_prefixes,
            dirs=settings.secret_dirs,
            box=SecretBox.of(settings.secret_keys),
        )
        async with (
            self._examining,
            Examiner.open(settings, self._shared.loader, secrets, self._shared.clock) as examiner,
        ):
            if agent_id:
                await check_agent(examiner, records[0], running, report)
            else:
                await check_fleet(examiner, records, running, report, limit=_TRIED)
        return [
            CheckResult(
                one.check, one.level.lower(), redact(one.text), redact(one.advice), one.agent, int(one.trouble or 0)
            )
            for one in found
        ]

    async def _examine_deployment(self, records: Sequence[AgentRecord], report: Report) -> None:
        """What concerns all agents: settings, handlers, registry, and this supervisor itself."""
        settings = self._shared.settings
        try:
            check_settings(settings, await asyncio.to_thread(env_file_notes, settings.secret_env_prefixes), report)
        except ConfigurationError as error:
            # The file may be another one by now: the next start would fail.
            report(misconfigured("settings", error, "mend it before the next start"))
        folders = await asyncio.to_thread(find_handlers, settings, report)
        names = folders.names() if folders is not None else ()
        report_registry(self._registry.where, len(records), await self._registry.scarce_room(), report, names)
        check_supervisor(self._overview(), "", report)
        check_descriptors(sum(not record.paused for record in records), os.getpid(), report)
