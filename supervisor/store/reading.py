"""What the journal is asked without changing it; every answer is committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from supervisor.core.records import JournaledMessage, Reply
from supervisor.core.states import MessageState
from supervisor.store import codec, queries
from supervisor.store.reader import Reader

T = TypeVar("T")
_NO_BOUND = 2**63 - 1


class JournalReader:
    """The questions to inbox and outbox.

    A row whose text cannot be read has its ``problem`` set and never fails the reading of the others.

    Args:
        reader: where it reads.
        texts: how messages and errors are stored, encrypted or not.
    """

    def __init__(self, reader: Reader, texts: codec.TextCodec) -> None:
        self._reader = reader
        self._texts = texts
        #: Called on the loop with an agent's id, how many of its rows cannot be read, and why, when that is found.
        self.on_unreadable: Callable[[str, int, str], None] | None = None

    async def load(self, inbox_id: int) -> JournaledMessage | None:
        """One message of the inbox."""
        return await self._read(partial(queries.load, inbox_id=inbox_id))

    async def unsent(self, agent_id: str) -> list[Reply]:
        """Replies of an agent that are pending or sent, in order of their ids.

        Without those whose text cannot be read (its key is gone): they stay as they are, for the start that can.
        """
        replies = await self._read(partial(queries.unsent, agent_id=agent_id))
        self._tell_unreadable([reply for reply in replies if reply.problem])
        return [reply for reply in replies if not reply.problem]

    async def replies(self, inbox_id: int) -> list[Reply]:
        """Every reply to one message, in order of their ids."""
        return await self._read(partial(queries.replies_of, inbox_id=inbox_id))

    async def answered_by(self, replies: Collection[Reply]) -> dict[int, JournaledMessage]:
        """The messages that some replies answer, by the replies' numbers; one that was erased is left out."""
        ids = sorted({reply.inbox_id for reply in replies if reply.inbox_id is not None})
        if not ids:
            return {}
        found = {row.id: row for row in await self._read(partial(queries.load_some, inbox_ids=ids))}
        answered = {}
        for reply in replies:
            row = found.get(reply.inbox_id or 0)
            # A number can be given again once its message is pruned.
            if row and (row.agent_id, row.conversation_id) == (reply.agent_id, reply.conversation_id):
                answered[reply.id] = row
        return answered

    async def dead_replies(self, inbox_ids: Collection[int]) -> list[Reply]:
        """The dead replies to some messages, in order of their ids, but for those that a later replay has replaced."""
        return await self._read(partial(queries.dead_replies, inbox_ids=list(inbox_ids)))

    async def replayed_replies(self) -> list[Reply]:
        """Replies of any agent that a person replayed and that were not sent since, in order of their ids.

        Without those whose text cannot be read, as in :meth:`unsent`.
        """
        return [reply for reply in await self._read(queries.replayed_replies) if not reply.problem]

    async def counts(self) -> dict[str, dict[MessageState, int]]:
        """How many messages are available, retryable, running and dead, for each agent that has any."""
        return await self._reader.read(queries.counts)

    async def seen_keys(self, agent_id: str, limit: int) -> list[str]:
        """The newest ``limit`` message keys of an agent, oldest first."""
        return await self._reader.read(partial(queries.seen_keys, agent_id=agent_id, limit=limit))

    async def known_keys(self, agent_id: str, keys: Collection[str]) -> set[str]:
        """Which of some message keys are in an agent's inbox, in any state."""
        return await self._reader.read(partial(queries.known_keys, agent_id=agent_id, keys=list(keys)))

    async def own_replies(
        self,
        agent_id: str,
        conversation_id: str,
        *,
        limit: int,
        since: float = 0.0,
        before_id: int | None = None,
    ) -> list[Reply]:
        """The newest ``limit`` replies of a conversation in any state, oldest first, but for what cannot be read.

        Args:
            since: only those that are on their way or were settled at or after this, in seconds since the epoch.
            before_id: only those that came before this one.
        """
        query = partial(
            queries.own_replies,
            agent_id=agent_id,
            conversation_id=conversation_id,
            limit=limit,
            since=since,
            before_id=_NO_BOUND if before_id is None else before_id,
        )
        return [reply for reply in await self._read(query) if not reply.problem]

    async def conversations(self, agent_id: str, *, since: float, limit: int) -> list[tuple[str, float]]:
        """An agent's conversations seen at or after ``since``, and when that was, most recently active first.

        Times are seconds since the epoch.
        """
        return await self._reader.read(partial(queries.conversations, agent_id=agent_id, since=since, limit=limit))

    async def messages(
        self,
        *,
        agent_id: str | None = None,
        conversation_id: str | None = None,
        states: Iterable[MessageState] | None = None,
        older_than: float | None = None,
        newer_than: float | None = None,
        undelivered: bool = False,
        dead_letters: bool = False,
        before_id: int | None = None,
        limit: int = 100,
    ) -> list[JournaledMessage]:
        """Messages that meet every condition given, the newest first.

        Args:
            older_than, newer_than: received before, and at or after this; seconds since the epoch.
            undelivered: only those with a reply in the outbox that is dead or whose fate is unknown.
            dead_letters: only those that a person can replay: dead ones, and done ones with a dead reply.
            before_id: only those with a smaller id: the next page begins where the last one ended.
        """
        wanted = queries.MessageFilter(
            agent_id, conversation_id, states, older_than, newer_than, undelivered, dead_letters, before_id
        )
        return await self._read(partial(queries.messages, wanted=wanted, limit=limit))

    async def history(
        self, agent_id: str, conversation_id: str, limit: int, *, without_commands: bool = False
    ) -> list[tuple[str, str, float]]:
        """The last ``limit`` messages and replies (acked or on their way) as ``(role, content, at)``, oldest first.

        Args:
            without_commands: leave out ``/stop`` and its like, and what was answered to them.
        """
        where: dict[str, Any] = {"agent_id": agent_id, "conversation_id": conversation_id, "limit": limit}
        return await self._read(partial(queries.history, **where, without_commands=without_commands))

    async def _read(self, query: Callable[[Connection, codec.TextCodec], T]) -> T:
        return await self._reader.read(lambda connection: query(connection, self._texts))

    def _tell_unreadable(self, rows: Sequence[JournaledMessage | Reply]) -> None:
        if self.on_unreadable is not None:
            for (agent_id, problem), number in Counter((row.agent_id, row.problem or "") for row in rows).items():
                self.on_unreadable(agent_id, number, problem)
