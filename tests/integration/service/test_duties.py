"""What the platform asks of an agent beside its conversations, over real sockets: works, commands, sleep, channels."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.records import JournaledMessage
from supervisor.core.states import AgentState, MessageState
from supervisor.sandbox import SandboxUser
from supervisor.sandbox.world.state import Sleep
from tests.support.command import InProcess
from tests.support.stack import Stack, handler_module, stack

HANDLERS = {
    "worker.py": '''
"""Keeps what it is given; waits for its gate where it is told to; ends no work by itself."""
import asyncio

gate = asyncio.Event()
given = []

async def on_message(message, ctx):
    given.append(message)
    if message.content == "wait":
        await gate.wait()
    if message.content == "bad":
        raise RuntimeError("not now")
    await ctx.send("a part")
    return f"done: {message.content}"
''',
    "publisher.py": '''
"""Answers with an uploaded file, and publishes beside."""
from supervisor.handler import PlatformError, Reply

given = []

async def on_message(message, ctx):
    given.append(message)
    try:
        file = await ctx.upload(b"a,b", "table.csv")
        await ctx.channel_send(file, caption="the table")
        await ctx.channel_send({"title": "News"}, connection="c9", channel="9")
    except PlatformError as error:
        return f"cannot: {error}"
    return Reply("here", attachments=[file])
''',
}
#: Where agents and people meet in one process, with heartbeats and commands.
STAGE_I = {"profile": "v3", "stage": "i"}
STAGE_II = {"profile": "v3", "stage": "ii"}


@pytest.fixture
def agents_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "agents"
    folder.mkdir()
    for name, code in HANDLERS.items():
        (folder / name).write_text(code)
    return folder


async def rows(fleet: Stack) -> list[JournaledMessage]:
    found = await fleet.service.registry.journal.messages(states=list(MessageState), limit=100)
    return sorted(found, key=lambda row: row.id)


async def settled(fleet: Stack, *states: MessageState) -> list[JournaledMessage]:
    """The messages, once they are in these states."""
    found: list[JournaledMessage] = []

    async def look() -> bool:
        found[:] = await rows(fleet)
        return [row.state for row in found] == list(states)

    await within(look)
    return found


async def within(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait for what has to be asked for."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


def beats(fleet: Stack) -> list[str]:
    """What heartbeats have said, in order."""
    return [event.fields["status"] for event in fleet.sandbox.events if event.kind == "heartbeat"]


def handed_out(fleet: Stack) -> int:
    """How often a heartbeat has brought a work."""
    return sum(event.kind == "work_handed_out" for event in fleet.sandbox.events)


async def person(fleet: Stack, identity: str) -> tuple[SandboxUser, str]:
    user = await fleet.sandbox.user()
    return user, await user.open(identity)


async def test_works_and_reminders_reach_the_handler_once_each_and_are_settled(
    tmp_path: Path, agents_dir: Path
) -> None:
    async with stack(
        tmp_path, sandbox_settings={"profile": "v2"}, agents_dir=agents_dir, heartbeat_seconds=0.05
    ) as fleet:
        identity = await fleet.add(handler="worker", settings={"work": True})
        reminder = fleet.sandbox.works.remind(identity, "Water the plants")
        await fleet.online()
        given: list[Any] = handler_module("worker").given
        await fleet.until(lambda: len(given) == 1)
        work = fleet.sandbox.works.assign(identity, "Tidy up", priority_level=2)
        await fleet.until(lambda: len(given) == 2)
        fleet.sandbox.works.finish(work.id)
        [first, second] = await settled(fleet, MessageState.DONE, MessageState.DONE)
        assert (given[0].source, given[0].content, given[0].task.id) == ("reminder", "Water the plants", reminder.id)
        assert (given[1].source, given[1].task.title, given[1].task.priority_level) == ("work", "Tidy up", 2)
        # Nobody listens: what the handler says is sent nowhere, and no conversation is joined.
        assert await fleet.service.registry.journal.replies(first.id) == []
        assert await fleet.service.registry.journal.replies(second.id) == []
        assert not [event for event in fleet.sandbox.events if event.kind in ("message", "refused", "typing", "join")]
        assert fleet.service.control.status(identity).conversations == 0
        # The reminder comes again with each heartbeat, and is known.
        before = len(beats(fleet))
        await fleet.until(lambda: len(beats(fleet)) >= before + 3)
        assert len(given) == 2


async def test_an_agent_without_the_setting_is_never_asked_nor_put_to_sleep(tmp_path: Path, agents_dir: Path) -> None:
    async with stack(
        tmp_path, sandbox_settings={"profile": "v2"}, agents_dir=agents_dir, heartbeat_seconds=0.02
    ) as fleet:
        idle, busy = await fleet.add(1, handler="worker"), await fleet.add(2, handler="worker", settings={"work": True})
        for identity in (idle, busy):
            fleet.sandbox.works.assign(identity, "Tidy up")
        await fleet.online(2)
        await fleet.until(lambda: [m.task.title for m in handler_module("worker").given] == ["Tidy up"])
        heard = {event.agent_id for event in fleet.sandbox.events if event.kind == "heartbeat"}
        assert heard == {busy}
        # The work was not ended: once it has come again, nothing more is asked for.
        await fleet.until(lambda: handed_out(fleet) == 2)
        assert await settled(fleet, MessageState.DONE)
        assert fleet.service.fleet.runner(busy).agent.pipeline.duties.pulse.wanted_by_rest is False
        fleet.service.fleet.runner(busy).retry_now()
        await fleet.until(lambda: handed_out(fleet) == 3)


async def test_a_suspended_agent_that_asks_for_works_goes_offline(tmp_path: Path, agents_dir: Path) -> None:
    async with stack(
        tmp_path, sandbox_settings={"profile": "v2"}, agents_dir=agents_dir, heartbeat_seconds=0.05
    ) as fleet:
        identity = await fleet.add(handler="worker", settings={"work": True})
        await fleet.online()
        fleet.sandbox.agents[identity].status = "suspended"
        assert "suspended" in await fleet.state(identity, AgentState.REJECTED)
        assert not fleet.sandbox.is_online(identity)


async def test_an_agent_that_was_put_to_sleep_answers_nobody_until_it_is_woken(
    tmp_path: Path, agents_dir: Path
) -> None:
    async with stack(tmp_path, sandbox_settings=STAGE_I, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(handler="worker")
        await fleet.online()
        user, conversation = await person(fleet, identity)
        fleet.sandbox.emit(identity, "agent:command", {"type": "sleep", "reason": "night"})
        await fleet.until(lambda: fleet.sandbox.agents[identity].asleep)
        assert fleet.service.control.status(identity).reason == "asleep until it is woken: night"
        assert fleet.service.control.overview().notices == ("1 agent is asleep; see: supervisor agents list",)
        await user.say(conversation, "anybody?")
        [row] = await settled(fleet, MessageState.CANCELLED)
        assert row.error == "asleep"
        # A restart changes nothing, nor does the row.
        await fleet.restart()
        await fleet.online()
        assert fleet.service.control.status(identity).reason == "asleep until it is woken: night"
        assert not (await fleet.service.registry.agent(identity)).paused
        await user.say(conversation, "still there?")
        await settled(fleet, MessageState.CANCELLED, MessageState.CANCELLED)
        body, _ = fleet.service.metrics.render("text/plain")
        assert b'supervisor_messages_dropped_total{reason="asleep"} 1.0' in body
        fleet.sandbox.emit(identity, "agent:command", {"type": "wake"})
        await fleet.until(lambda: not fleet.sandbox.agents[identity].asleep)
        asked = await user.say(conversation, "good morning")
        assert (await user.wait_for_reply(conversation, after=asked, count=2))[-1].content == "done: good morning"
        assert handler_module("worker").given[-1].content == "good morning"
        assert fleet.service.control.status(identity).reason == ""
        assert fleet.service.control.overview().notices == ()


async def test_a_sleep_ends_by_its_time_and_when_a_person_resumes_the_agent(tmp_path: Path, agents_dir: Path) -> None:
    async with stack(tmp_path, sandbox_settings=STAGE_I, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(handler="worker")
        await fleet.online()
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
        fleet.sandbox.emit(identity, "agent:command", {"type": "sleep", "until": soon})
        await fleet.until(lambda: fleet.service.control.status(identity).reason.startswith("asleep until 20"))
        await fleet.until(lambda: fleet.service.control.status(identity).reason == "")
        fleet.sandbox.emit(identity, "agent:command", {"type": "sleep"})
        await fleet.until(lambda: fleet.service.control.status(identity).reason)
        await fleet.service.control.resume(identity)
        assert fleet.service.control.status(identity).reason == ""
        await fleet.restart()
        await fleet.online()
        assert fleet.service.control.status(identity).reason == ""
        # Nor need the supervisor run for that.
        fleet.sandbox.emit(identity, "agent:command", {"type": "sleep"})
        await fleet.until(lambda: fleet.service.control.status(identity).reason)
        await fleet.service.stop()
        command = InProcess(tmp_path, {"SUPERVISOR_REGISTRY_URL": fleet.settings.registry_url})
        await asyncio.to_thread(command.ok, "agents", "resume", identity)
        await fleet.restart()
        await fleet.online()
        await fleet.until(lambda: not fleet.sandbox.agents[identity].asleep)
        user, conversation = await person(fleet, identity)
        asked = await user.say(conversation, "awake?")
        assert (await user.wait_for_reply(conversation, after=asked, count=2))[-1].content == "done: awake?"


async def test_the_platform_stops_an_answer_and_looks_into_an_agent(tmp_path: Path, agents_dir: Path) -> None:
    async with stack(tmp_path, sandbox_settings=STAGE_I, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(handler="worker", settings={"api_key": "sk-1234567890abcdef", "model": "m-1"})
        await fleet.online()
        user, conversation = await person(fleet, identity)
        asked = await user.say(conversation, "wait")
        await fleet.until(lambda: handler_module("worker").given)
        fleet.sandbox.emit(identity, "agent:command", {"type": "stop", "conversationId": conversation})
        await settled(fleet, MessageState.CANCELLED)
        fleet.sandbox.emit(identity, "agent:command", {"type": "inspect", "conversationId": conversation})

        def told() -> list[str]:
            return [m.content for m in fleet.sandbox.messages(conversation) if m.type == "system"]

        await fleet.until(told)
        [text] = told()
        shown = json.loads(text)
        assert (shown["agent"]["id"], shown["handler"], shown["state"]) == (identity, "worker", "online")
        assert (shown["model"], shown["asleep"]) == ("m-1", None)
        assert "sk-1234567890abcdef" not in text
        assert asked
        # What is not known is ignored, and what makes no sense harms nothing.
        for command in ({"type": "dance"}, {"type": ["stop"]}, {}, None, "stop", {"type": "inspect"}, {"type": "stop"}):
            fleet.sandbox.emit(identity, "agent:command", command)
        asked = await user.say(conversation, "on with it")
        assert (await user.wait_for_reply(conversation, after=asked, count=2))[-1].content == "done: on with it"


async def test_the_platform_reloads_an_agent_and_commands_can_be_turned_off(tmp_path: Path, agents_dir: Path) -> None:
    async with stack(tmp_path, sandbox_settings=STAGE_I, agents_dir=agents_dir, platform_commands=("reload",)) as fleet:
        identity = await fleet.add(handler="worker")
        await fleet.online()
        asked = len(fleet.sandbox.token_requests)
        fleet.sandbox.emit(identity, "agent:command", {"type": "sleep"})
        fleet.sandbox.emit(identity, "agent:command", {"type": "reload"})
        await fleet.until(lambda: len(fleet.sandbox.token_requests) > asked)
        assert fleet.service.control.status(identity).reason == ""


async def test_a_handler_uploads_files_and_writes_into_channels(tmp_path: Path, agents_dir: Path) -> None:
    async with stack(tmp_path, sandbox_settings=STAGE_II, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(handler="publisher")
        await fleet.online()
        bridged = fleet.sandbox.bridge.person("telegram", "ann")
        photo = {"type": "image", "url": "https://cdn.example/a.png", "filename": "a.png", "mimeType": "image/png"}
        conversation = bridged.say(identity, "look", attachments=[photo], fullname="Ann A.")
        await fleet.until(lambda: bridged.received == ["here"])
        [message] = handler_module("publisher").given
        assert message.attachments == ("https://cdn.example/a.png",)
        assert (message.attachments[0].name, message.attachments[0].media_type) == ("a.png", "image/png")
        sender = message.sender
        assert (sender.id, sender.name, sender.platform) == (bridged.external_id, "Ann A.", "telegram")
        [file] = [event.fields["file"] for event in fleet.sandbox.events if event.kind == "upload"]
        assert (file.filename, file.mime_type, file.content) == ("table.csv", "text/csv", b"a,b")
        first, second = [event.fields["payload"] for event in fleet.sandbox.events if event.kind == "channel_send"]
        url = f"{fleet.sandbox.api_url}/files/{file.id}"
        assert first == {
            "connectionId": fleet.sandbox.bridge.connection_id,
            "channelId": bridged.channel_id,
            "conversationId": conversation,
            "file": {"fileUrl": url, "filename": "table.csv", "mimeType": "text/csv", "caption": "the table"},
        }
        assert second == {
            "connectionId": "c9",
            "channelId": "9",
            "conversationId": conversation,
            "embed": {"title": "News"},
        }


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_a_platform_without_channels_and_files_says_so(tmp_path: Path, agents_dir: Path, profile: str) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": profile}, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(handler="publisher")
        await fleet.online()
        [reply] = await fleet.ask(identity, "look")
        assert reply.content == "cannot: 127.0.0.1 takes no uploads of files"


async def test_own_replies_that_come_back_and_messages_that_come_twice_are_known(
    tmp_path: Path, agents_dir: Path
) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": "v3"}, agents_dir=agents_dir) as fleet:
        # Its own role is among those that it answers: only who wrote it tells them apart.
        identity = await fleet.add(handler="worker", settings={"roles": ["user", "assistant"]})
        await fleet.online(timeout=30)
        bridged = fleet.sandbox.bridge.person("discord", "ann")
        conversation = bridged.say(identity, "hi")
        await fleet.until(lambda: bridged.received[-1:] == ["done: hi"], timeout=30)
        bridged.say(identity, "bye")
        await fleet.until(lambda: bridged.received[-1:] == ["done: bye"], timeout=30)
        assert [message.content for message in handler_module("worker").given] == ["hi", "bye"]
        said = [m.content for m in fleet.sandbox.messages(conversation) if m.sender_kind == "agent"]
        assert [text for text in said if text.startswith("done")] == ["done: hi", "done: bye"]
        body, _ = fleet.service.metrics.render("text/plain")
        assert b'supervisor_messages_dropped_total{reason="duplicate"} 2.0' in body
        assert b'supervisor_messages_dropped_total{reason="own_echo"} ' in body


async def test_what_is_marked_to_be_skipped_is_cancelled_and_nobody_hears_of_it(
    tmp_path: Path, agents_dir: Path
) -> None:
    async with stack(tmp_path, sandbox_settings=STAGE_I, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(handler="worker")
        await fleet.online()
        user, conversation = await person(fleet, identity)
        fleet.sandbox.agents[identity].status = "sleep"
        fleet.sandbox.agents[identity].sleep = Sleep("work not done", time.time(), time.time() + 600)
        await user.say(conversation, "hello?")
        [row] = await settled(fleet, MessageState.CANCELLED)
        assert row.error is not None
        assert "skipAgent" in row.error
        assert handler_module("worker").given == []
