"""Handlers that block, hang or tell secrets, in a running supervisor: they harm nobody but themselves."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.core.states import AgentState, MessageState, ReplyState
from supervisor.sandbox import SandboxUser
from tests.support.observing import captured_logs, handlers_folder, named
from tests.support.stack import SECRET, Stack, handler_module, is_apology, stack

FLAKY = """from supervisor.handler import Permanent

async def on_message(message, ctx, asked=[]):
    asked.append(1)
    if len(asked) == 1:
        raise LookupError("not yet")
    if message.content == "hopeless":
        raise Permanent
    return "at last"
"""
DOUBTFUL = """from supervisor.handler import Handler

class Desk(Handler):
    def on_message(self, message, ctx):
        return "hello"

    def on_strat(self, ctx): ...
"""
HANDLERS = {
    "blocking.py": '''
"""Plain functions: one that blocks until it is let go, or answers at once."""
import threading

release = threading.Event()
started = []

def on_message(message, ctx):
    started.append(message.content)
    if message.content.startswith("hang"):
        release.wait()
    return f"{message.content} in time: {ctx.deadline > 0}"
''',
    "blocking_parts.py": '''
"""A plain generator whose second part does not come until it is let go."""
import threading

release = threading.Event()

def on_message(message, ctx):
    yield "one"
    release.wait()
    yield "two"
''',
    "plain.py": """
def on_message(message, ctx):
    return f"plain: {message.content}"
""",
    "waiting.py": '''
"""Waits until it is cancelled; swallows that when told to; types by itself when told to."""
import asyncio

release = asyncio.Event()
started = []

async def on_message(message, ctx):
    started.append(message.content)
    if message.content == "types":
        ctx.typing()
        ctx.typing(False)
        ctx.typing()
    if message.content == "fails":
        raise RuntimeError("no")
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            if message.content != "swallows":
                raise
    ctx.typing()
    return "late"
''',
    "indiscreet.py": '''
"""Fails with the agent's token in its words."""
from supervisor.handler import Permanent

async def on_message(message, ctx):
    kind = Permanent if message.content == "permanent" else RuntimeError
    try:
        raise LookupError(f"GET https://tools.example/?token={ctx.token()}")
    except LookupError as error:
        raise kind(f"the tool refused: Authorization: Bearer {ctx.token()}") from error
