"""The platform's messages as typed values, in both directions (PROTOCOL §1, §4, §5). No I/O.

Inbound is read leniently where the platform is known to vary and strictly where a reply depends on it: only
``conversationId``, ``role`` and ``content`` are required of a message, an optional field of the wrong type is left out
and named in ``malformed``, and unknown fields are ignored. Outbound is checked strictly, because v1 refuses what is
not right and v2 passes it on to people.
"""

from supervisor.protocol.answers import (
    PLACEHOLDER_PROMPTS,
    ConnectAnswer,
    Deployment,
    Instruction,
    parse_connect_answer,
)
from supervisor.protocol.events import Membership, Presence, ReadReceipt, SendOutcome, Typing, parse_event
from supervisor.protocol.fields import (
    ROLES,
    TYPES,
    FunctionCall,
    InvalidEventError,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from supervisor.protocol.history import HistoryPage, HistoryRow, parse_history
from supervisor.protocol.inbound import MAX_LIST_ITEMS, InboundMessage, parse_message
from supervisor.protocol.outbound import InvalidMessageError, OutboundMessage, check_outbound, reply_id
from supervisor.protocol.text import MAX_CONTENT_CHARS, MAX_ID_CHARS, clean_text, is_attachment, is_object_id

__all__ = [
    "MAX_CONTENT_CHARS",
    "MAX_ID_CHARS",
    "MAX_LIST_ITEMS",
    "PLACEHOLDER_PROMPTS",
    "ROLES",
    "TYPES",
    "ConnectAnswer",
    "Deployment",
    "FunctionCall",
    "HistoryPage",
    "HistoryRow",
    "InboundMessage",
    "Instruction",
    "InvalidEventError",
    "InvalidMessageError",
    "Membership",
    "OutboundMessage",
    "Presence",
    "ReadReceipt",
    "SendOutcome",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "Typing",
    "Usage",
    "check_outbound",
    "clean_text",
    "is_attachment",
    "is_object_id",
    "parse_connect_answer",
    "parse_event",
    "parse_history",
    "parse_message",
    "reply_id",
]
