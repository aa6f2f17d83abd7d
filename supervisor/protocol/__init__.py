"""The platform's messages as typed values, in both directions (docs/protocol.md).

Inbound is read leniently where the platform is known to vary and strictly where a reply depends on it: only
``conversationId``, ``role`` and ``content`` are required of a message, an optional field of the wrong type is left out
and named in ``malformed``, and unknown fields are ignored. Outbound is checked strictly, because v1 refuses what is
not right and v2 passes it on to people.

May import nothing of ours, and does no I/O. What is done about a message belongs to :mod:`supervisor.messages`, sockets
and calls to :mod:`supervisor.platform`. The modules hold the other types, and the limits.
"""

from supervisor.protocol.answers import parse_connect_answer
from supervisor.protocol.events import parse_event
from supervisor.protocol.fields import InvalidEventError
from supervisor.protocol.history import parse_history
from supervisor.protocol.inbound import InboundMessage, parse_message
from supervisor.protocol.outbound import InvalidMessageError, OutboundMessage, check_outbound, reply_id

__all__ = [
    "InboundMessage",
    "InvalidEventError",
    "InvalidMessageError",
    "OutboundMessage",
    "check_outbound",
    "parse_connect_answer",
    "parse_event",
    "parse_history",
    "parse_message",
    "reply_id",
]
