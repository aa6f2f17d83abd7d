"""What a machine reads of the log: one JSON object a line, and each that is about a message names it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.sandbox import SandboxUser
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, stack

HANDLERS = {
    "talkative": '''
"""Logs in every way that there is, and does what it is told."""
import asyncio, logging, pathlib, threading
from supervisor.handler import Permanent

library = logging.getLogger("some.library")
failed = pathlib.Path(__file__).with_suffix(".failed")

async def on_message(message, ctx):
    ctx.log.info("own_line")
    library.warning("library line\\nof %s", "two")
    await asyncio.create_task(beside())
    await asyncio.to_thread(library.warning, "from a thread")
    thread = threading.Thread(target=ctx.log.info, args=("own_thread",))
    thread.start()
    thread.join()
    if message.content == "bury":
        raise Permanent("no use")
    if message.content == "fail" and not failed.exists():
        failed.touch()
        raise RuntimeError("not yet")
    if message.content == "ill":
        ctx.note_health("the key is wrong")
    if message.content == "hang":
        await asyncio.sleep(60)
    return "answered"

async def beside():
    library.warning("from a task")
''',
    "threaded": '''
"""A plain function runs in a thread."""
import logging

def on_message(message, ctx):
    logging.getLogger("some.library").warning("from a handler's thread")
    yield "one"
    logging.getLogger("some.library").warning("from its next part")
    yield "two"
''',
}
OWN = ("own_line", "library line\nof two", "from a task", "from a thread", "own_thread")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    async with stack(tmp_path, agents_dir=handlers_folder(tmp_path, HANDLERS), inbox_limit=2) as running:
        yield running


Log = Callable[[], list[dict[str, Any]]]


def about(log: Log, message: str) -> list[str]:
    """The events of the lines that name a message."""
    return [line["event"] for line in log() if line.get("message_id") == message]


async def say(user: SandboxUser, agent: str, text: str) -> dict[str, str]:
    """Say something; how each line about it has to name it."""
    conversation = await user.open(agent)
    return {"agent": agent, "conversation": conversation, "message_id": await user.say(conversation, text)}


async def test_every_line_about_a_message_names_it(fleet: Stack, log: Log) -> None:
    agents = [await fleet.add(1, "talkative"), await fleet.add(2, "talkative", settings={"timeout_seconds": 0.3})]
    agents.append(await fleet.add(3, "threaded"))
    await fleet.online(3)
    user = await fleet.sandbox.user()
    expected: list[tuple[dict[str, str], list[str]]] = []

    async def tell(agent: str, text: str, *events: str) -> None:
        """Say something and wait until the last of the events is there."""
        ids = await say(user, agent, text)
        expected.append((ids, list(events)))
        await fleet.until(lambda: events[-1] in about(log, ids["message_id"]))
        # What the test does next must not meet this one, nor its reply.
        await fleet.until(lambda: not fleet.service.control.overview().inbox.running)
        await fleet.until(lambda: not fleet.service.fleet.runner(agent).agent.pipeline.outbox.waiting)

    await tell(agents[0], "hello", *OWN)
    await tell(agents[0], "fail", *OWN, "handler_failed", *OWN)
    await fleet.until(lambda: about(log, expected[-1][0]["message_id"]).count("own_thread") == 2)
    await fleet.until(lambda: not fleet.service.control.overview().inbox.available)
    await tell(agents[0], "bury", *OWN, "dead_letter")
    await tell(agents[0], "ill", *OWN, "health_failing")
    await tell(agents[1], "hang", *OWN, "handler_timeout", "dead_letter")
    await tell(agents[2], "hello", "from a handler's thread", "from its next part")
    await tell(agents[0], "/status", "command")
    fleet.sandbox.faults.refuse_sends(times=1)
    await tell(agents[0], "and now", *OWN, "health_failing", "reply_refused")
    # The same task delivers this one, and says nothing of it: what is logged then is about nothing else.
    fleet.sandbox.faults.refuse_sends(agents=[agents[2]], times=1)
    await tell(
        agents[2],
        "once more",
        "from a handler's thread",
        "health_failing",
        "reply_refused",
        "from its next part",
        "health_ok",
    )

    await fleet.service.stop()
    for ids, events in expected:
        lines = [line for line in log() if line.get("message_id") == ids["message_id"]]
        assert all(line | ids == line for line in lines), lines
        assert sorted(line["event"] for line in lines if line["level"] != "debug") == sorted(events)
    named = {ids["message_id"] for ids, _ in expected}
    assert {line.get("message_id") for line in log()} == named | {None}
    # Of what is about agents, or about the whole, no line names a message.
    assert {"agent_online", "draining", "stopped"} <= {line["event"] for line in log() if "message_id" not in line}
    text = str(log())
    assert "and now" not in text
    assert "once more" not in text


async def test_a_message_that_is_not_taken_in_is_named_too(fleet: Stack, log: Log) -> None:
    identity = await fleet.add(1, "talkative", settings={"concurrency": 1})
    await fleet.online()
    user = await fleet.sandbox.user()
    for text in ("hang", "waits"):
        await say(user, identity, text)
    await fleet.until(lambda: fleet.service.fleet.inbox()[identity].available)
    refused = await say(user, identity, "one too many")
    await fleet.until(lambda: "inbox_full" in about(log, refused["message_id"]))
    [line] = [line for line in log() if line["event"] == "inbox_full"]
    assert line | refused == line


async def test_a_reply_that_the_next_start_delivers_names_its_message(fleet: Stack, log: Log) -> None:
    identity = await fleet.add(1, "talkative")
    await fleet.online()
    fleet.sandbox.faults.cut_sends(when="before_store")
    fleet.sandbox.faults.connect("kick")
    ids = await say(await fleet.sandbox.user(), identity, "hello")
    await fleet.sandbox.wait_until(lambda: fleet.sandbox.faults.struck["cut_sends"])
    await fleet.service.stop(grace_seconds=0)
    fleet.sandbox.faults.clear()
    fleet.sandbox.faults.refuse_sends("You do not have permission to create.")
    await fleet.restart()
    await fleet.until(lambda: "reply_refused" in about(log, ids["message_id"]), timeout=15)
    [line] = [line for line in log() if line["event"] == "reply_refused"]
    assert line | ids == line
