"""What is remembered of each agent's life over a restart: when it was last registered, and whether it sleeps."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.core.records import AgentLife, Sleep
from supervisor.store.committer import GroupCommitter
from supervisor.store.dialect.face import Database
from supervisor.store.dialect.operations import NoteRegistered, NoteSleep


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

    async def note_registered(self, agent_ids: Sequence[str], at: float) -> None:
        """Some agents were registered at the platform at ``at`` (seconds since the epoch).

        Raises:
            RegistryError: it cannot be written.
        """
        operation = NoteRegistered(agent_ids=list(agent_ids), at=at)
        self._committer.submit(operation)
        await operation.future

    async def note_sleep(self, agent_id: str, sleep: Sleep | None) -> None:
        """An agent sleeps; None: it is awake.

        Raises:
            RegistryError: it cannot be written.
        """
        operation = NoteSleep(agent_id=agent_id, sleep=sleep)
        self._committer.submit(operation)
        await operation.future
