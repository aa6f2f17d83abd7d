"""R18: a tool server dies, or hangs at initialise, and comes back."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.assistants import Assistants, assistants
from tests.support.fake_mcp import FakeMcp, fake_mcp
from tests.support.fake_models import Answer
from tests.support.observing import captured_logs, named
from tests.support.reliability import Case

CALL = Answer(tool_calls=(("mcp__We__weather", {"city": "Ulm"}),))
MISSING = "The tools of these servers cannot be used at the moment: We."


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Assistants]:
    async with assistants(tmp_path) as running:
        yield running


@pytest.fixture
async def tools() -> AsyncIterator[FakeMcp]:
    async with fake_mcp() as server:
        yield server


async def goes_on_without(fleet: Assistants, identity: str, figures: Case) -> None:
    """The agent answers, the model knows what it lacks, and the log says so once however often it is asked."""
    with captured_logs() as log:
        for _ in range(2):
            parts = await fleet.ask(identity, "hello")
            figures.messages += 1
            assert [part.content for part in parts] == ["Hello."]
            assert MISSING in fleet.models.requests[-1].said
            assert fleet.models.requests[-1].tools == []
    assert len(named(log, "tool_server_left_out")) == 1


async def has_its_tools(fleet: Assistants, identity: str, figures: Case) -> None:
    """The agent uses a tool."""
    healed = time.monotonic()
    fleet.models.say(CALL, Answer("Sunny."))
    parts = await fleet.ask(identity, "How is the weather?")
    figures.messages += 1
    figures.recovered(time.monotonic() - healed)
    assert [part.type for part in parts] == ["tool_call", "tool_result", "text"]
    assert parts[1].document["toolResults"][0]["success"] is True
    assert MISSING not in fleet.models.requests[-1].said


async def test_a_tool_server_that_dies_costs_its_tools_until_it_returns(
    fleet: Assistants, tools: FakeMcp, case: Callable[[str], Case]
) -> None:
    figures = case("R18 dies")
    identity, other = await fleet.add(servers={"We": tools}), await fleet.add()
    await has_its_tools(fleet, identity, figures)
    await tools.stop()
    figures.faults += 1
    await goes_on_without(fleet, identity, figures)
    assert (await fleet.ask(other, "hello"))[-1].content == "Hello."
    assert fleet.health(other) == "ok"
    assert fleet.health(identity).startswith("failing: tool server We: it cannot be used")
    with captured_logs() as log:
        await tools.start()
        await fleet.stack.until(lambda: named(log, "tool_server_back"))
    await has_its_tools(fleet, identity, figures)
    assert fleet.health(identity) == "ok"


async def test_a_tool_server_that_hangs_at_initialise_holds_up_nobody(
    fleet: Assistants, tools: FakeMcp, case: Callable[[str], Case]
) -> None:
    figures = case("R18 hangs")
    identity, other = await fleet.add(servers={"We": tools}, connect_seconds=1), await fleet.add()
    tools.hangs = True
    figures.faults += 1
    asked = await fleet.say(identity, "hello")
    await fleet.stack.until(lambda: tools.requests)
    assert (await fleet.ask(other, "hello"))[-1].content == "Hello."
    assert (await fleet.answer(*asked))[-1].content == "Hello."
    with captured_logs() as log:
        began = time.monotonic()
        await fleet.ask(identity, "hello")
        assert time.monotonic() - began < 1, "what is known to hang is not waited for again"
        assert named(log, "tool_server_left_out") == []
        tools.hangs = False
        await fleet.stack.until(lambda: named(log, "tool_server_back"))
    await has_its_tools(fleet, identity, figures)


async def test_a_tool_server_that_dies_in_the_middle_of_a_call_is_told_to_the_model(
    fleet: Assistants, tools: FakeMcp, case: Callable[[str], Case]
) -> None:
    figures = case("R18 call")
    identity = await fleet.add(servers={"We": tools}, tool_seconds=10)

    def dies(_request: object) -> Answer:
        tools.hangs = True
        return CALL

    fleet.models.say(dies, Answer("No weather today."))
    asked = await fleet.say(identity, "How is the weather?")
    await fleet.stack.until(lambda: "tools/call" in [method for method, _ in tools.requests])
    await tools.stop()
    figures.faults += 1
    parts = await fleet.answer(*asked)
    figures.messages += 1
    assert [part.type for part in parts] == ["tool_call", "tool_result", "text"]
    assert parts[1].document["toolResults"][0]["success"] is False
    assert parts[2].content == "No weather today."
    tools.hangs = False
    await tools.start()
    # What died in the middle of a call is asked again with the next message.
    await has_its_tools(fleet, identity, figures)
