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
_LONGEST: Final = max(map(len, WORDS))


def command_in(message: InboundMessage) -> str | None:
    """The command that a person's message is: its whole content, case and blanks aside; None for all others."""
    # The words first: every message is asked, and hardly any is one.
    word = message.content.strip()
    if len(word) > _LONGEST or (word := word.lower()) not in WORDS:
        return None
    if message.role != "user" or not message.said or message.sender_agent_id is not None or message.attachments:
        return None
    return word


def without_commands(rows: Sequence[HistoryRow], agent_id: str) -> list[HistoryRow]:
    """A platform's history, oldest first, without commands and the agent's answers to them."""
    left_out: set[int] = set()
    unanswered: list[int] = []
    for place, row in enumerate(rows):
        if command_in(row.message):
            unanswered.append(place)
        elif unanswered and row.message.type == "system" and _is_of(row, agent_id):
            # What answered a command had a type up to 0.1.0.
            left_out |= {unanswered.pop(0), place}
    for command in unanswered:
        # Nothing ties an answer to its command but that it is the next thing that the agent said.
        texts = (place for place in range(command + 1, len(rows)) if rows[place].message.type == "text")
        answer = next((place for place in texts if place not in left_out and _is_of(rows[place], agent_id)), command)
        left_out |= {command, answer}
    return [row for place, row in enumerate(rows) if place not in left_out]


def _is_of(row: HistoryRow, agent_id: str) -> bool:
    return agent_id in (row.message.sender_agent_id, row.message.participant_id)
