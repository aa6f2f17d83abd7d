"""``/stop``, ``/reload`` and ``/status`` in the chat, over real sockets on both generations of the platform."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.core.records import JournaledMessage
from supervisor.core.states import AgentState, MessageState
from supervisor.messages.commands import NOTHING_TO_STOP, RELOAD_FAILED, RELOADED, STOPPED
from supervisor.messages.executor import STOP_REASON
from supervisor.sandbox import SandboxUser, StoredMessage
from supervisor.store import Registry
from tests.support.stack import Stack, handler_module, stack

HANDLERS = {
    "slow.py": '''
"""Says a first part, then waits for its gate, except for what is quick."""
import asyncio

gate = asyncio.Event()
started = []

async def on_message(message, ctx):
    started.append(message.content)
    if message.content.startswith("wait"):
        yield "so far"
        await gate.wait()
    yield f"done: {message.content}"
''',
    "stuck.py": '''
"""Swallows its cancellation on the first message."""
import asyncio

release = asyncio.Event()
started = []

async def on_message(message, ctx):
    started.append(message.content)
    if message.content != "stuck":
        return f"fine: {message.content}"
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            pass
    return "too late"
''',
    "failing.py": '''
"""Fails on what is bad."""
started = []

async def on_message(message, ctx):
    started.append(message.content)
    if message.content == "bad":
        raise RuntimeError("not now")
    return f"fine: {message.content}"
''',
    "mirror.py": '''
"""Says back what it is told."""
async def on_message(message, ctx):
    return f"heard {message.content}"
''',
}


@pytest.fixture(params=["v1", "v2"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stack]:
    """A stack on each generation of the platform."""
    folder = tmp_path / "handlers"
    folder.mkdir()
    for name, code in HANDLERS.items():
        (folder / name).write_text(code)
    async with stack(tmp_path, sandbox_settings={"profile": request.param}, agents_dir=folder) as running:
        yield running


class Chat:
    """One person's conversation with one agent."""

    def __init__(self, fleet: Stack, identity: str, user: SandboxUser, conversation: str) -> None:
        self.fleet, self.identity, self.user, self.conversation = fleet, identity, user, conversation

    async def say(self, text: str) -> str:
        return await self.user.say(self.conversation, text)

    async def tell(self, command: str) -> StoredMessage:
        """Say a command; its answer, which is the one that the journal has of it."""
        number = (await self.settled(await self.say(command))).id
        journal = self.fleet.service.registry.journal
        [reply] = await journal.replies(number)

        def heard() -> list[StoredMessage]:
            return [m for m in self.said if m.content == reply.message.content]

        await self.fleet.until(heard)
        return heard()[-1]

    async def settled(self, message_id: str) -> JournaledMessage:
        """The row of a message, once its answer is made."""
        async with asyncio.timeout(10):
            while True:
                for row in await self.fleet.service.registry.journal.messages(agent_id=self.identity):
                    if row.key == message_id and row.state is MessageState.DONE:
                        return row
                await asyncio.sleep(0.01)

    @property
    def said(self) -> list[StoredMessage]:
        """What the agent said so far."""
        return [m for m in self.fleet.sandbox.messages(self.conversation) if m.role == "assistant"]

    async def until_said(self, *contents: str) -> None:
        await self.fleet.until(lambda: [m.content for m in self.said] == list(contents))

    async def journaled(self, content: str) -> JournaledMessage:
        rows = await self.fleet.service.registry.journal.messages(agent_id=self.identity)
        return next(row for row in rows if row.message.content == content)


async def chat_with(fleet: Stack, handler: str, **fields: object) -> Chat:
    identity = await fleet.add(1, handler, **fields)
    await fleet.online()
    user = await fleet.sandbox.user()
    return Chat(fleet, identity, user, await user.open(identity))


async def test_stop_cancels_the_answer_and_the_lane_goes_on(fleet: Stack) -> None:
    chat = await chat_with(fleet, "slow")
    await chat.say("wait")
    await chat.until_said("so far")
    await chat.say("next")
    answer = await chat.tell(" /STOP ")
    await chat.until_said("so far", STOPPED, "done: next")
    assert answer.type in (None, "text"), "which people's clients draw; v1 stores what has no type as text"
    stopped = await chat.journaled("wait")
    assert (stopped.state, stopped.error) == (MessageState.CANCELLED, STOP_REASON)
    assert (await chat.journaled(" /STOP ")).state is MessageState.DONE
    assert handler_module("slow").started == ["wait", "next"], "a command ran the handler"
    signs = [payload["isTyping"] for name, payload in chat.user.received if name == "agent:typing"]
    assert signs[:2] == [True, False]


