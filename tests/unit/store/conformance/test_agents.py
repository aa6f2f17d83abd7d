"""The table of agents: what may be stored, and how it changes."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.errors import AgentExistsError, AgentNotFoundError, RegistryError
from supervisor.core.records import AgentRecord
from supervisor.store import Registry
from tests.support.stores import Opener

CLEAR = "hunter2-in-the-clear"


def record(agent_id: str = "a1", **fields: Any) -> AgentRecord:
    return AgentRecord(**{"id": agent_id, "handler": "echo", "secret": "env:AGENT_A1", **fields})


async def test_an_agent_comes_back_as_it_was_added(registry: Registry) -> None:
    added = record(name="Trợ lý", settings={"deep": {"list": [1, None, "x"]}}, labels={"team": "a"}, paused=True)
    await registry.add_agent(added)
    found = await registry.agent("a1")
    assert found.same_content(added)
    assert found.problem is None
    assert found.created_at == found.updated_at
    assert found.created_at.endswith("Z")
    assert await registry.agents() == [found]


async def test_adding_twice_and_changing_what_is_not_there_are_refused(registry: Registry) -> None:
    await registry.add_agent(record())
    with pytest.raises(AgentExistsError):
        await registry.add_agent(record())
    for missing in (registry.agent("a2"), registry.update_agent("a2", paused=True), registry.remove_agent("a2")):
        with pytest.raises(AgentNotFoundError):
            await missing
    await registry.remove_agent("a1")
    assert await registry.agents() == []


async def test_an_update_changes_only_what_it_names(registry: Registry) -> None:
    await registry.add_agent(record(settings={"model": "m"}, labels={"team": "a"}))
    changed = await registry.update_agent("a1", paused=True, labels={"team": "b"})
    assert (changed.paused, changed.labels, changed.settings, changed.handler) == (
        True,
        {"team": "b"},
        {"model": "m"},
        "echo",
    )
    assert (await registry.update_agent("a1")).same_content(changed)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "with space"},
        {"id": "tab\t"},
        {"id": "\u202e"},
        {"id": "x" * 129},
        {"id": 5},
        {"handler": ""},
        {"handler": " "},
        {"handler": None},
        {"settings": []},
        {"settings": {"a": float("nan")}},
        {"settings": {"a": object()}},
        {"settings": {1: "a"}},
        {"settings": {"a": "\ud800"}},
        {"labels": {"a": 1}},
        {"labels": "a"},
        {"paused": 1},
        {"name": None},
        {"name": "\ud800"},
    ],
)
async def test_what_must_not_be_stored_is_refused_in_one_line(registry: Registry, fields: dict[str, Any]) -> None:
    with pytest.raises(RegistryError) as caught:
        await registry.add_agent(record(**fields))
    assert "\n" not in str(caught.value)
    assert await registry.agents() == []


@pytest.mark.parametrize("secret", [CLEAR, "", "env:", "file:relative", "fernet:", f"vault:{CLEAR}", None])
async def test_a_secret_in_the_clear_is_refused_and_not_repeated(registry: Registry, secret: Any) -> None:
    await registry.add_agent(record("kept"))
    for attempt in (registry.add_agent(record(secret=secret)), registry.update_agent("kept", secret=secret)):
        with pytest.raises(RegistryError, match="reference") as caught:
            await attempt
        assert CLEAR not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert [agent.id for agent in await registry.agents()] == ["kept"]


async def test_unknown_fields_cannot_be_updated(registry: Registry) -> None:
    await registry.add_agent(record())
    for field in ("id", "created_at", "nonsense"):
        with pytest.raises(RegistryError, match=field):
            await registry.update_agent("a1", **{field: "x"})


async def test_an_import_is_all_or_nothing(registry: Registry) -> None:
    await registry.apply(add=[record("a1"), record("a2"), record("a3")])
    await registry.apply(add=[record("a4")], change=[record("a2", handler="other", name="two")], remove=["a3"])
    agents = {agent.id: agent for agent in await registry.agents()}
    assert set(agents) == {"a1", "a2", "a4"}
    assert (agents["a2"].handler, agents["a2"].name) == ("other", "two")
    before = await registry.agents()
    with pytest.raises(AgentExistsError):
        await registry.apply(add=[record("a5"), record("a1")], change=[record("a2", name="zwei")], remove=["a4"])
    with pytest.raises(AgentNotFoundError):
        await registry.apply(add=[record("a5")], change=[record("a9")])
    with pytest.raises(AgentNotFoundError):
        await registry.apply(add=[record("a5")], remove=["a9"])
    with pytest.raises(RegistryError, match="reference"):
        await registry.apply(add=[record("a5"), record("a6", secret=CLEAR)])
    assert await registry.agents() == before


async def test_an_agent_can_move_to_another_handler_by_removal_and_addition_at_once(registry: Registry) -> None:
    await registry.add_agent(record())
    await registry.apply(add=[record(handler="other")], remove=["a1"])
    assert (await registry.agent("a1")).handler == "other"


async def test_an_id_in_capitals_is_refused_with_the_one_to_write(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="a" * 24):
        await registry.add_agent(AgentRecord("A" * 24, "echo", "env:AGENT_X"))


async def test_a_change_is_made_of_what_the_row_is(registry: Registry) -> None:
    await registry.add_agent(record(labels={"team": "a"}))
    seen: list[AgentRecord] = []

    def change(before: AgentRecord) -> dict[str, Any]:
        seen.append(before)
        return {"labels": before.labels | {"floor": "2"}}

    [changed] = await registry.alter_agents(["a1"], change)
    assert changed.labels == {"team": "a", "floor": "2"}
    assert seen[-1].labels == {"team": "a"}

    def refuse(before: AgentRecord) -> dict[str, Any]:
        raise RegistryError(f"not {before.id}")

    with pytest.raises(RegistryError, match="not a1"):
        await registry.alter_agents(["a1"], refuse)
    assert await registry.agents() == [changed]


async def test_a_change_is_noticed_once_whoever_makes_it(registry: Registry, opened: Opener) -> None:
    other = await opened()
    assert not await registry.changed()
    await other.add_agent(record())
    assert await registry.changed()
    assert not await registry.changed()
    await other.update_agent("a1", paused=True)
    assert await registry.changed()
    await registry.update_agent("a1", paused=False)
    assert await registry.changed()
    assert not await registry.changed()
    with pytest.raises(AgentNotFoundError):
        await registry.remove_agent("a9")
    assert not await registry.changed()
    assert (await other.agent("a1")).same_content(await registry.agent("a1"))


async def test_the_journals_own_commits_are_no_change(registry: Registry) -> None:
    await registry.add_agent(record())
    assert await registry.changed()
    await registry.journal.record_conversation("a1", "c1", at=1.0)
    await registry.journal.maintenance.purge("a1")
    await registry.agents()
    assert not await registry.changed()
