"""Which messages are commands to the supervisor (``/stop`` …) and nothing that was said to a handler. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from supervisor.protocol import InboundMessage
from supervisor.protocol.history import HistoryRow

STOP: Final = "/stop"
RELOAD: Final = "/reload"
STATUS: Final = "/status"
WORDS: Final = frozenset({STOP, RELOAD, STATUS})


def command_in(message: InboundMessage) -> str | None:
    """The command that a person's message is: its whole content, case and blanks aside; None for all others."""
    if message.role != "user" or message.sender_agent_id is not None or message.attachments:
        return None
    word = message.content.strip().lower()
    return word if word in WORDS else None


def without_commands(rows: Sequence[HistoryRow], agent_id: str) -> list[HistoryRow]:
    """A platform's history, oldest first, without commands and the agent's answers to them."""
    # v2 keeps no types in its history: there all is text.
    answer_type = "system" if any(row.message.type == "system" for row in rows) else "text"
    kept: list[HistoryRow] = []
    unanswered = 0
    for row in rows:
        own = agent_id in (row.message.sender_agent_id, row.message.participant_id)
        if command_in(row.message):
            unanswered += 1
        elif own and unanswered and row.message.type == answer_type:
            # Nothing ties it to its command but that it is the next of its kind.
            unanswered -= 1
        else:
            kept.append(row)
    return kept
