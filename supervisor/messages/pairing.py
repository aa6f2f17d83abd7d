"""Tells the second delivery of a message without an id from a second message that says the same."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.platform.connection import Connection
from supervisor.protocol import InboundMessage

#: How many deliveries are remembered: more than come in without an id while two sockets are open.
REMEMBERED = 512
#: How long the second delivery of a message may come after the first.
PAIR_SECONDS = 10.0


@dataclass(slots=True)
class _Delivery:
    """One message without an id, and the sockets that brought it."""

    essence: tuple[object, ...]
    at: float
    sources: list[Connection]


class Pairing:
    """Pairs the deliveries of two sockets: each socket brings a message once if it is in the conversation.

    A delivery is the second of a pair if another socket brought the same content while this socket was in the
    conversation already. If this socket joined later, the other socket's delivery may be an earlier message that says
    the same. Then both count, for a duplicate is better than a loss.
    """

    def __init__(self) -> None:
        self._deliveries: list[_Delivery] = []

    def is_second(self, message: InboundMessage, source: Connection, now: float) -> bool:
        """Whether another socket has brought this message already.

        Args:
            now: monotonic seconds.
        """
        while self._deliveries and now - self._deliveries[0].at > PAIR_SECONDS:
            self._deliveries.pop(0)
        said = essence(message)
        since = source.member_since(message.conversation_id)
        if since is not None:
            for delivery in self._deliveries:
                if delivery.essence == said and delivery.at >= since and source not in delivery.sources:
                    delivery.sources.append(source)
                    return True
        self._deliveries.append(_Delivery(said, now, [source]))
        del self._deliveries[:-REMEMBERED]
        return False


def essence(message: InboundMessage) -> tuple[object, ...]:
    """What tells one message from another where neither has an id."""
    return (
        message.conversation_id,
        message.role,
        message.content,
        message.type,
        message.external_username,
        message.attachments,
    )
