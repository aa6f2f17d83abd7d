"""A message as authors of handlers meet it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from supervisor.handler import Message


def test_errors_call_it_what_authors_call_it() -> None:
    message: Any = Message(conversation_id="c", role="user", content="hi")
    with pytest.raises(AttributeError, match=r"^'Message' object has no attribute 'text'"):
        _ = message.text
    assert pickle.loads(pickle.dumps(message)) == message
