"""What is read of a journal that several processes write."""

from __future__ import annotations

from typing import Final

from supervisor.store.dialect.stored import StoredMessage
from supervisor.store.sql import SqlQuestions
from supervisor.store.sql.questions import REPLAYED

# What another process has handed in is new to the agent's owner, as a replay is.
_HANDED_IN: Final = "inbox.id IN (SELECT id FROM inbox_open WHERE handed_in)"
_NEWS: Final = REPLAYED.replace("inbox.replay > 0", f"(inbox.replay > 0 OR {_HANDED_IN})")


class PostgresQuestions(SqlQuestions):
    """As :class:`SqlQuestions`; what was handed in counts as replayed until it is begun."""

    async def replayed(self) -> list[StoredMessage]:
        return await self._messages(_NEWS)
