"""What people see of an agent, as their clients draw it (docs/protocol.md#9-display), over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.messages.health import FORBIDDEN
from supervisor.messages.notices import APOLOGY
from supervisor.sandbox import SandboxUser
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, handler_module, stack

HANDLERS = {
    "shows": '''
"""Shows its work on the way to two answers, and takes its time after the first."""
import asyncio
from supervisor.handler import Reply, Thinking, ToolCall, ToolResult

gate = asyncio.Event()

async def on_message(message, ctx):
    if message.content == "fail":
        raise ValueError("no")
    yield Thinking("hm")
    call = ToolCall("look", {})
    yield call
    yield ToolResult(call, "found")
    yield Reply("one", type="text", thinking=Thinking("really"))
    if message.content == "wait":
        await gate.wait()
    yield Reply("two", type="error", error="two")
'''
}
SIGNS = ["thinking", "tool_call", "tool_result"]
KNOWS = """
from supervisor.handler import Reply, Source

def on_message(message, ctx):
    return Reply("At nine.", sources=[Source("rag", "Open at nine.", label="Hours", score=0.5, collection_id="k1")])
"""


@pytest.fixture(params=["v1", "v2", "v3"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stack]:
    """A stack on each generation of the platform, the third in its first stage."""
    platform = {"profile": request.param, **({"stage": "i"} if request.param == "v3" else {})}
    async with stack(tmp_path, sandbox_settings=platform, agents_dir=handlers_folder(tmp_path, HANDLERS)) as running:
        yield running


@pytest.fixture
async def v2(tmp_path: Path) -> AsyncIterator[Stack]:
    """A stack on v2, which sends all that an assistant says over its bridge."""
    folder = handlers_folder(tmp_path, HANDLERS)
    platform = {"profile": "v2", "first_bridged_lost": False}
    async with stack(tmp_path, sandbox_settings=platform, agents_dir=folder) as running:
        yield running


def seen(user: SandboxUser, agent: str) -> list[str | bool]:
    """What came of an agent, in order: whether it types, and what it said."""
    events: list[str | bool] = []
    for name, payload in user.received:
        if name == "agent:typing" and payload["agentId"] == agent:
            events.append(payload["isTyping"])
        elif name == "message:new" and payload["role"] != "user":
            events.append(payload["content"])
    return events


def types(fleet: Stack, conversation: str) -> list[Any]:
    """The types of what the agent said, as people's clients get them; v1 stores what has none as text."""
    stored = "text" if fleet.sandbox.config.profile == "v1" else None
    said = [one for one in fleet.sandbox.messages(conversation) if one.sender_kind == "agent"]
    return [None if one.type == stored else one.type for one in said]


async def test_what_is_meant_for_people_has_no_type(fleet: Stack) -> None:
    agent = await fleet.add(1, "shows", settings={"max_attempts": 1})
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(agent)
    await user.wait_for_reply(conversation, after=await user.say(conversation, "hello"), count=2)
    await user.wait_for_reply(conversation, after=await user.say(conversation, "fail"))
    await user.wait_for_reply(conversation, after=await user.say(conversation, "/status"))
    said = [one.content for one in fleet.sandbox.messages(conversation) if one.sender_kind == "agent"]
    assert said[3:6] == ["one", "two", APOLOGY]
    assert types(fleet, conversation) == [*SIGNS, None, None, None, None]
    replies = await fleet.service.registry.journal.own_replies(agent, conversation, limit=10)
    assert [reply.message.type for reply in replies[3:]] == ["text", "error", "error", None], "the journal tells more"


async def test_typing_ends_just_before_each_answer_and_never_comes_after_the_last(fleet: Stack) -> None:
    agent = await fleet.add(1, "shows")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(agent)
    await user.say(conversation, "wait")
    await fleet.until(lambda: "one" in seen(user, agent))
    handler_module("shows").gate.set()
    await fleet.until(lambda: "two" in seen(user, agent))
    # A second message, so that whatever is late has come before its answer.
    await user.wait_for_reply(conversation, after=await user.say(conversation, "/stop"))
    signs = ["hm", "Using look …", "look answered"]
    assert seen(user, agent)[:7] == [True, *signs, False, "one", "two"]
    assert True not in seen(user, agent)[7:]


async def test_a_single_answer_comes_after_typing_has_ended(fleet: Stack) -> None:
    agent = await fleet.add(1, "echo")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(agent)
    await user.wait_for_reply(conversation, after=await user.say(conversation, "hello"))
    assert seen(user, agent) == [True, False, "Echo: hello"]


