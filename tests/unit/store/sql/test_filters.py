"""Conditions on messages, asked of a real table: each alone, and all together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import MessageState, ReplyState
from supervisor.store import Registry
from supervisor.store.dialect.stored import MessageFilter
from supervisor.store.sql.filters import conditions, parameters
from tests.support.journaling import AGENT, add, answer, settle

OTHER = "f" * 24


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    """Messages 1 to 4 of one agent and 5 of another; 2 is dead, 3 has a reply that is dead, 4 one that is unknown."""
    opened = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True)
    journal = opened.journal
    await add(journal, "waits", at=100.0)
    await journal.settle(await add(journal, "dead", at=200.0, claim=True), MessageState.DEAD, error="no")
    for key, at, state in (("refused", 300.0, ReplyState.DEAD), ("unsure", 400.0, ReplyState.UNKNOWN)):
        row = await add(journal, key, at=at, claim=True, conversation="c2")
        [reply] = await settle(journal, row, answer(conversation="c2"))
        await journal.mark_sent(reply)
        await journal.settle_reply(reply, state, error="no")
    await add(journal, "theirs", agent=OTHER, at=500.0)
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ({}, ["waits", "dead", "refused", "unsure", "theirs"]),
        ({"agent_id": OTHER}, ["theirs"]),
        ({"agent_id": "nobody"}, []),
        ({"agent_ids": [OTHER, "nobody"]}, ["theirs"]),
        ({"agent_ids": [OTHER, AGENT], "states": [MessageState.AVAILABLE]}, ["waits", "theirs"]),
        ({"agent_ids": []}, []),
        ({"conversation_id": "c2"}, ["refused", "unsure"]),
        ({"older_than": 300.0}, ["waits", "dead"]),
        ({"newer_than": 300.0}, ["refused", "unsure", "theirs"]),
        ({"before_id": 3}, ["waits", "dead"]),
        ({"states": [MessageState.DEAD]}, ["dead"]),
        ({"states": [MessageState.DONE, MessageState.AVAILABLE]}, ["waits", "refused", "unsure", "theirs"]),
        ({"states": []}, []),
        ({"undelivered": True}, ["refused", "unsure"]),
        ({"undelivered": False}, ["waits", "dead", "refused", "unsure", "theirs"]),
        ({"dead_letters": True}, ["dead", "refused"]),
        ({"dead_letters": True, "agent_id": AGENT, "older_than": 300.0}, ["dead"]),
        ({"dead_letters": True, "undelivered": True, "agent_id": AGENT}, ["refused"]),
    ],
)
async def test_only_what_meets_every_condition_is_found(
    registry: Registry, wanted: MessageFilter, keys: list[str]
) -> None:
    found = await registry.journal.messages(**wanted)
    assert [row.key for row in reversed(found)] == keys


def test_every_value_is_bound_and_none_is_in_the_text() -> None:
    given: dict[str, Any] = {"agent_id": "'; DROP TABLE inbox; --", "conversation_id": "c", "older_than": 5.0}
    wanted: MessageFilter = {**given, "states": [MessageState.DEAD], "dead_letters": True}  # type: ignore[typeddict-item]
    assert parameters(wanted) == given
    assert "DROP" not in " ".join(conditions(wanted))
