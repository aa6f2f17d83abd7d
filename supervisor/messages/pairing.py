"""Tells the second delivery of a message without an id from a second message that says the same (DESIGN §4)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from supervisor.protocol import InboundMessage

#: Deliveries that are remembered: more than come in without an id while two sockets are open.
REMEMBERED = 512
#: A delivery whose twin has not come by then has none.
PAIR_SECONDS = 10.0


class Source(Protocol):
    """A socket: what brings messages."""

    def member_since(self, conversation_id: str) -> float | None:
        """From when on it has certainly been in a conversation (monotonic seconds); None where that is not known."""
        ...

    def record_member(self, conversation_id: str, at: float) -> None:
        """It has been in a conversation since ``at`` at the latest."""
        ...


@dataclass(slots=True)
class _Delivery:
    """One message without an id, and the sockets that brought it."""

    essence: tuple[object, ...]
    at: float
    sources: list[Source]


class Pairing:
    """Pairs deliveries by occurrence: each message comes once over each socket that is in its conversation.

    A delivery belongs to one that another socket brought after this one had joined the conversation: then both must
    bring it. What came before that may have been another message; it counts as one, for a duplicate is better than
    a loss.
    """

    def __init__(self) -> None:
        self._deliveries: deque[_Delivery] = deque(maxlen=REMEMBERED)

    def is_second(self, message: InboundMessage, source: Source, now: float) -> bool:
        """Whether another socket has brought this very message already.

        Args:
            now: monotonic seconds.
        """
        while self._deliveries and now - self._deliveries[0].at > PAIR_SECONDS:
            self._deliveries.popleft()
        essence = _essence(message)
        since = source.member_since(message.conversation_id)
        if since is not None:
            for delivery in self._deliveries:
                if delivery.essence == essence and delivery.at >= since and source not in delivery.sources:
                    delivery.sources.append(source)
                    return True
        self._deliveries.append(_Delivery(essence, now, [source]))
        return False


def _essence(message: InboundMessage) -> tuple[object, ...]:
    return (
        message.conversation_id,
        message.role,
        message.content,
        message.type,
        message.external_username,
        message.attachments,
    )