async def test_bridged_people_get_answers_and_not_the_inner_life(v2: Stack) -> None:
    agent = await v2.add(1, "shows")
    await v2.online()
    ann = v2.sandbox.bridge.person(username="ann#1")
    conversation = ann.say(agent, "hello")
    await v2.until(lambda: ann.received == ["one", "two"])
    assert types(v2, conversation) == [None, None]


@pytest.mark.parametrize(
    ("show", "in_portal", "on_bridge"),
    [
        ([], [None, None], ["one", "two"]),
        (["tool_call"], ["tool_call", None, None], ["Using look …", "one", "two"]),
        ("thinking,tool_result", ["thinking", "tool_result", None, None], ["hm", "one", "two"]),
    ],
)
async def test_a_row_says_what_is_shown_anywhere(
    v2: Stack, show: Any, in_portal: list[Any], on_bridge: list[str]
) -> None:
    agent = await v2.add(1, "shows", settings={"show": show})
    await v2.online()
    user = await v2.sandbox.user()
    conversation = await user.open(agent)
    await user.wait_for_reply(conversation, after=await user.say(conversation, "hello"), count=2)
    assert types(v2, conversation) == in_portal
    has_thinking = ["thinking" in one.document for one in v2.sandbox.messages(conversation) if one.content == "one"]
    assert has_thinking == ["thinking" in show]
    ann = v2.sandbox.bridge.person()
    ann.say(agent, "hello")
    await v2.until(lambda: ann.received == on_bridge)


async def test_an_agent_that_may_not_write_says_so_with_the_cure(v2: Stack) -> None:
    agent = await v2.add(1, "echo")
    await v2.online()
    v2.sandbox.faults.refuse_sends(error="You do not have permission to create.")
    user = await v2.sandbox.user()
    conversation = await user.open(agent)
    await user.say(conversation, "hello")
    await v2.until(lambda: v2.service.control.status(agent).health == f"failing: {FORBIDDEN}")
    v2.sandbox.faults.clear()
    await user.wait_for_reply(conversation, after=await user.say(conversation, "and now?"))
    await v2.until(lambda: v2.service.control.status(agent).health == "ok")


async def test_an_answer_that_was_stored_and_refused_is_shown_all_the_same(tmp_path: Path) -> None:
    """v1 keeps our ids, so that it would refuse it for ever as one that it has."""
    async with stack(tmp_path, sandbox_settings={"profile": "v1"}) as fleet:
        agents = [await fleet.add(1), await fleet.add(2)]
        await fleet.online(2)
        fleet.sandbox.faults.refuse_sends("Database is down", stored=True, agents=agents[:1], times=2)
        user = await fleet.sandbox.user()
        conversation, other = [await user.open(agent) for agent in agents]
        await user.say(conversation, "hello")
        await fleet.until(lambda: fleet.service.fleet.undelivered()[0] == 1)
        # What is acknowledged elsewhere shows that the platform is well: what waits is sent at once.
        await user.say(other, "well?")
        await fleet.until(lambda: fleet.service.fleet.undelivered()[0] == 0, timeout=30)
        await user.say(conversation, "second")

        def shown() -> list[str]:
            told = [payload for event, payload in user.received if event == "message:new"]
            return [one["content"] for one in told if one["conversationId"] == conversation and one["role"] != "user"]

        await fleet.until(lambda: "Echo: second" in shown())
        assert shown() == ["Echo: hello", "Echo: second"]


@pytest.mark.parametrize("profile", ["v1", "v2", "v3"])
async def test_what_an_answer_rests_on_goes_along_and_is_kept_where_it_can_be(tmp_path: Path, profile: str) -> None:
    """The first generation drops it, the second passes it on, the third keeps it (docs/protocol.md#86-sends)."""
    folder = handlers_folder(tmp_path, {"knows": KNOWS})
    async with stack(tmp_path, sandbox_settings={"profile": profile}, agents_dir=folder) as fleet:
        identity = await fleet.add(handler="knows")
        await fleet.online(timeout=30)
        [reply] = await fleet.ask(identity, "when?")
        source = {"type": "rag", "content": "Open at nine.", "label": "Hours", "score": 0.5, "collectionId": "k1"}
        assert reply.content == "At nine."
        assert (reply.sources, reply.document.get("sources")) == {
            "v1": ([], None),
            "v2": ([], [source]),
            "v3": ([source], None),
        }[profile]
