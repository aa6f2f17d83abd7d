"""What the journal is asked without changing it; every answer is committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final, Unpack

from supervisor.core.records import JournaledMessage, Reply, Said, Undelivered, undelivered
from supervisor.core.states import MessageState
from supervisor.core.turns import Turns
from supervisor.store.dialect import JournalQuestions, TextCodec
from supervisor.store.dialect.stored import MessageFilter, Spoken, StoredMessage, StoredReply
from supervisor.store.hooks import JournalHooks

_NO_BOUND: Final = 2**63 - 1
#: Rows that are read for each message of a history.
_ROWS_FOR_ONE: Final = 4


class JournalReader:
    """The questions to inbox and outbox.

    A row whose text cannot be read has its ``problem`` set and never fails the reading of the others.

    Args:
        questions: where they are put.
        texts: how messages and errors are stored, encrypted or not.
    """

    def __init__(self, questions: JournalQuestions, texts: TextCodec) -> None:
        self._questions = questions
        self._texts = texts
        # Thousands of rows, or a hundred of a megabyte each, are decoded in the event loop.
        self._turns = Turns()
        self.hooks = JournalHooks()

    async def load(self, inbox_id: int) -> JournaledMessage | None:
        """One message of the inbox."""
        found = await self._messages(await self._questions.load([inbox_id]))
        return found[0] if found else None

    async def unsent(self, agent_id: str) -> list[Reply]:
        """Replies of an agent that are pending or sent, in order of their ids.

        Without those whose text cannot be read (its key is gone): they stay as they are, for the start that can.
        """
        replies = await self._replies(await self._questions.unsent(agent_id))
        self._warn_unreadable([reply for reply in replies if reply.problem])
        return [reply for reply in replies if not reply.problem]

    async def undelivered(self, agent_id: str | None = None) -> dict[str, Undelivered]:
        """The replies of an agent, None: of every agent, that wait because sending failed; agents without are left out.

        As :func:`supervisor.core.records.undelivered` counts them, from the journal alone.
        """
        queues: dict[str, dict[str, list[Reply]]] = {}
        for reply in await self._replies(await self._questions.unsent(agent_id)):
            queues.setdefault(reply.agent_id, {}).setdefault(reply.conversation_id, []).append(reply)
        found = {owner: undelivered(own.values()) for owner, own in queues.items()}
        return {owner: waiting for owner, waiting in found.items() if waiting.number}

    async def replies(self, inbox_id: int) -> list[Reply]:
        """Every reply to one message, in order of their ids."""
        return await self._replies(await self._questions.replies_of(inbox_id))

    async def answered_by(self, replies: Collection[Reply]) -> dict[int, JournaledMessage]:
        """The messages that some replies answer, by the replies' numbers; one that was erased is left out."""
        ids = sorted({reply.inbox_id for reply in replies if reply.inbox_id is not None})
        if not ids:
            return {}
        found = {row.id: row for row in await self._messages(await self._questions.load(ids))}
        answered = {}
        for reply in replies:
            row = found.get(reply.inbox_id or 0)
            # A number can be given again once its message is pruned.
            if row and (row.agent_id, row.conversation_id) == (reply.agent_id, reply.conversation_id):
                answered[reply.id] = row
        return answered

    async def dead_replies(self, inbox_ids: Collection[int]) -> list[Reply]:
        """The dead replies to some messages, in order of their ids, but for those that a later replay has replaced."""
        return await self._replies(await self._questions.dead_replies(list(inbox_ids)))

    async def replayed_replies(self) -> list[Reply]:
        """Replies of any agent that a person replayed and that were not sent since, in order of their ids.

        Without those whose text cannot be read, as in :meth:`unsent`.
        """
        return [reply for reply in await self._replies(await self._questions.replayed_replies()) if not reply.problem]

    async def counts(self) -> dict[str, dict[MessageState, int]]:
        """How many messages are available, retryable, running and dead, for each agent that has any."""
        return await self._questions.counts()

    async def known_keys(self, agent_id: str, keys: Collection[str]) -> set[str]:
        """Which of some message keys are in an agent's inbox, in any state."""
        return await self._questions.known_keys(agent_id, list(keys))

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
        bound = _NO_BOUND if before_id is None else before_id
        found = await self._questions.own_replies(agent_id, conversation_id, since=since, before_id=bound, limit=limit)
        return [reply for reply in await self._replies(found) if not reply.problem]

    async def conversations(self, agent_id: str, *, since: float, limit: int) -> list[tuple[str, float]]:
        """An agent's conversations seen at or after ``since``, and when that was, most recently active first.

        Times are seconds since the epoch.
        """
        return await self._questions.conversations(agent_id, since, limit)

    async def left_conversations(self, agent_id: str, *, limit: int) -> list[tuple[str, float]]:
        """The conversations that an agent left, and when (seconds since the epoch), the one left last at the end."""
        return await self._questions.left_conversations(agent_id, limit)

    async def messages(self, *, limit: int = 100, **conditions: Unpack[MessageFilter]) -> list[JournaledMessage]:
        """Messages that meet every condition given, the newest first."""
        return await self._messages(await self._questions.messages(conditions, limit))

    async def history(
        self,
        agent_id: str,
        conversation_id: str,
        limit: int,
        *,
        without_commands: bool = False,
        up_to_id: int | None = None,
    ) -> list[Said]:
        """The last ``limit`` messages and replies (acked or on their way), oldest first, each reply behind its message.

        Apologies and notices are no part of it.

        Args:
            without_commands: leave out ``/stop`` and its like, and what was answered to them.
            up_to_id: leave out messages with a larger id, and the replies to them.
        """
        bound = _NO_BOUND if up_to_id is None else up_to_id
        # Much of what an agent sends may be signs of its work, which do not count; a body tells only once it is read.
        asked, answered = await self._questions.conversation(agent_id, conversation_id, limit * _ROWS_FOR_ONE, bound)
        commands: set[int] = set()
        if without_commands:
            commands = {one.id async for one in self._turns.each(asked) if self._texts.is_command(one.body)}
        spoken = [one for one in in_turn(asked, answered) if one.inbox_id not in commands]
        read = [self._texts.said(one) async for one in self._turns.each(spoken)]
        lines = [said for said in read if said is not None]
        return lines[-limit:] if limit > 0 else []

    async def _messages(self, stored: Sequence[StoredMessage]) -> list[JournaledMessage]:
        return [self._texts.message(one) async for one in self._turns.each(stored)]

    async def _replies(self, stored: Sequence[StoredReply]) -> list[Reply]:
        return [self._texts.reply(one) async for one in self._turns.each(stored)]

    def _warn_unreadable(self, unreadable: Sequence[JournaledMessage | Reply]) -> None:
        found = Counter((one.agent_id, one.problem or "") for one in unreadable)
        for (agent_id, problem), number in found.items():
            self.hooks.on_unreadable(agent_id, number, problem)


def in_turn(asked: Sequence[Spoken], answered: Sequence[Spoken]) -> list[Spoken]:
    """A conversation's messages in the order in which they are worked on, each with its replies behind it.

    A reply that answers none stands behind what had been said by then.
    """
    placed = [((one.id, 0, 0), one) for one in asked]
    for one in answered:
        after = one.inbox_id or max((said.id for said in asked if said.at <= one.at), default=0)
        placed.append(((after, 1, one.id), one))
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]
