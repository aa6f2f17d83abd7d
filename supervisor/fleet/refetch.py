"""Keeps an online agent's instruction and settings as the platform has them, without a new token for their sake."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from supervisor.core.backoff import Backoff
from supervisor.core.errors import PlatformError
from supervisor.core.rounds import Rounds
from supervisor.core.tasks import TaskSet
from supervisor.fleet.agent import Agent
from supervisor.fleet.configuration import Configuration
from supervisor.fleet.shared import Shared
from supervisor.platform.hosts.api_gate import ApiGate, Asker
from supervisor.platform.instructions import fetch_configuration

#: How long a platform that answers no such question is left alone.
ABSENT_SECONDS: Final = 3600.0


class Refetch:
    """One agent's questions for its configuration, every ``INSTRUCTION_SECONDS``, less often in a large fleet."""

    def __init__(self, agent: Agent, configuration: Configuration, shared: Shared) -> None:
        self._agent = agent
        self._configuration = configuration
        self._shared = shared
        self._backoff = Backoff()
        self._tasks = TaskSet()
        self._rounds: Rounds | None = None

    def start(self) -> None:
        """The agent is online."""
        gate = self._shared.agent_api.gate(self._agent.profile.access())
        asker = Asker("instruction")
        asker.ask_at(gate)

        def spawn(work: Coroutine[Any, Any, None]) -> None:
            self._tasks.spawn(work, f"refetch {self._agent.record.id}")

        self._backoff.reset()
        self._rounds = Rounds(self._shared.clock, lambda: self._round(gate), spawn, asker.leave)
        self._rounds.begin(self._drawn(self._interval(gate)))

    async def stop(self) -> None:
        """The agent is offline."""
        if self._rounds is not None:
            self._rounds.end()
        await self._tasks.cancel()

    async def _round(self, gate: ApiGate) -> float | None:
        """Ask once; seconds until the next time, None where the platform refuses the agent."""
        try:
            there = await self._fetch()
        except PlatformError as error:
            if error.refusal is not None:
                self._agent.on_refused(error)
                return None
            self._agent.log.debug("configuration_not_fetched", reason=error.reason)
            return self._drawn(max(self._backoff.next_delay(), error.retry_after_seconds or 0.0))
        self._backoff.reset()
        wait = self._interval(gate)
        return self._drawn(wait if there else max(wait, ABSENT_SECONDS))

    def _interval(self, gate: ApiGate) -> float:
        return gate.interval("instruction", self._shared.settings.instruction_seconds)

    def _drawn(self, seconds: float) -> float:
        # So that a fleet that was started at once does not ask at once.
        return seconds * self._shared.uniform(0.8, 1.0)

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
