"""The statements that run often find their rows by an index."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.store import upgrade
from supervisor.store.sql import changes, pruning, questions


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        pytest.param(questions.COUNTS, "inbox_open", id="counts"),
        pytest.param(questions.UNSETTLED, "inbox_open", id="unsettled"),
        pytest.param(questions.REPLAYED, "inbox_open", id="replayed"),
        pytest.param(questions.KNOWN_KEYS, "message_key=?", id="known_keys"),
        pytest.param(questions.ASKED, "inbox_conversation", id="said"),
        pytest.param(questions.ANSWERED, "outbox_conversation", id="answered"),
        pytest.param(questions.SUMMARY, "conversation_id=?", id="summary"),
        pytest.param(pruning.PRUNE_SUMMARIES, "conversation_summaries_since", id="prune_summaries"),
        pytest.param(questions.UNSENT, "outbox_open", id="unsent"),
        pytest.param(questions.UNSENT_OF_ALL, "outbox_open", id="unsent_of_all"),
        pytest.param(questions.OWN_REPLIES, "outbox_conversation", id="own_replies"),
        pytest.param(questions.DEAD_REPLIES, "outbox_conversation", id="dead_replies"),
        pytest.param(questions.REPLAYED_REPLIES, "outbox_open", id="replayed_replies"),
        pytest.param(changes.CANCEL, "inbox_open", id="cancel"),
        pytest.param(changes.CANCEL_REMOVED, "inbox_open", id="cancel_removed"),
        pytest.param(changes.CANCEL_REMOVED_REPLIES, "outbox_open", id="cancel_removed_replies"),
    ],
)
async def test_what_must_be_cheap_uses_its_index(tmp_path: Path, statement: str, index: str) -> None:
    path = tmp_path / "supervisor.db"
    await upgrade(f"sqlite+aiosqlite:///{path}")
    named = dict.fromkeys(re.findall(r":(\w+)", statement), 1)
    for name in named.keys() & questions.LISTS:
        statement, named = questions.within(statement, name, named | {name: [b"1"]})
    with closing(sqlite3.connect(path)) as connection:
        assert index in str(connection.execute(f"EXPLAIN QUERY PLAN {statement}", named).fetchall())
