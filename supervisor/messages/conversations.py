"""The conversations of one agent: after a reconnect it joins them again and asks what was said in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from supervisor.core.errors import RegistryError
from supervisor.messages.scope import Scope
from supervisor.protocol.inbound import is_task
from supervisor.telemetry.logs import get_logger

#: Conversations of one agent that are kept in memory: the most recently active ones.
LIMIT = 512


class Conversations:
    """One agent's conversations in the order of their last messages, the most recent last."""

    def __init__(self, scope: Scope) -> None:
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._clock = scope.clock
        self._log = get_logger("supervisor.inbox").bind(agent=scope.agent_id)
        self._recent: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent)

    def __contains__(self, conversation_id: object) -> bool:
        return conversation_id in self._recent

    def __iter__(self) -> Iterator[str]:
        return iter(self._recent)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._recent)

    async def restore(self, since: float) -> None:
        """Take up those that the journal knows.

        Args:
            since: seconds since the epoch; conversations that were quiet since then are left out.

        Raises:
            RegistryError: the journal cannot be read.
        """
        known = await self._journal.conversations(self._agent_id, since=since, limit=LIMIT)
        ids = (conversation_id for conversation_id, _ in reversed(known))
        self._recent.update((conversation_id, None) for conversation_id in ids if not is_task(conversation_id))

    def touch(self, conversation_id: str) -> None:
        """A message of a conversation was journaled."""
        self._recent[conversation_id] = None
        self._recent.move_to_end(conversation_id)
        if len(self._recent) > LIMIT:
            self._recent.popitem(last=False)

    async def joined(self, conversation_id: str) -> None:
        """The agent joined a conversation: after a reconnect it is to be in it again."""
        self.touch(conversation_id)
        try:
            await self._journal.record_conversation(self._agent_id, conversation_id, at=self._clock.now())
        except RegistryError as error:
            self._log.warning("conversation_not_noted", conversation=conversation_id, reason=str(error))

    async def left(self, conversation_id: str) -> None:
        """The agent left a conversation, or is not let in: it is not joined again until somebody writes in it."""
        self._recent.pop(conversation_id, None)
        try:
            await self._journal.forget_conversation(self._agent_id, conversation_id)
        except RegistryError as error:
            self._log.warning("conversation_not_forgotten", conversation=conversation_id, reason=str(error))