async def test_stop_where_nothing_runs_says_so(fleet: Stack) -> None:
    chat = await chat_with(fleet, "slow")
    assert (await chat.tell("/stop")).content == NOTHING_TO_STOP


async def test_stop_leaves_another_conversation_alone(tmp_path: Path) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "slow.py").write_text(HANDLERS["slow.py"])
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}, agents_dir=folder) as fleet:
        chat = await chat_with(fleet, "slow")
        await chat.say("wait")
        await chat.until_said("so far")
        user = await fleet.sandbox.user()
        other = Chat(fleet, chat.identity, user, await user.open(chat.identity))
        assert (await other.tell("/stop")).content == NOTHING_TO_STOP
        handler_module("slow").gate.set()
        await chat.until_said("so far", "done: wait")


async def test_a_handler_that_swallows_the_stop_is_left_behind(fleet: Stack) -> None:
    chat = await chat_with(fleet, "stuck")
    await chat.say("stuck")
    await fleet.until(lambda: handler_module("stuck").started)
    await chat.say("next")
    await chat.say("/stop")
    await chat.until_said(STOPPED, "fine: next")
    assert (await chat.journaled("stuck")).state is MessageState.CANCELLED
    handler_module("stuck").release.set()
    # Whatever the abandoned one still gives comes before the answer to what is said now, if it comes at all.
    await chat.say("last")
    await chat.until_said(STOPPED, "fine: next", "fine: last")


async def test_stop_ends_a_message_that_waits_for_its_next_attempt(fleet: Stack) -> None:
    chat = await chat_with(fleet, "failing", settings={"max_attempts": 100})
    await chat.say("bad")
    await fleet.until(lambda: len(handler_module("failing").started) >= 2, timeout=20)
    await chat.say("next")
    assert (await chat.tell("/stop")).content == STOPPED
    await chat.until_said(STOPPED, "fine: next")
    assert (await chat.journaled("bad")).state is MessageState.CANCELLED
    # The place in the lane was given back: nothing is counted as waiting or running.
    await fleet.until(lambda: fleet.service.control.status(chat.identity).inbox.running == 0)
    assert fleet.service.control.status(chat.identity).inbox.available == 0


async def test_reload_fetches_settings_anew_at_most_every_half_minute(fleet: Stack) -> None:
    chat = await chat_with(fleet, "mirror")
    (fleet.folder / "handlers" / "mirror.py").write_text(
        'async def on_message(message, ctx):\n    return f"new {message.content}"\n'
    )
    issued = fleet.service.fleet.runner(chat.identity).agent.grant
    assert (await chat.tell("/reload")).content == RELOADED
    assert fleet.service.fleet.runner(chat.identity).agent.grant is not issued
    assert "try again in" in (await chat.tell("/reload")).content
    await chat.say("you")
    await fleet.until(lambda: chat.said[-1].content == "new you")


async def test_a_reload_that_fails_says_so_without_internals(fleet: Stack) -> None:
    chat = await chat_with(fleet, "mirror")
    (fleet.folder / "handlers" / "mirror.py").write_text("not python at all")
    assert (await chat.tell("/reload")).content == RELOAD_FAILED
    await chat.say("you")
    await fleet.until(lambda: chat.said[-1].content == "heard you")


async def test_status_tells_what_the_agent_is_and_no_more(fleet: Stack) -> None:
    settings = {"model": "openai:gpt-4o", "api_key": "env:SUPERVISOR_KEY"}
    chat = await chat_with(fleet, "slow", settings=settings)
    await chat.say("wait")
    await chat.until_said("so far")
    await chat.say("one")
    await chat.say("two")
    await fleet.until(lambda: fleet.service.control.status(chat.identity).inbox.available == 2)
    lines = dict(line.split(": ", 1) for line in (await chat.tell("/status")).content.splitlines())
    assert lines.pop("Since").endswith(" UTC")
    assert lines.pop("Name")
    assert lines == {"Model": "openai:gpt-4o", "Handler": "slow", "State": "online", "Waiting messages": "2"}