''',
}


@pytest.fixture
def agents_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder of handlers that misbehave on cue; whatever still blocks in one is let go."""
    folder = tmp_path / "handlers"
    folder.mkdir()
    for name, code in HANDLERS.items():
        (folder / name).write_text(code)
    yield folder
    for name in ("blocking", "blocking_parts"):
        if module := sys.modules.get(f"supervisor_agents.{name}"):
            module.release.set()


@pytest.fixture
async def fleet(tmp_path: Path, agents_dir: Path) -> AsyncIterator[Stack]:
    """A stack with as few threads as there can be."""
    async with stack(tmp_path, agents_dir=agents_dir, handler_threads=2) as running:
        yield running


def abandoned(fleet: Stack, identity: str) -> int:
    """How many handlers of an agent were left behind and are not back."""
    return fleet.service.fleet.runner(identity).agent.pipeline.abandoned


@pytest.mark.parametrize("threads", [1, 2])
async def test_plain_functions_that_hang_leave_other_agents_their_threads(
    tmp_path: Path, agents_dir: Path, threads: int
) -> None:
    async with stack(tmp_path, agents_dir=agents_dir, handler_threads=threads) as fleet:
        busy = await fleet.add(1, "blocking", settings={"timeout_seconds": 0.2})
        other = await fleet.add(2, "plain")
        await fleet.online(2)
        user = await fleet.sandbox.user()
        conversation = await user.open(busy)
        first = await user.say(conversation, "hang one")
        for number in range(3):
            await user.say(conversation, f"hang {number}")
        [apology] = await user.wait_for_reply(conversation, after=first)
        assert is_apology(apology)
        await fleet.until(lambda: fleet.service.control.status(busy).inbox.running == 1)
        for number in range(5):
            [reply] = await fleet.ask(other, str(number))
            assert reply.content == f"plain: {number}"


async def test_conversations_that_hang_at_once_leave_other_agents_their_threads(
    tmp_path: Path, agents_dir: Path
) -> None:
    """Also before the time-out, as long as it may be."""
    v2 = {"profile": "v2"}
    async with stack(tmp_path, sandbox_settings=v2, agents_dir=agents_dir, handler_threads=4) as fleet:
        busy, other = await fleet.add(1, "blocking"), await fleet.add(2, "plain")
        await fleet.online(2)
        for number in range(4):
            user = await fleet.sandbox.user()
            await user.say(await user.open(busy), f"hang {number}")
        await fleet.until(lambda: fleet.service.control.status(busy).inbox.running == 4)
        [reply] = await fleet.ask(other, "hello")
        assert reply.content == "plain: hello"
        # A thread that was just begun has yet to say so.
        await fleet.until(lambda: len(handler_module("blocking").started) >= 2)
        assert len(handler_module("blocking").started) == 2


async def test_waiting_for_a_thread_takes_no_time_from_the_handler(fleet: Stack) -> None:
    identity = await fleet.add(1, "blocking", settings={"timeout_seconds": 0.2})
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "hang")
    await user.say(conversation, "next")
    await user.wait_for_reply(conversation, after=first)
    await fleet.until(lambda: fleet.service.control.status(identity).inbox.running == 1)
    blocking = handler_module("blocking")
    # Well past the limit: the second message still has no thread, and all its time.
    await asyncio.sleep(0.45)
    assert blocking.started == ["hang"]
    blocking.release.set()
    replies = await user.wait_for_reply(conversation, after=first, count=2)
    assert [r.content for r in replies][1] == "next in time: True"


@pytest.mark.parametrize("handler", ["blocking", "blocking_parts"])
async def test_a_thread_that_outlives_its_time_is_reported_until_it_is_back(
    fleet: Stack, log: Callable[[], list[dict[str, Any]]], handler: str
) -> None:
    identity = await fleet.add(1, handler, settings={"timeout_seconds": 0.2})
    await fleet.online()
    reply = (await fleet.ask(identity, "hang", count=1 if handler == "blocking" else 2))[-1]
    assert (is_apology(reply), "took too long" in reply.content) == (True, True)
    [line] = [line for line in log() if line["event"] == "handler_abandoned"]
    assert (line["agent"], line["handler"], line["abandoned"]) == (identity, handler, 1)
    assert abandoned(fleet, identity) == 1
    handler_module(handler).release.set()
    await fleet.until(lambda: abandoned(fleet, identity) == 0)
    said = [m.content for m in fleet.sandbox.messages(fleet.sandbox.conversation_of(identity))]
    assert not {"two", "hang in time: True"} & set(said), "the late answer was sent"


async def test_a_message_that_waits_for_a_thread_is_released_by_a_stop_and_keeps_no_thread(fleet: Stack) -> None:
    identity = await fleet.add(1, "blocking", settings={"timeout_seconds": 0.2})
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "hang")
    await user.say(conversation, "next")
    await user.wait_for_reply(conversation, after=first)
    await fleet.until(lambda: fleet.service.control.status(identity).inbox.running == 1)
    await fleet.restart(grace_seconds=0.1)
    [_, reply] = await user.wait_for_reply(conversation, after=first, count=2)
    assert reply.content == "next in time: True"
    [row] = await fleet.service.registry.journal.messages(agent_id=identity, states=[MessageState.DONE])
    assert row.attempts == 1


def signs(user: SandboxUser) -> list[bool]:
    """What the person saw of "typing …"."""
    return [payload["isTyping"] for name, payload in user.received if name == "agent:typing"]


@pytest.mark.parametrize(
    ("handler", "text", "seen"),
    [
        ("waiting", "waits", [True, False]),
        ("waiting", "fails", [True, False]),
        ("waiting", "swallows", [True, False]),
        ("waiting", "types", [True, True, False, True, False]),
        ("blocking", "hang", [True, False]),
    ],
)
async def test_typing_is_taken_back_once_whatever_ends_the_handler(
    fleet: Stack, handler: str, text: str, seen: list[bool]
) -> None:
    identity = await fleet.add(1, handler, settings={"timeout_seconds": 0.2, "max_attempts": 1})
    await fleet.online()
    [reply] = await fleet.ask(identity, text)
    assert is_apology(reply)
    user = fleet.users[0]
    await fleet.until(lambda: signs(user)[-1:] == [False])
    handler_module(handler).release.set()
    await fleet.until(lambda: abandoned(fleet, identity) == 0)
    # While an answer is on its way nothing is shown that would look like another one.
    [row] = await fleet.service.registry.journal.messages(agent_id=identity)
    while [one.state for one in await fleet.service.registry.journal.replies(row.id)] != [ReplyState.ACKED]:
        await asyncio.sleep(0.01)
    await user.say(fleet.sandbox.conversation_of(identity), "fails")
    await fleet.until(lambda: len(signs(user)) >= len(seen) + 2)
    assert signs(user) == [*seen, True, False]


@pytest.mark.parametrize(("handler", "text"), [("waiting", "waits"), ("blocking", "hang")])
async def test_typing_is_taken_back_when_the_lanes_are_closed(fleet: Stack, handler: str, text: str) -> None:
    identity = await fleet.add(1, handler)
    await fleet.online()
    user = await fleet.sandbox.user()
    await user.say(await user.open(identity), text)
    await fleet.until(lambda: signs(user) == [True] and handler_module(handler).started)
    await fleet.service.fleet.runner(identity).agent.pipeline.lanes.close()
    await fleet.until(lambda: len(signs(user)) > 1)
    assert signs(user) == [True, False]


@pytest.mark.parametrize("text", ["permanent", "again"])
async def test_an_agents_token_in_an_exception_gets_nowhere(
    fleet: Stack, log: Callable[[], list[dict[str, Any]]], text: str
) -> None:
    identity = await fleet.add(1, "indiscreet", settings={"max_attempts": 5})
    await fleet.online()
    grant = fleet.service.fleet.runner(identity).agent.grant
    assert grant is not None
    user = await fleet.sandbox.user()
    await user.say(await user.open(identity), text)
    await fleet.until(lambda: fleet.service.control.status(identity).health != "ok")
    state = [MessageState.DEAD if text == "permanent" else MessageState.RETRYABLE]
    async with asyncio.timeout(10):
        while not (rows := await fleet.service.registry.journal.messages(agent_id=identity, states=state)):
            await asyncio.sleep(0.01)
    assert "the tool refused: Authorization: Bearer [redacted]" in (rows[0].error or "")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{fleet.service.admin_url}/api/v1/agents") as response,
    ):
        shown = await response.text()
    assert "the tool refused" in shown
    written = b"".join(path.read_bytes() for path in fleet.folder.glob("supervisor.db*"))
    assert b"the tool refused" in written
    assert any("the tool refused" in (line.get("reason") or "") for line in log())
    for part in grant.token.split("."):
        assert part not in shown
        assert part.encode() not in written
        assert part not in json.dumps(log())


async def test_an_opaque_token_is_found_though_it_looks_like_nothing(
    fleet: Stack, log: Callable[[], list[dict[str, Any]]]
) -> None:
    """No pattern tells it: neither "Bearer" nor "token" stands before it."""
    (fleet.service.shared.loader.agents_dir / "opaque.py").write_text(
        "async def on_message(message, ctx):\n    raise RuntimeError('key ' + ctx.token())\n"
    )
    identity = await fleet.add(1, "opaque", settings={"max_attempts": 1})
    await fleet.online()
    agent = fleet.service.fleet.runner(identity).agent
    assert agent.grant is not None
    agent.profile.authorize(replace(agent.grant, token="abc123def456"))
    await fleet.ask(identity, "x")
    [dead] = await fleet.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])
    assert "key [redacted]" in (dead.error or "")
    assert str(agent.profile.health) == "failing: RuntimeError: key [redacted]"
    written = b"".join(path.read_bytes() for path in fleet.folder.glob("supervisor.db*"))
    assert b"abc123def456" not in written
    assert "abc123def456" not in json.dumps(log())


async def test_text_that_cannot_be_stored_is_stored_readably(fleet: Stack) -> None:
    """A lone surrogate cannot be encoded: the message would never be settled."""
    (fleet.service.shared.loader.agents_dir / "torn.py").write_text(
        "async def on_message(message, ctx):\n    raise RuntimeError('torn \\ud800 text')\n"
    )
    identity = await fleet.add(1, "torn", settings={"max_attempts": 1})
    await fleet.online()
    [reply] = await fleet.ask(identity, "x")
    assert is_apology(reply)
    [dead] = await fleet.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])
    assert "torn \\ud800 text" in (dead.error or "")


@pytest.mark.parametrize(("handler", "text"), [("waiting", "waits"), ("blocking", "hang")])
async def test_typing_is_taken_back_when_a_drain_runs_out_of_time(
    tmp_path: Path, agents_dir: Path, handler: str, text: str
) -> None:
    async with stack(tmp_path, agents_dir=agents_dir, drain_seconds=0.2) as fleet:
        identity = await fleet.add(1, handler)
        await fleet.online()
        user = await fleet.sandbox.user()
        await user.say(await user.open(identity), text)
        await fleet.until(lambda: signs(user) == [True] and handler_module(handler).started)
        await fleet.service.control.pause(identity)
        await fleet.state(identity, AgentState.PAUSED)
        assert signs(user) == [True, False]


@pytest.mark.parametrize(
    ("given", "shown"),
    [({}, False), ({"log_tracebacks": True}, True), ({"log_level": "DEBUG"}, True)],
    ids=["as it comes", "log_tracebacks", "debug"],
)
async def test_who_writes_a_handler_sees_the_traceback_of_the_first_failure(
    tmp_path: Path, given: dict[str, Any], shown: bool
) -> None:
    folder = handlers_folder(tmp_path, {"flaky": FLAKY})
    async with stack(tmp_path, agents_dir=folder, **given) as fleet:
        with captured_logs() as log:
            identity = await fleet.add(handler="flaky")
            await fleet.online()
            assert (await fleet.ask(identity, "x"))[0].content == "at last"
        [failure] = named(log, "handler_failed")
        assert failure["attempt"] == 1
        assert ("line 6, in on_message" in failure.get("exception", "")) is shown
        assert is_apology((await fleet.ask(identity, "hopeless"))[-1])


async def test_what_is_doubtful_about_a_handler_is_told_and_keeps_nobody_from_answering(tmp_path: Path) -> None:
    folder = handlers_folder(tmp_path, {"desk": DOUBTFUL})
    async with stack(tmp_path, agents_dir=folder) as fleet:
        with captured_logs() as log:
            identity = await fleet.add(handler="desk")
            await fleet.online()
            assert (await fleet.ask(identity, "x"))[0].content == "hello"
        (note,) = fleet.service.control.status(identity).notes
        assert note == "on_strat is no hook, and nobody calls it; did you mean on_start? (desk.py, line 7)"
        assert [entry["reason"] for entry in named(log, "handler_doubtful")] == [note]


@pytest.mark.parametrize("code", ["on_start", "import"])
async def test_the_secret_in_what_a_handler_raises_at_its_start_gets_nowhere(tmp_path: Path, code: str) -> None:
    """Neither with its traceback, nor to whoever waits for the reload."""
    failing = f"raise LookupError({SECRET!r})"
    starts = f"{DOUBTFUL}\n    def on_start(self, ctx):\n        {failing}\n"
    folder = handlers_folder(tmp_path, {"desk": DOUBTFUL})
    async with stack(tmp_path, agents_dir=folder, log_tracebacks=True) as fleet:
        identity = await fleet.add(handler="desk")
        await fleet.online()
        await fleet.service.control.pause(identity)
        await fleet.state(identity, AgentState.PAUSED)
        (folder / "desk.py").write_text(starts if code == "on_start" else f"{DOUBTFUL}\n{failing}\n")
        with captured_logs() as log:
            runner = fleet.service.fleet.runner(identity)
            told = asyncio.create_task(runner.refresh())
            await fleet.service.control.resume(identity)
            assert "LookupError" in await told
        [shown] = named(log, "handler_code_failed")
        assert "in on_start" in shown["exception"] if code == "on_start" else "in <module>" in shown["exception"]
        assert SECRET not in f"{told.result()}{runner.status().reason}{shown['exception']}"
