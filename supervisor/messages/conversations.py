"""The conversations of one agent: after a reconnect it joins them again and asks what was said in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from supervisor.core.errors import RegistryError
from supervisor.messages.missed import SLACK_SECONDS
from supervisor.messages.scope import Scope
from supervisor.protocol.inbound import is_task
from supervisor.telemetry.logs import AgentLog

#: Conversations of one agent that are kept in memory: the most recently active ones.
LIMIT = 512


class Conversations:
    """One agent's conversations in the order of their last messages, the most recent last."""

    _log = AgentLog("supervisor.inbox")

    def __init__(self, scope: Scope) -> None:
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._clock = scope.clock
        self._recent: OrderedDict[str, None] = OrderedDict()
        # When the agent left some, or was not let in, in seconds since the epoch.
        self._left: OrderedDict[str, float] = OrderedDict()

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
        self._left.update(await self._journal.left_conversations(self._agent_id, limit=LIMIT))

    def touch(self, conversation_id: str) -> None:
        """A message of a conversation was journaled."""
        self._left.pop(conversation_id, None)
        self._recent[conversation_id] = None
        self._recent.move_to_end(conversation_id)
        if len(self._recent) > LIMIT:
            self._recent.popitem(last=False)

    async def joined(self, conversation_id: str) -> None:
        """The agent joined a conversation: after a reconnect it is to be in it again."""
        self.touch(conversation_id)
        await self._record(conversation_id, self._clock.now())

    async def found(self, conversation_id: str, at: float) -> None:
        """A conversation was found that last changed ``at`` (seconds since the epoch), and the agent is in it now.

        Those that change later come before it; past the limit it is left to the platform's list.
        """
        if conversation_id not in self._recent and len(self._recent) < LIMIT:
            self._recent[conversation_id] = None
            self._recent.move_to_end(conversation_id, last=False)
        await self._record(conversation_id, at)

    async def _record(self, conversation_id: str, at: float) -> None:
        try:
            await self._journal.record_conversation(self._agent_id, conversation_id, at=at)
        except RegistryError as error:
            self._log.warning("conversation_not_noted", conversation=conversation_id, reason=str(error))

    async def left(self, conversation_id: str) -> None:
        """The agent left a conversation, or is not let in: it is not joined again until somebody writes in it."""
        self._recent.pop(conversation_id, None)
        self._left[conversation_id] = self._clock.now()
        if len(self._left) > LIMIT:
            self._left.popitem(last=False)
        try:
            await self._journal.forget_conversation(self._agent_id, conversation_id)
        except RegistryError as error:
            self._log.warning("conversation_not_forgotten", conversation=conversation_id, reason=str(error))

    def has_left(self, conversation_id: str, updated_at: float | None = None) -> bool:
        """Whether the agent left a conversation, or was not let in, and nobody has written there since.

        Args:
            updated_at: when it last changed, in seconds since the epoch, where that is known.
        """
        left_at = self._left.get(conversation_id)
        return left_at is not None and (updated_at is None or updated_at <= left_at)

    def left_about(self, conversation_id: str, at: float | None, now: float) -> bool:
        """Whether the agent left a conversation so near to ``at`` that the platform's clock and ours may disagree.

        Args:
            now: as the platform's conversations are dated. What was left after it was noted by a clock that was wrong.
        """
        left_at = self._left.get(conversation_id)
        if left_at is None or at is None:
            return False
        return abs(at - left_at) <= SLACK_SECONDS or left_at > now + SLACK_SECONDS