@pytest.mark.parametrize("text", ["/stop now", "/help", "please /status", "stop"])
async def test_what_only_looks_like_a_command_goes_to_the_handler(fleet: Stack, text: str) -> None:
    chat = await chat_with(fleet, "mirror")
    await chat.say(text)
    await chat.until_said(f"heard {text}")


async def test_commands_can_be_turned_off(fleet: Stack) -> None:
    chat = await chat_with(fleet, "mirror", settings={"commands": False})
    await chat.say("/status")
    await chat.until_said("heard /status")


async def test_a_command_is_obeyed_though_the_inbox_is_full(fleet: Stack) -> None:
    chat = await chat_with(fleet, "slow", settings={"inbox_limit": 1})
    await chat.say("wait")
    await chat.until_said("so far")
    await chat.say("/stop")
    await chat.until_said("so far", STOPPED)


async def test_a_command_that_the_process_did_not_get_to_is_obeyed_at_the_next_start(fleet: Stack) -> None:
    chat = await chat_with(fleet, "mirror")
    await chat.say("hello")
    await chat.until_said("heard hello")
    row = await chat.journaled("hello")
    await fleet.service.stop(0)
    registry = await Registry.open(fleet.settings.registry_url)
    command = replace(row.message, id=None, content="/status")
    await registry.journal.add(chat.identity, command, key="left behind", received_at=row.received_at, claim=True)
    await registry.close()
    await fleet.restart()
    await fleet.online()
    await fleet.until(lambda: len(chat.said) == 2)
    assert "Handler: mirror" in chat.said[1].content
    assert (await chat.journaled("/status")).state is MessageState.DONE


async def away(chat: Chat) -> None:
    """Take the agent off the platform, its handlers going on, until the faults are cleared."""
    chat.fleet.sandbox.faults.connect("kick")
    chat.fleet.sandbox.cut(chat.identity)
    await chat.fleet.until(lambda: chat.fleet.service.control.status(chat.identity).state is not AgentState.ONLINE)


async def test_a_stop_that_was_missed_ends_the_answer_that_it_was_meant_for(fleet: Stack) -> None:
    chat = await chat_with(fleet, "slow")
    await chat.say("wait")
    await chat.until_said("so far")
    await away(chat)
    await chat.say("/stop")
    fleet.sandbox.faults.clear()
    await chat.until_said("so far", STOPPED)
    assert (await chat.journaled("wait")).state is MessageState.CANCELLED


async def test_a_stop_that_was_missed_leaves_alone_what_was_said_after_it(fleet: Stack) -> None:
    chat = await chat_with(fleet, "slow")
    await chat.say("quick")
    await chat.until_said("done: quick")
    await away(chat)
    await chat.say("/stop")
    await chat.say("wait")
    fleet.sandbox.faults.clear()
    await fleet.until(lambda: {NOTHING_TO_STOP, "so far"} <= {message.content for message in chat.said})
    handler_module("slow").gate.set()
    await fleet.until(lambda: chat.said[-1].content == "done: wait")


async def test_a_stop_is_for_what_was_said_before_it(fleet: Stack) -> None:
    """However late it is obeyed: here after a message that came later, as a slow disk or a backfill may have it."""
    chat = await chat_with(fleet, "slow")
    await chat.say("wait")
    await chat.until_said("so far")
    running = await chat.journaled("wait")
    pipeline = fleet.service.fleet.runner(chat.identity).agent.pipeline
    assert not await pipeline.answers.stop(chat.conversation, running.id - 1)
    assert await pipeline.answers.stop(chat.conversation, running.id + 1)


async def test_a_stop_leaves_alone_a_later_message_between_its_attempts(fleet: Stack) -> None:
    chat = await chat_with(fleet, "failing", settings={"max_attempts": 100})
    await chat.say("bad")
    await fleet.until(lambda: len(handler_module("failing").started) >= 2, timeout=20)
    row = await chat.journaled("bad")
    pipeline = fleet.service.fleet.runner(chat.identity).agent.pipeline
    assert not await pipeline.answers.stop(chat.conversation, row.id - 1)
    assert (await chat.tell("/stop")).content == STOPPED
