"""Messages from a person to an agent and back, over real sockets (docs/architecture.md#a-messages-way)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.states import AgentState, MessageState
from tests.support.observing import figures, handlers_folder
from tests.support.paths import ROOT
from tests.support.stack import Stack, handler_module, is_apology, stack

HANDLERS = {
    "flaky.py": '''
"""Fails as often as the message says, then answers."""
from supervisor.handler import Handler, Permanent

class Flaky(Handler):
    def __init__(self):
        self.seen = {}

    async def on_message(self, message, ctx):
        tries = self.seen[message.id] = self.seen.get(message.id, 0) + 1
        if message.content == "permanent":
            raise Permanent("no use")
        if message.content == "twice" and tries <= 2:
            raise RuntimeError("not yet")
        if message.content == "always":
            raise RuntimeError("never works")
        return f"{message.content} after {tries}"
''',
    "slow.py": '''
"""Answers when it is let."""
import asyncio

gate = asyncio.Event()
started = []

async def on_message(message, ctx):
    started.append(message.content)
    if message.content != "quick":
        await gate.wait()
    return f"done: {message.content}"
''',
    "stuck.py": '''
"""Swallows its cancellation on the first message."""
import asyncio

release = asyncio.Event()

async def on_message(message, ctx):
    if message.content != "stuck":
        return f"fine: {message.content}"
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            pass
    return "too late"
''',
    "threaded.py": '''
"""A plain function; it runs in a thread."""
import threading

def on_message(message, ctx):
    ctx.typing()
    ctx.mark_read()
    return threading.current_thread().name
''',
    "bad_replies.py": '''
"""Gives what cannot be sent."""
from supervisor.handler import Reply

async def on_message(message, ctx):
    return {"number": 5, "empty": "   ", "huge": "x" * 2_000_000,
            "attachment": Reply("x", attachments=["ftp://x"])}[message.content]
''',
    "social.py": '''
"""Uses all of the context."""
async def on_message(message, ctx):
    users = await ctx.online_users()
    await ctx.send("first")
    ctx.usage(3, 4, model="m")
    history = await ctx.history()
    assert ctx.token() and ctx.deadline > 0 and ctx.agent.id
    return f"{len(users)} users, {len(history)} lines, {ctx.settings['tone']}, {ctx.instruction.configured}"
''',
}


@pytest.fixture
def agents_dir(tmp_path: Path) -> Path:
    """A folder of handlers that misbehave on cue, beside echo and tour."""
    folder = tmp_path / "handlers"
    folder.mkdir()
    for name, code in HANDLERS.items():
        (folder / name).write_text(code)
    for bundled in ("echo.py", "tour.py"):
        (folder / bundled).write_text((ROOT / "agents" / bundled).read_text())
    return folder


@pytest.fixture(params=["v1", "v2"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path, agents_dir: Path) -> AsyncIterator[Stack]:
    """A stack on each generation of the platform."""
    async with stack(tmp_path, sandbox_settings={"profile": request.param}, agents_dir=agents_dir) as running:
        yield running


@pytest.fixture
async def v1(tmp_path: Path, agents_dir: Path) -> AsyncIterator[Stack]:
    """A stack on v1 alone, for what does not depend on the generation."""
    async with stack(tmp_path, agents_dir=agents_dir) as running:
        yield running


async def test_a_message_is_answered_in_its_conversation(fleet: Stack) -> None:
    identity = await fleet.add(1, "echo")
    await fleet.online()
    [reply] = await fleet.ask(identity, "hello 你好 👋")
    assert reply.content == "Echo: hello 你好 👋"
    assert reply.role == "assistant"


async def test_the_tour_shows_thinking_tool_call_result_and_usage_in_order(fleet: Stack) -> None:
    identity = await fleet.add(1, "tour")
    await fleet.online()
    replies = await fleet.ask(identity, "6 * 7")
    assert [r.type or "text" for r in replies] == ["thinking", "tool_call", "tool_result", "text"]
    assert replies[1].document["toolCalls"][0]["function"]["arguments"] == '{"expression": "6 * 7"}'
    assert replies[2].document["toolResults"][0]["result"] == {"value": 42}
    assert replies[3].content == "6 * 7 = 42"
    assert replies[3].document["usage"]["totalTokens"] == 30


async def test_typing_is_shown_while_the_handler_works(fleet: Stack) -> None:
    identity = await fleet.add(1, "echo")
    await fleet.online()
    await fleet.ask(identity, "hi")
    user = fleet.users[0]
    await fleet.until(lambda: [e for e in user.received if e[0] == "agent:typing" and not e[1]["isTyping"]])
    signs = [payload["isTyping"] for name, payload in user.received if name == "agent:typing"]
    assert signs == [True, False]


async def test_a_conversation_keeps_its_order(fleet: Stack) -> None:
    identity = await fleet.add(1, "echo")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "0")
    for number in range(1, 30):
        await user.say(conversation, str(number))
    replies = await user.wait_for_reply(conversation, after=first, count=30)
    assert [r.content for r in replies] == [f"Echo: {n}" for n in range(30)]


async def test_thirty_people_wait_beside_each_other_for_an_agent_that_waits_itself(
    tmp_path: Path, agents_dir: Path
) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(1, "slow")
        await fleet.online()
        people = [await fleet.sandbox.user() for _ in range(30)]
        asked = []
        for user in people:
            conversation = await user.open(identity)
            asked.append((user, conversation, await user.say(conversation, "wait")))
        slow = handler_module("slow")
        await fleet.until(lambda: len(slow.started) == len(people))
        slow.gate.set()
        for user, conversation, message in asked:
            [reply] = await user.wait_for_reply(conversation, after=message)
            assert reply.content == "done: wait"


async def test_a_failing_handler_is_tried_again_and_the_lane_waits(v1: Stack) -> None:
    identity = await v1.add(1, "flaky")
    await v1.online()
    user = await v1.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "twice")
    await user.say(conversation, "next")
    replies = await user.wait_for_reply(conversation, after=first, count=2, timeout=20)
    assert [r.content for r in replies] == ["twice after 3", "next after 1"]


async def test_a_permanent_failure_is_a_dead_letter_and_one_apology(v1: Stack) -> None:
    identity = await v1.add(1, "flaky")
    await v1.online()
    [reply] = await v1.ask(identity, "permanent")
    assert is_apology(reply)
    [dead] = await v1.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])
    assert "no use" in (dead.error or "")
    assert v1.service.control.status(identity).health.startswith("failing")
    assert v1.service.control.status(identity).state is AgentState.ONLINE


async def test_attempts_end_in_a_dead_letter(v1: Stack) -> None:
    identity = await v1.add(1, "flaky", settings={"max_attempts": 2})
    await v1.online()
    [reply] = await v1.ask(identity, "always", timeout=20)
    assert is_apology(reply)
    [dead] = await v1.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])
    assert dead.attempts == 2
    assert "never works" in (dead.error or "")


async def test_a_handler_that_swallows_cancellation_loses_its_lane(v1: Stack) -> None:
    identity = await v1.add(1, "stuck", settings={"timeout_seconds": 0.2})
    await v1.online()
    user = await v1.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "stuck")
    await user.say(conversation, "next")
    replies = await user.wait_for_reply(conversation, after=first, count=2, timeout=20)
    assert [is_apology(r) for r in replies] == [True, False]
    assert replies[1].content == "fine: next"
    stuck = handler_module("stuck")

    stuck.release.set()
    await asyncio.sleep(0)
    assert len(v1.sandbox.messages(conversation)) == 4, "the late answer was sent"


async def test_a_plain_function_runs_in_a_thread_and_may_type(v1: Stack) -> None:
    identity = await v1.add(1, "threaded")
    await v1.online()
    [reply] = await v1.ask(identity, "x")
    assert reply.content.startswith("handler")
    assert any(name == "message:read" for name, _ in v1.users[0].received)


@pytest.mark.parametrize("text", ["number", "empty", "huge", "attachment"])
async def test_a_reply_that_cannot_be_sent_is_refused_before_sending(v1: Stack, text: str) -> None:
    identity = await v1.add(1, "bad_replies")
    await v1.online()
    [reply] = await v1.ask(identity, text)
    assert is_apology(reply)
    [dead] = await v1.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])
    assert "InvalidReplyError" in (dead.error or "")
    assert v1.service.control.status(identity).state is AgentState.ONLINE


async def test_the_context_does_what_it_promises(fleet: Stack) -> None:
    identity = await fleet.add(1, "social", settings={"tone": "friendly"})
    await fleet.online()
    replies = await fleet.ask(identity, "hello", count=2)
    assert [r.content for r in replies] == ["first", "1 users, 2 lines, friendly, False"]
    assert replies[1].document["usage"]["totalTokens"] == 7
    body, _ = fleet.service.metrics.render("text/plain")
    assert b'supervisor_llm_tokens_total{handler="social",model="m",type="input"} 3.0' in body


async def test_only_user_messages_run_the_handler(fleet: Stack) -> None:
    identity = await fleet.add(1, "echo")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "for the record", role="assistant")
    await user.say(conversation, "for you")
    [reply] = await user.wait_for_reply(conversation, after=first)
    assert reply.content == "Echo: for you"


async def test_malformed_events_do_no_harm_and_are_counted(fleet: Stack) -> None:
    identity = await fleet.add(1, "echo")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    mistyped = {"conversationId": conversation, "role": "user", "content": 5}
    payloads: list[object] = [None, [], "x", {"role": "user"}, mistyped]
    for payload in payloads:
        fleet.sandbox.emit(identity, "message:new", payload)
    fleet.sandbox.emit(identity, "no:such:event", {"a": 1})
    message = await user.say(conversation, "still there?")
    [reply] = await user.wait_for_reply(conversation, after=message)
    assert reply.content == "Echo: still there?"
    body, _ = fleet.service.metrics.render("text/plain")
    assert b'supervisor_messages_dropped_total{reason="mistyped_content"} 1.0' in body
    assert b'supervisor_messages_dropped_total{reason="missing_conversationId"} 1.0' in body


async def test_a_message_without_an_id_is_answered(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": "v2", "first_bridged_lost": False}) as fleet:
        identity = await fleet.add()
        await fleet.online()
        conversation = fleet.sandbox.bridge.person().say(identity, "from elsewhere")
        await fleet.until(
            lambda: [m for m in fleet.sandbox.messages(conversation) if m.content == "Echo: from elsewhere"]
        )


async def test_the_same_message_twice_is_answered_once(v1: Stack) -> None:
    identity = await v1.add()
    await v1.online()
    replies = await v1.ask(identity, "once")
    conversation = v1.sandbox.conversation_of(identity)
    original = next(m for m in v1.sandbox.messages(conversation) if m.content == "once")
    payload = {"_id": original.id, "conversationId": conversation, "role": "user", "content": "once"}
    v1.sandbox.emit(identity, "message:new", payload)
    await v1.ask(identity, "marker")
    said = [m.content for m in v1.sandbox.messages(conversation)]
    assert said.count("Echo: once") == len(replies) == 1


async def test_a_restart_takes_up_what_was_left(v1: Stack) -> None:
    identity = await v1.add(1, "slow")
    await v1.online()
    user = await v1.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "one")
    await user.say(conversation, "two")
    await v1.until(lambda: v1.service.control.status(identity).inbox.available == 1)
    await v1.restart(grace_seconds=0.1)
    await v1.online()
    slow = handler_module("slow")
    await v1.until(lambda: "one" in slow.started)
    slow.gate.set()
    replies = await user.wait_for_reply(conversation, after=first, count=2)
    assert [r.content for r in replies] == ["done: one", "done: two"]
    rows = await v1.service.registry.journal.messages(agent_id=identity, states=[MessageState.DONE])
    assert [row.attempts for row in rows] == [1, 1], "a clean stop costs no attempt"


async def test_a_reply_made_offline_is_delivered_when_back(v1: Stack) -> None:
    identity = await v1.add(1, "slow")
    await v1.online()
    user = await v1.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "before the outage")
    slow = handler_module("slow")

    await v1.until(lambda: "before the outage" in slow.started)
    await v1.sandbox.stop()
    await v1.state(identity, AgentState.BACKOFF, AgentState.AUTHENTICATING, AgentState.CONNECTING)
    slow.gate.set()
    await v1.until(lambda: v1.service.control.status(identity).inbox.running == 0)
    await v1.sandbox.start()
    [reply] = await user.wait_for_reply(conversation, after=first)
    assert reply.content == "done: before the outage"


async def test_no_conversation_found_is_answered_by_a_join_and_one_resend(fleet: Stack) -> None:
    identity = await fleet.add()
    await fleet.online()
    fleet.sandbox.faults.refuse_sends("No conversation found. Please join a conversation first.", times=1)
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "Echo: hello"


async def test_lost_acks_do_not_double_a_reply_on_a_platform_that_keeps_ids(tmp_path: Path) -> None:
    async with stack(tmp_path, ack_seconds=0.3) as fleet:
        identity = await fleet.add()
        await fleet.online()
        fleet.sandbox.faults.drop_acks(times=1)
        [reply] = await fleet.ask(identity, "hello")
        assert reply.content == "Echo: hello"
        await fleet.ask(identity, "again", timeout=20)
        said = [m.content for m in fleet.sandbox.messages(fleet.sandbox.conversation_of(identity))]
        assert said.count("Echo: hello") == 1


async def test_past_its_bound_an_inbox_refuses_aloud(v1: Stack) -> None:
    identity = await v1.add(1, "slow", settings={"inbox_limit": 3})
    await v1.online()
    user = await v1.sandbox.user()
    conversation = await user.open(identity)
    for number in range(6):
        await user.say(conversation, f"m{number}")
    await v1.until(lambda: [m for m in v1.sandbox.messages(conversation) if "too many messages" in m.content])
    assert v1.service.control.status(identity).inbox.available == 2
    body, _ = v1.service.metrics.render("text/plain")
    assert b'supervisor_messages_dropped_total{reason="inbox_full"} 3.0' in body


SOCIABLE = '''
"""Notes what its hooks are told."""
from supervisor.handler import Handler

told = []

class Sociable(Handler):
    async def on_start(self, ctx):
        told.append(("start", ctx.agent.name))

    def on_stop(self, ctx):
        told.append(("stop", ctx.agent.name))

    async def on_presence(self, presence, ctx):
        told.append(("presence", presence["type"], presence["status"], presence["user_id"]))

    async def on_typing(self, typing, ctx):
        told.append(("typing", typing["is_typing"]))
        raise RuntimeError("a hook that fails harms nothing")

    async def on_message(self, message, ctx):
        return "hello"
'''


async def test_hooks_are_told(fleet: Stack, agents_dir: Path) -> None:
    (agents_dir / "sociable.py").write_text(SOCIABLE)
    identity = await fleet.add(1, "sociable")
    await fleet.online()
    module = handler_module("sociable")
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    await fleet.until(lambda: ("presence", "user", "online", user.id) in module.told)
    await user.typing(conversation)
    await fleet.until(lambda: ("typing", True) in module.told)
    message = await user.say(conversation, "hi")
    [reply] = await user.wait_for_reply(conversation, after=message)
    assert reply.content == "hello"
    await fleet.service.control.pause(identity)
    await fleet.state(identity, AgentState.PAUSED)
    assert (module.told[0][0], module.told[-1][0]) == ("start", "stop")


WRITES = """
import asyncio
begun, go, made = asyncio.Event(), asyncio.Event(), asyncio.Event()

async def on_message(message, ctx):
    begun.set()
    await go.wait()
    made.set()
    return "made"
"""


async def test_an_answer_that_is_written_while_its_agent_stops_counts_as_one(tmp_path: Path) -> None:
    async with stack(tmp_path, agents_dir=handlers_folder(tmp_path, {"writes": WRITES})) as fleet:
        identity = await fleet.add(1, "writes")
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await user.say(conversation, "hello")
        handler = handler_module("writes")
        await handler.begun.wait()
        with closing(sqlite3.connect(tmp_path / "supervisor.db", isolation_level=None)) as other:
            # The handler is done, its answer waits for the disk, and nobody waits for it any more.
            other.execute("BEGIN IMMEDIATE")
            handler.go.set()
            await handler.made.wait()
            stopping = asyncio.ensure_future(fleet.service.stop(0.1))
            await asyncio.sleep(0.3)  # past the grace period
            other.execute("ROLLBACK")
            await stopping
        shown = figures(fleet.service.metrics)
        assert shown['supervisor_messages_handled_total{handler="writes",outcome="done"}'] == 1
        assert shown['supervisor_messages_handled_total{handler="writes",outcome="released"}'] == 0
