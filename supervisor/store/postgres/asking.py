"""What is read of a journal that several processes write."""

# ruff: noqa: S608 - the texts are put together from constants of ours; every value is bound

from __future__ import annotations

from typing import Final

from supervisor.core.states import MessageState
from supervisor.store.dialect.stored import StoredMessage, StoredReply
from supervisor.store.sql import SqlQuestions, columns
from supervisor.store.sql.questions import REPLAYED, REPLAYED_REPLIES
from supervisor.store.sql.sessions import Sessions

# What another process has handed in is new to the agent's owner, as a replay is.
_HANDED_IN: Final = "inbox.id IN (SELECT id FROM inbox_open WHERE handed_in)"
_NEWS: Final = REPLAYED.replace("inbox.replay > 0", f"(inbox.replay > 0 OR {_HANDED_IN})")
_MINE: Final = (
    "(SELECT key, agent_id FROM agent_keys JOIN leases USING (agent_id) WHERE owner = :replica) AS agent_keys"
)
_COUNTS: Final = (
    f"SELECT agent_id, state, count(*) FROM {_MINE} JOIN inbox_open ON agent_key = key GROUP BY agent_id, state"
)


class PostgresQuestions(SqlQuestions):
    """As :class:`SqlQuestions`; what was handed in counts as replayed until it is begun.

    Args:
        replica: of this process: of what all agents have it is asked for those alone that it runs. None: it runs none,
            and whoever asks means all.
    """

    def __init__(self, sessions: Sessions, replica: int | None) -> None:
        super().__init__(sessions)
        self._replica = replica

    async def replayed(self) -> list[StoredMessage]:
        return await self._messages(self._of_mine(_NEWS), **self._mine)

    async def replayed_replies(self) -> list[StoredReply]:
        return await self._replies(self._of_mine(REPLAYED_REPLIES), **self._mine)

    async def counts(self) -> dict[str, dict[MessageState, int]]:
        if self._replica is None:
            return await super().counts()
        return columns.counts(await self._rows(_COUNTS, **self._mine))

    @property
    def _mine(self) -> dict[str, int]:
        return {} if self._replica is None else {"replica": self._replica}

    def _of_mine(self, statement: str) -> str:
        """A statement that goes agent by agent, for the agents of this process."""
        return statement if self._replica is None else statement.replace("FROM agent_keys", f"FROM {_MINE}", 1)
