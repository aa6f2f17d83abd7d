"""Stops agents that answer each other for ever (docs/faults.md#r17)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.core.clock import Clock
from supervisor.protocol import InboundMessage

#: The time in which messages are counted.
WINDOW_SECONDS = 60.0
#: How long a conversation is blocked once it is over the limit.
PAUSE_SECONDS = 60.0
#: How often the log tells of a conversation that goes on looping.
WARNING_SECONDS = 600.0


@dataclass(slots=True)
class _Conversation:
    """When messages that no person wrote came in the last minute, in monotonic seconds."""

    came_at: deque[float] = field(default_factory=deque)
    paused_until: float = 0.0
    warned_at: float | None = None


class LoopGuard:
    """Counts one agent's messages that no person wrote, by conversation.

    People are never held back: only messages of another role than ``user``, or that name an agent as their sender.

    Args:
        limit: such messages a minute in one conversation; asked each time, 0 is no limit.
        on_loop: told the conversation when its limit is passed, but not again and again.
    """

    def __init__(self, clock: Clock, limit: Callable[[], int], on_loop: Callable[[str], None]) -> None:
        self._clock = clock
        self._limit = limit
        self._on_loop = on_loop
        self._conversations: dict[str, _Conversation] = {}

    def blocks(self, message: InboundMessage) -> bool:
        """Count a message; whether it is over the limit, or falls into the pause after one that was."""
        if message.role == "user" and message.sender_agent_id is None:
            return False
        limit = self._limit()
        if not limit:
            return False
        now = self._clock.monotonic()
        self._forget(now)
        conversation = self._conversations.setdefault(message.conversation_id, _Conversation())
        if now < conversation.paused_until:
            return True
        while conversation.came_at and now - conversation.came_at[0] >= WINDOW_SECONDS:
            conversation.came_at.popleft()
        if len(conversation.came_at) < limit:
            conversation.came_at.append(now)
            return False
        conversation.came_at.clear()
        conversation.paused_until = now + PAUSE_SECONDS
        if conversation.warned_at is None or now - conversation.warned_at >= WARNING_SECONDS:
            conversation.warned_at = now
            self._on_loop(message.conversation_id)
        return True

    def _forget(self, now: float) -> None:
        """Drop conversations that have been quiet for so long that nothing of them matters."""
        if len(self._conversations) > 1000:
            self._conversations = {
                conversation_id: one
                for conversation_id, one in self._conversations.items()
                if (one.came_at and now - one.came_at[-1] < WINDOW_SECONDS)
                or (one.warned_at is not None and now - one.warned_at < WARNING_SECONDS)
            }
