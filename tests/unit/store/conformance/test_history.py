"""Who changed what: noted with each change, without secrets, and enough to undo a removal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from supervisor.core.actors import Actor, acting_as
from supervisor.core.errors import AgentExistsError, AgentNotFoundError
from supervisor.core.records import AgentEvent, AgentRecord
from supervisor.protocol.answers import Instruction
from supervisor.store import Registry
from supervisor.store.dialect.history import MAX_EVENT_ID, MAX_EVENTS, MAX_INSTRUCTIONS
from supervisor.store.history import EVENT_SECONDS, MAX_INSTRUCTION_CHARS, UNDO_SECONDS
from tests.support.clock import ManualClock
from tests.support.stores import Opener

ANN = Actor("api", "full access by token from 10.0.0.1")
RECORD = AgentRecord(
    "a1", "echo", "fernet:c2VjcmV0", name="Ada", settings={"history": 3, "api_key": "hush"}, labels={"team": "x"}
)


def told(events: list[AgentEvent]) -> list[tuple[str, str]]:
    """What was done and by whom, the newest first."""
    return [(event.action, event.actor.kind) for event in events]


async def test_each_change_is_noted_with_who_made_it_and_what_it_made_of_the_row(opened: Opener) -> None:
    registry = await opened(clock=ManualClock(1_000.0))
    with acting_as(ANN):
        await registry.add_agent(RECORD)
        await registry.update_agent("a1", name="Grace", paused=True)
    await registry.update_agent("a1", paused=True)  # nothing that was not so
    await registry.remove_agent("a1")
    events = await registry.history.of("a1", 10)
    assert told(events) == [("removed", "supervisor"), ("changed", "api"), ("added", "api")]
    removed, changed, added = events
    assert {event.at for event in events} == {1_000.0}
    assert (changed.actor, changed.agent_id) == (ANN, "a1")
    assert added.before is None
    assert changed.before == added.after
    assert removed.before == changed.after
    assert removed.after is None
    assert (changed.before["name"], changed.after["name"], changed.after["paused"]) == ("Ada", "Grace", True)  # type: ignore[index]
    assert await registry.history.newest() == removed.id
    assert [event.id for event in await registry.history.after(added.id)] == [changed.id, removed.id]
    assert await registry.history.of("nobody", 10) == []


async def test_no_secret_is_in_it(opened: Opener) -> None:
    registry = await opened()
    await registry.add_agent(replace(RECORD, settings={"api_key": "hush", "deep": {"note": "fernet:aGlkZGVu"}}))
    [event] = await registry.history.of("a1", 1)
    assert event.after is not None
    assert event.after["secret"] == "fernet:sealed"
    assert event.after["settings"] == {"api_key": "[redacted]", "deep": {"note": "fernet:sealed"}}


async def test_a_history_is_bounded_in_number_and_in_size(opened: Opener) -> None:
    registry = await opened()
    await registry.add_agent(replace(RECORD, settings={"long": "x" * 100_000}))
    [event] = await registry.history.of("a1", 1)
    assert event.after is not None
    assert event.after["left_out_bytes"] > 100_000
    assert len(str(event.after)) < 1_000
    for number in range(MAX_EVENTS + 5):
        await registry.update_agent("a1", name=f"name {number}")
    events = await registry.history.of("a1", MAX_EVENTS)
    assert len(await registry.history.of("a1", 10 * MAX_EVENTS)) == MAX_EVENTS
    assert [event.after["name"] for event in events[:1] if event.after] == [f"name {MAX_EVENTS + 4}"]


async def test_a_removal_is_undone_within_a_day_with_all_that_the_row_held(opened: Opener) -> None:
    clock = ManualClock(1_000.0)
    registry = await opened(clock=clock)
    await registry.add_agent(RECORD)
    before = await registry.agent("a1")
    with pytest.raises(AgentExistsError):
        await registry.restore_agent("a1")
    await registry.remove_agent("a1")
    await clock.advance(UNDO_SECONDS - 1)
    restored = await registry.restore_agent("a1")
    assert restored.same_content(before)
    assert (restored.created_at, restored.secret) == (before.created_at, "fernet:c2VjcmV0")
    assert told(await registry.history.of("a1", 1)) == [("restored", "supervisor")]
    await registry.remove_agent("a1")
    await clock.advance(UNDO_SECONDS + 1)
    with pytest.raises(AgentNotFoundError):
        await registry.restore_agent("a1")
    with pytest.raises(AgentNotFoundError):
        await registry.restore_agent("never there")


async def test_what_is_old_goes_and_the_last_of_a_row_that_is_there_stays(opened: Opener) -> None:
    clock = ManualClock(1_000.0)
    registry = await opened(clock=clock)
    for agent in ("a1", "a2"):
        await registry.add_agent(replace(RECORD, id=agent))
        await registry.update_agent(agent, name="Grace")
    await registry.remove_agent("a2")
    await registry.history.note("a1", "messages purged", erased=3)
    assert await registry.history.prune(clock.now()) == 0
    assert await registry.history.prune(clock.now() + UNDO_SECONDS + 1) == 0
    with pytest.raises(AgentNotFoundError):
        await registry.restore_agent("a2")
    assert await registry.history.prune(clock.now() + EVENT_SECONDS + 1) == 5
    assert told(await registry.history.of(None, 10)) == [("changed", "supervisor")]


async def test_deeds_and_instructions_stand_beside_the_rows(opened: Opener) -> None:
    registry = await opened()
    await registry.add_agent(RECORD)
    nobodys = "No instruction configured for this agent."
    for text in (nobodys, "Be brief.", "Be brief.", "Be kind: token=hush", nobodys, nobodys):
        instruction = Instruction(system_prompt=text, guidelines=("never",) if "kind" in text else ())
        await registry.history.note_instructions({"a1": instruction, "a2": Instruction()})
    await registry.history.note("", "keys rotated", agents=2)
    events = await registry.history.of("a1", 10)
    assert told(events) == [
        ("keys rotated", "supervisor"),
        *[("instruction", "platform")] * 3,
        ("added", "supervisor"),
    ]
    none, kind, brief = events[1:4]
    assert (brief.before, brief.after) == (None, {"instruction": "Be brief.", "chars": 9})
    assert (kind.before, kind.after) == (
        brief.after,
        {"instruction": "Be kind: token=[redacted]", "chars": 19, "guidelines": '["never"]'},
    )
    assert (none.before, none.after) == (kind.after, None)
    assert events[0].after == {"agents": 2}
    assert await registry.history.of("a2", 10) == events[:1], "what was never written is no event"


async def test_an_instruction_that_is_another_each_time_leaves_the_rows_history_alone(opened: Opener) -> None:
    registry = await opened()
    await registry.add_agent(RECORD)
    for number in range(MAX_INSTRUCTIONS + 5):
        await registry.history.note_instructions({"a1": Instruction(system_prompt=f"{number} " + "x" * 50_000)})
    events = await registry.history.of("a1", 100)
    assert told(events) == [*[("instruction", "platform")] * MAX_INSTRUCTIONS, ("added", "supervisor")]
    assert events[0].after is not None
    assert (len(events[0].after["instruction"]), events[0].after["chars"]) == (MAX_INSTRUCTION_CHARS, 50_003)


async def test_a_history_is_read_page_by_page_with_what_was_before(opened: Opener) -> None:
    registry = await opened()
    await registry.apply(add=[RECORD, replace(RECORD, id="a2")])
    for number in range(5):
        await registry.update_agent(f"a{1 + number % 2}", name=f"name {number}")
    pages, before_id = [], MAX_EVENT_ID
    while page := await registry.history.of(None, 3, before_id):
        pages.append(page)
        before_id = page[-1].id
    events = [event for page in pages for event in page]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert events == await registry.history.of(None, 10)
    names = [(event.agent_id, (event.before or {}).get("name"), (event.after or {})["name"]) for event in events]
    assert names[:3] == [("a1", "name 2", "name 4"), ("a2", "name 1", "name 3"), ("a1", "name 0", "name 2")]


async def test_what_was_removed_within_a_day_and_is_not_back_can_be_listed(opened: Opener) -> None:
    clock = ManualClock(1_000.0)
    registry = await opened(clock=clock)
    await registry.apply(add=[replace(RECORD, id=f"a{number}") for number in range(1, 5)])
    await registry.remove_agent("a1")
    await clock.advance(UNDO_SECONDS - 10)
    with acting_as(ANN):
        await registry.remove_agent("a2")
        await registry.remove_agent("a3")
    await registry.remove_agent("a4")
    await registry.restore_agent("a3")
    await registry.add_agent(replace(RECORD, id="a4", name="Another"))
    assert [event.agent_id for event in await registry.history.removals()] == ["a2", "a1"]
    removed = (await registry.history.removals())[0]
    assert (removed.actor, removed.name, removed.handler) == (ANN, "Ada", "echo")
    assert (removed.removed_at, removed.until) == (clock.now(), clock.now() + UNDO_SECONDS)
    await clock.advance(20)
    assert [event.agent_id for event in await registry.history.removals()] == ["a2"]


async def test_of_several_changes_at_once_all_or_none_are_noted(registry: Registry) -> None:
    await registry.add_agent(RECORD)
    given: dict[str, Any] = {"add": [replace(RECORD, id="a2")], "remove": ["nobody"]}
    with pytest.raises(AgentNotFoundError):
        await registry.apply(**given)
    assert told(await registry.history.of(None, 10)) == [("added", "supervisor")]
    await registry.apply(add=[replace(RECORD, id="a2")], remove=["a1"])
    assert sorted(told(await registry.history.of(None, 2))) == [("added", "supervisor"), ("removed", "supervisor")]
