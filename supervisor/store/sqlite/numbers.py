"""The numbers that rows get."""

from __future__ import annotations

from sqlalchemy import Connection


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

    def load(self, connection: Connection) -> None:
        """Take up where the database is: at opening, and when another process has written rows too."""
        self.forget()
        self._keys.clear()
        self.inbox = max(self.inbox, connection.exec_driver_sql("SELECT max(id) FROM inbox").scalar() or 0)
        self.outbox = max(self.outbox, connection.exec_driver_sql("SELECT max(id) FROM outbox").scalar() or 0)

    def agent_key(self, connection: Connection, agent_id: str) -> int:
        """The small integer that stands for an agent in the journal; made when it is first needed."""
        key = self._keys.get(agent_id) or self._fresh.get(agent_id)
        if key is None:
            connection.exec_driver_sql(
                "INSERT INTO agent_keys (agent_id) VALUES (?) ON CONFLICT (agent_id) DO NOTHING", (agent_id,)
            )
            key = connection.exec_driver_sql("SELECT key FROM agent_keys WHERE agent_id = ?", (agent_id,)).scalar_one()
            self._fresh[agent_id] = key
        return key

    def keep(self) -> None:
        """The transaction that made keys is committed."""
        self._keys.update(self._fresh)
        self._fresh.clear()

    def forget(self) -> None:
        """The transaction that made keys is rolled back."""
        self._fresh.clear()
