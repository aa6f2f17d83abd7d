"""What is remembered of each agent's life over a restart: when it was last registered, and whether it sleeps."""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.core.records import AgentLife, Sleep
from supervisor.store.committer import GroupCommitter
from supervisor.store.dialect.face import Database
from supervisor.store.dialect.operations import RecordRegistered, RecordSleep


class AgentLives:
    """The table ``agent_lives``. Writing it does not count as a change of an agent's row.

    Attributes:
        since: when a supervisor that remembers them first held this registry, in seconds since the epoch.
    """

    def __init__(self, database: Database, committer: GroupCommitter) -> None:
        self._questions = database.questions
        self._committer = committer
        self.since = database.lives_since

    async def of(self, agent_id: str) -> AgentLife:
        """What is remembered of an agent.

        Raises:
            RegistryError: the registry cannot be read.
        """
        found = await self._questions.lives(agent_id)
        return found[0] if found else AgentLife(agent_id)

    async def record_registered(self, times: Mapping[str, float]) -> None:
        """When some agents were last known to be registered, in seconds since the epoch, by their ids.

        Raises:
            RegistryError: it cannot be written.
        """
        await self._committer.commit(RecordRegistered(times=dict(times)))

    def record_soon(self, times: Mapping[str, float]) -> None:
        """As :meth:`record_registered`, waiting for nothing; where it cannot be written, more is looked for later."""
        if not self._committer.closed:
            self._committer.submit(RecordRegistered(times=dict(times)))

    async def record_sleep(self, agent_id: str, sleep: Sleep | None) -> None:
        """An agent sleeps; None: it is awake.

        Raises:
            RegistryError: it cannot be written.
        """
        await self._committer.commit(RecordSleep(agent_id=agent_id, sleep=sleep))
