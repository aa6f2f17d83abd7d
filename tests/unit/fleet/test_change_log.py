"""Changes of the registry stand in the log with who made them; a history that fails keeps nobody from running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.actors import Actor, acting_as
from supervisor.core.records import AgentRecord
from supervisor.fleet.change_log import ChangeLog
from supervisor.store import Registry
from tests.support.observing import captured_logs


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True)
    await opened.add_agent(AgentRecord("a1", "echo", "env:SECRET"))
    yield opened
    await opened.close()


async def test_what_is_done_after_the_first_look_is_told(registry: Registry) -> None:
    changes = ChangeLog(registry)
    with captured_logs() as log:
        await changes.follow(["a1"])
        assert log == [], "what was before is no news"
        with acting_as(Actor("api", "full access by token from 10.0.0.1")):
            await registry.update_agent("a1", name="Ada")
        await registry.history.note("", "keys rotated", agents=1)
        await changes.follow(["a1"])
        await changes.follow([])
    assert [(one["event"], one["agent"], one["action"], one["actor"]) for one in log] == [
        ("registry_changed", "a1", "changed", "api"),
        ("registry_changed", "", "keys rotated", "supervisor"),
    ]
    assert log[0]["address"] == "full access by token from 10.0.0.1"
    assert "address" not in log[1]


async def test_a_history_that_cannot_be_read_is_said_and_no_more(registry: Registry) -> None:
    changes = ChangeLog(registry)
    await registry.close()
    with captured_logs() as log:
        await changes.follow(["a1"])
    assert [one["event"] for one in log] == ["history_failed"]
