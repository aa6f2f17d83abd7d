"""Keeps an online agent's instruction and settings as the platform has them, without a new token for their sake."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from supervisor.core.backoff import Backoff
from supervisor.core.errors import PlatformError
from supervisor.core.tasks import TaskSet
from supervisor.fleet.agent import Agent
from supervisor.fleet.configuration import Configuration
from supervisor.fleet.shared import Shared
from supervisor.platform.instructions import fetch_configuration

#: How long a platform that answers no such question is left alone.
ABSENT_SECONDS: Final = 3600.0


class Refetch:
    """One agent's questions for its configuration, every ``INSTRUCTION_SECONDS``, less often in a large fleet."""

    def __init__(self, agent: Agent, configuration: Configuration, shared: Shared) -> None:
        self._agent = agent
        self._configuration = configuration
        self._shared = shared
        self._tasks = TaskSet()

    def start(self) -> None:
        """The agent is online."""
        self._tasks.spawn(self._run(), f"refetch {self._agent.record.id}")

    async def stop(self) -> None:
        """The agent is offline."""
        await self._tasks.cancel()

    async def _run(self) -> None:
        shared, backoff = self._shared, Backoff()
        gate = shared.agent_api.gate(self._agent.profile.access())
        with gate.asker("instruction"):
            wait = gate.interval("instruction", shared.settings.instruction_seconds)
            while True:
                # Drawn, so that a fleet that was started at once does not ask at once.
                await shared.clock.sleep(wait * shared.uniform(0.8, 1.0))
                try:
                    there = await self._fetch()
                except PlatformError as error:
                    if error.refusal is not None:
                        self._agent.on_refused(error)
                        return
                    self._agent.log.debug("configuration_not_fetched", reason=error.reason)
                    wait = max(backoff.next_delay(), error.retry_after_seconds or 0.0)
                else:
                    backoff.reset()
                    wait = gate.interval("instruction", shared.settings.instruction_seconds)
                    wait = wait if there else max(wait, ABSENT_SECONDS)

    async def _fetch(self) -> bool:
        """Ask once, and take over what differs; whether the platform answers such questions."""
        agent, access = self._agent, self._agent.profile.access()
        grant = agent.grant
        if grant is None:
            return True
        found = await fetch_configuration(self._shared.agent_api, access, agent.record.id, grant.answer)
        facts = self._shared.facts.api(urlsplit(access.api_url).netloc)
        if found is None:
            # Where others are answered it is this agent's own trouble.
            facts.has_instruction = facts.has_instruction or False
            return facts.has_instruction
        facts.has_instruction = True
        if found != grant.answer and self._configuration.amend(grant, found):
            agent.log.info("configuration_changed")
        return True
