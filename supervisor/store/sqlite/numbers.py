"""The numbers that rows get."""

from __future__ import annotations

import sqlite3

from supervisor.store.sql.sessions import scalar


class Numbers:
    """The numbers of messages, replies and agents, given in process so that rows of one batch can name each other.

    One process writes the journal, as a rule: its memory knows the highest numbers. Where another process has written
    too, a batch meets its numbers, and :meth:`load` takes up where the database is.

    Used in the writer's thread only. A number whose transaction was rolled back is not used again.
    """

    def __init__(self) -> None:
        self.inbox = 0
        self.outbox = 0
        self._keys: dict[str, int] = {}
        self._fresh: dict[str, int] = {}

    def load(self, connection: sqlite3.Connection) -> None:
        """Take up where the database is: at opening, and when another process has written rows too."""
        self.forget()
        self._keys.clear()
        self.inbox = max(self.inbox, scalar(connection, "SELECT max(id) FROM inbox") or 0)
        self.outbox = max(self.outbox, scalar(connection, "SELECT max(id) FROM outbox") or 0)

    def agent_key(self, connection: sqlite3.Connection, agent_id: str) -> int:
        """The small integer that stands for an agent in the journal; made when it is first needed."""
        key = self._keys.get(agent_id) or self._fresh.get(agent_id)
        if key is None:
            connection.execute(
                "INSERT INTO agent_keys (agent_id) VALUES (?) ON CONFLICT (agent_id) DO NOTHING", (agent_id,)
            )
            key = int(scalar(connection, "SELECT key FROM agent_keys WHERE agent_id = ?", (agent_id,)))
            self._fresh[agent_id] = key
        return key

    def keep(self) -> None:
        """The transaction that made keys is committed."""
        self._keys.update(self._fresh)
        self._fresh.clear()

    def forget(self) -> None:
        """The transaction that made keys is rolled back."""
        self._fresh.clear()
