"""What an agent is to answer, and what it is not."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.messages.wanted import wanted

AGENT = "a" * 24
SAID = {"conversationId": "c1", "role": "user", "content": "hello", "_id": "k1"}


def test_what_people_say_is_wanted_though_it_names_the_agent() -> None:
    message = wanted({**SAID, "agentId": AGENT}, AGENT, ["user"])
    assert message is not None
    assert (message.id, message.content) == ("k1", "hello")


@pytest.mark.parametrize(
    "other",
    [
        {"participantId": AGENT},
        {"role": "assistant", "agentId": AGENT},
        {"createdBy": {"agentId": AGENT}},
        {"role": "assistant"},
        {"role": "from the future"},
        {"type": "thinking"},
        {"content": " "},
        {"skipAgent": True},
        {"conversationId": 7},
    ],
)
def test_what_it_said_itself_and_what_nobody_is_to_answer_is_not(other: dict[str, Any]) -> None:
    assert wanted({**SAID, **other}, AGENT, ["user"]) is None
