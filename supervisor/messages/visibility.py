"""Which parts of an answer people get to see: all of them, or not the signs of the agent's work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from supervisor.protocol import OutboundMessage

#: Signs of an agent's work, and no answers. A bridge sends them out as text (docs/protocol.md#7-findings).
SIGNS: Final = frozenset({"thinking", "tool_call", "tool_result"})


def visible(message: OutboundMessage, show: Sequence[str] | None, *, bridged: bool) -> OutboundMessage | None:
    """What is sent of a part; None where the whole of it is a sign of work that people are not to see.

    Args:
        show: the row's setting: the signs of work that are shown, in every conversation. None: all of them, but none
            in bridged conversations.
        bridged: whether the conversation is with somebody on Discord, Telegram or their like.
    """
    shown = SIGNS.difference(SIGNS if bridged else ()) if show is None else SIGNS.intersection(show)
    if message.type in SIGNS - shown:
        return None
    if message.type not in SIGNS:
        # An answer may carry its thinking and its tools with it.
        for kind, name, empty in _CARRIED:
            if kind not in shown and getattr(message, name):
                message = msgspec.structs.replace(message, **{name: empty})
    return message


_CARRIED: Final = (("thinking", "thinking", None), ("tool_call", "tool_calls", ()), ("tool_result", "tool_results", ()))
