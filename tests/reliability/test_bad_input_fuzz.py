"""R19: whatever else JSON can hold, sent by the platform in between messages that are well formed."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.nonsense import line
from tests.support.stack import agent_id

EVENTS = (
    "presence:update",
    "message:sent",
    "message:error",
    "message:read",
    "user:typing",
    "agent:typing",
    "user:joined",
    "user:left",
    "exception",
    "connect",
    "disconnect",
    "unknown:event",
    "",
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MESSAGE_FIELDS = (
    *("conversationId", "role", "content", "createdBy", "status", "_id", "participantId", "parentId", "type"),
    *("externalUsername", "createdAt", "attachments", "thinking", "toolCalls", "toolResults", "usage", "latency"),
)
fields = st.dictionaries(st.sampled_from(MESSAGE_FIELDS), anything, max_size=4)
ids = st.sampled_from([agent_id(1), agent_id(2), "c" * 24])
parts = st.dictionaries(
    st.sampled_from(
        ["type", "status", "agentId", "userId", "conversationId", "isTyping", "messageId", "success", "error"]
    ),
    anything | ids | st.sampled_from(["agent", "user", "online", "offline"]),
)
nonsense = st.one_of(
    st.tuples(st.just("message:new"), fields),
    st.tuples(st.just("message:new"), anything),
    st.tuples(st.sampled_from(EVENTS), anything | parts),
)


def send_all(nonsense_of_all_kinds: list[tuple[str, Any]]) -> None:
    """Send it all to one agent, in between valid messages; whatever is well formed in it is answered too."""

    async def scenario(folder: Path) -> None:
        async with line(folder) as on:
            for number, (event, payload) in enumerate(nonsense_of_all_kinds):
                is_message = event == "message:new" and isinstance(payload, dict)
                on.fleet.sandbox.emit(on.id, event, on.message(**payload) if is_message else payload)
                if number % 5 == 0:
                    await on.say()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(nonsense, min_size=20, max_size=40))
def test_r19_whatever_json_can_hold(nonsense_of_all_kinds: list[tuple[str, Any]]) -> None:
    send_all(nonsense_of_all_kinds)


@pytest.mark.soak
@pytest.mark.timeout(900)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(nonsense, min_size=30, max_size=80))
def test_r19_whatever_json_can_hold_for_long(nonsense_of_all_kinds: list[tuple[str, Any]]) -> None:
    send_all(nonsense_of_all_kinds)
