"""A running supervisor, and people who replay, discard and erase messages beside it or over its admin API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.records import JournaledMessage
from supervisor.core.states import AgentState, MessageState
from supervisor.core.status import InboxCounts
from supervisor.sandbox import SandboxUser, StoredMessage
from supervisor.service.housekeeping import COUNT_SECONDS
from tests.support.command import Command
from tests.support.journaling import add
from tests.support.observing import handlers_folder
from tests.support.stack import SECRET, Stack, handler_module, stack

#: Commands are processes: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(300)

HANDLERS = {
    "brittle": '''
"""Fails for good until it is mended; keeps what it is told to hold."""
import asyncio
from supervisor.handler import Permanent

mended = asyncio.Event()
gate = asyncio.Event()
started = []

async def on_message(message, ctx):
    started.append(message.content)
    if message.content.startswith("hold"):
        await gate.wait()
    elif not mended.is_set():
        raise Permanent(f"broken: secret={ctx.token()}")
    return f"fine: {message.content}"
''',
    "chatty": '''
"""Says something, waits, and says more."""
import asyncio

gate = asyncio.Event()

async def on_message(message, ctx):
    yield "before"
    await gate.wait()
    yield "after"
''',
}


class NeverCounts(SystemClock):
    """The machine's clock, but that it is never time to count."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(86_400.0 if seconds == COUNT_SECONDS else seconds)


class Conversation:
    """A person in one conversation with one agent."""

    def __init__(self, user: SandboxUser, fleet: Stack, identity: str, conversation_id: str) -> None:
        self.user, self.fleet, self.identity, self.id = user, fleet, identity, conversation_id

    async def say(self, text: str) -> str:
        return await self.user.say(self.id, text)

    def answers(self) -> list[StoredMessage]:
        """What the agent said, apologies included, in order."""
        return [message for message in self.fleet.sandbox.messages(self.id) if message.sender_kind == "agent"]

    def texts(self) -> list[str]:
        return [answer.content for answer in self.answers()]

    async def dead(self, *texts: str) -> list[int]:
        """Say something that the agent fails at; the numbers of the dead letters."""
        for text in texts:
            await self.say(text)
        letters: list[JournaledMessage] = []

        async def all_dead() -> bool:
            letters[:] = await self.fleet.service.registry.journal.messages(
                agent_id=self.identity, states=[MessageState.DEAD]
            )
            return len(letters) == len(texts)

        async with asyncio.timeout(20):
            while not await all_dead():
                await asyncio.sleep(0.01)
        await self.fleet.until(lambda: len(self.answers()) == len(texts))
        return [letter.id for letter in reversed(letters)]


async def converse(fleet: Stack, handler: str, number: int = 1, **fields: Any) -> Conversation:
    identity = await fleet.add(number, handler, **fields)
    await fleet.online(number)
    user = await fleet.sandbox.user()
    return Conversation(user, fleet, identity, await user.open(identity))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    """A stack whose counts follow other processes because it notices them, not because time has passed."""
    async with stack(
        tmp_path, agents_dir=handlers_folder(tmp_path, HANDLERS), parts={"clock": NeverCounts()}
    ) as running:
        yield running


def command(fleet: Stack, *args: str) -> Any:
    """Run the command in a process of its own, while the supervisor goes on here; raises when it fails."""
    return asyncio.to_thread(Command(fleet.folder).ok, "messages", *args)


async def test_a_replay_by_another_process_runs_and_its_answer_is_new(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    [number] = await talk.dead("order 7")
    assert fleet.service.control.status(talk.identity).inbox == InboxCounts(0, 0, 1)
    handler_module("brittle").mended.set()
    await command(fleet, "replay", str(number))
    await fleet.until(lambda: "fine: order 7" in talk.texts())
    assert len({answer.id for answer in talk.answers()}) == 2, (
        "the apology keeps its _id, the answer has one of its own"
    )
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox == InboxCounts(0, 0, 0))
    # What comes after has been answered after: nothing of the replay is still to come.
    await talk.say("next")
    await fleet.until(lambda: "fine: next" in talk.texts())
    assert talk.texts().count("fine: order 7") == 1
    row = await fleet.service.registry.journal.load(number)
    assert row is not None
    assert (row.state, row.replay, row.attempts) == (MessageState.DONE, 1, 1)


async def test_a_replayed_message_that_dies_again_can_be_replayed_again(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    [number] = await talk.dead("order 7")
    await fleet.service.control.replay(number)
    await fleet.until(lambda: len(talk.answers()) == 2)
    handler_module("brittle").mended.set()
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox.dead == 1)
    await fleet.service.control.replay(number)
    await fleet.until(lambda: "fine: order 7" in talk.texts())
    assert len({answer.id for answer in talk.answers()}) == 3


async def test_replays_keep_the_conversations_order(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    first, second = await talk.dead("1", "2")
    brittle = handler_module("brittle")
    await talk.say("hold 3")
    await fleet.until(lambda: "hold 3" in brittle.started)
    await talk.say("5")
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox == InboxCounts(1, 1, 2))
    brittle.mended.set()
    # The later one is named first, and both are noticed together.
    await command(fleet, "replay", str(second), str(first))
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox == InboxCounts(3, 1, 0))
    brittle.gate.set()
    await fleet.until(lambda: "fine: 5" in talk.texts())
    assert talk.texts()[2:] == ["fine: hold 3", "fine: 1", "fine: 2", "fine: 5"]


async def test_a_discard_by_another_process_is_counted_at_once(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    letters = await talk.dead("1", "2")
    await command(fleet, "discard", str(letters[0]))
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox.dead == 1)


async def test_a_paused_agent_takes_replays_up_when_it_comes_back_in_their_order(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    letters = await talk.dead("1", "2")
    await fleet.service.control.pause(talk.identity)
    await fleet.state(talk.identity, AgentState.PAUSED)
    handler_module("brittle").mended.set()
    # One that has waited in the journal since before, and a dead letter with a higher number.
    journal = fleet.service.registry.journal
    await add(journal, "k3", agent=talk.identity, conversation=talk.id, content="3")
    last = await add(journal, "k4", agent=talk.identity, conversation=talk.id, content="4", claim=True)
    await journal.settle(last, MessageState.DEAD)
    await command(fleet, "replay", str(last.id))
    # What is noticed meanwhile must not hide the lower numbers.
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox == InboxCounts(2, 0, 2))
    await command(fleet, "replay", *map(str, letters))
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox == InboxCounts(4, 0, 0))
    await fleet.service.control.resume(talk.identity)
    await fleet.until(lambda: len(talk.answers()) == 6)
    assert talk.texts()[2:] == ["fine: 1", "fine: 2", "fine: 3", "fine: 4"]


async def test_an_offline_agent_delivers_a_replay_when_it_is_back(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    [number] = await talk.dead("1")
    await fleet.sandbox.stop()
    await fleet.state(talk.identity, AgentState.BACKOFF, AgentState.AUTHENTICATING, AgentState.CONNECTING)
    handler_module("brittle").mended.set()
    await command(fleet, "replay", str(number))
    await fleet.sandbox.start()
    await fleet.until(lambda: "fine: 1" in talk.texts(), timeout=30)
    assert talk.texts().count("fine: 1") == 1


async def test_erasing_under_a_running_supervisor_lets_go_of_what_was_on_its_way(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    brittle = handler_module("brittle")
    await talk.dead("dead")
    await talk.say("hold this")
    await fleet.until(lambda: "hold this" in brittle.started)
    await talk.say("waiting")
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox == InboxCounts(1, 1, 1))
    said = await command(fleet, "purge", "--agent", talk.identity, "--yes")
    assert said == "Erased 4 messages and replies\n"
    left = b"".join(file.read_bytes() for file in fleet.folder.glob("supervisor.db*"))
    assert b"hold this" not in left, "not in the write-ahead log either, nor in free pages"
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox.dead == 0)
    brittle.mended.set()
    brittle.gate.set()
    await talk.say("afterwards")
    await fleet.until(lambda: "fine: afterwards" in talk.texts())
    assert talk.texts()[1:] == ["fine: afterwards"], "what was erased is neither run nor answered"
    rows = await fleet.service.registry.journal.messages(states=list(MessageState))
    assert [row.message.content for row in rows] == ["afterwards"]
    await fleet.until(lambda: fleet.service.control.status(talk.identity).inbox == InboxCounts(0, 0, 0))
    assert brittle.started == ["dead", "hold this", "afterwards"]


async def test_parts_that_come_after_an_erasure_belong_to_nobody_else(fleet: Stack) -> None:
    talk = await converse(fleet, "chatty")
    await talk.say("1")
    await fleet.until(lambda: talk.texts() == ["before"])
    await command(fleet, "purge", "--agent", talk.identity, "--yes")
    handler_module("chatty").gate.set()
    await fleet.until(lambda: talk.texts() == ["before", "after"])
    # After a restart numbers may be given again; what was said under them before is no part of the new message.
    await fleet.restart()
    await fleet.online()
    handler_module("chatty").gate.set()
    await talk.say("2")
    await fleet.until(lambda: talk.texts() == ["before", "after", "before", "after"])


async def undelivered(talk: Conversation) -> int:
    """Say something whose answer the platform refuses for good; the number of the message."""
    handler_module("brittle").mended.set()
    talk.fleet.sandbox.faults.refuse_sends(error="You do not have permission to create.", times=1)
    await talk.say("order 7")
    journal = talk.fleet.service.registry.journal
    async with asyncio.timeout(20):
        while not (letters := await journal.messages(agent_id=talk.identity, dead_letters=True)):
            await asyncio.sleep(0.01)
    [letter] = letters
    assert (letter.state, talk.texts()) == (MessageState.DONE, [])
    return letter.id


async def delivered_once(talk: Conversation, number: int) -> None:
    """The answer arrives with the ``_id`` that it had, and not again; the handler has run once."""
    [reply] = await talk.fleet.service.registry.journal.replies(number)
    await talk.fleet.until(lambda: talk.texts() == ["fine: order 7"])
    assert talk.answers()[0].id == reply.message.id
    await talk.say("next")
    await talk.fleet.until(lambda: "fine: next" in talk.texts())
    sends = [one.fields["payload"]["content"] for one in talk.fleet.sandbox.events if one.kind == "refused"]
    assert (talk.texts(), sends) == (["fine: order 7", "fine: next"], ["fine: order 7"])
    assert await talk.fleet.service.registry.journal.messages(dead_letters=True) == []


@pytest.mark.parametrize("by", ["another process", "the admin API", "both at once"])
async def test_a_refused_reply_is_sent_again_when_a_person_replays_it(fleet: Stack, by: str) -> None:
    talk = await converse(fleet, "brittle")
    number = await undelivered(talk)
    if by == "another process":
        assert str(number) in await command(fleet, "list")
        await command(fleet, "replay", str(number))
    else:
        await fleet.service.control.replay(number)
        if by == "both at once":
            await asyncio.gather(*(fleet.service.fleet.journal.take_up_replays() for _ in range(20)))
    await delivered_once(talk, number)
    assert handler_module("brittle").started == ["order 7", "next"]


async def test_a_refused_reply_that_is_replayed_while_no_supervisor_runs_is_sent_at_the_start(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    number = await undelivered(talk)
    await fleet.service.stop()
    await command(fleet, "replay", str(number))
    await fleet.restart()
    await fleet.online()
    handler_module("brittle").mended.set()
    await delivered_once(talk, number)


async def test_the_admin_api_lists_shows_replays_and_discards(fleet: Stack) -> None:
    talk = await converse(fleet, "brittle")
    first, second = await talk.dead("1", "2")
    api = f"{fleet.service.admin_url}/api/v1/messages"
    async with aiohttp.ClientSession() as session:

        async def ask(method: str, path: str = "") -> tuple[int, Any]:
            async with session.request(method, api + path) as answer:
                return answer.status, await answer.json()

        status, listed = await ask("GET")
        assert (status, [message["id"] for message in listed]) == (200, [second, first])
        assert (listed[0]["content"], listed[0]["agent_id"], listed[0]["state"]) == ("2", talk.identity, "dead")
        assert await ask("GET", f"?limit=1&before_id={second}") == (200, [listed[1]])
        assert await ask("GET", "?older_than_seconds=3600") == (200, [])
        assert await ask("GET", f"?agent_id={talk.identity}&conversation_id={talk.id}&newer_than_seconds=600") == (
            200,
            listed,
        )
        status, shown = await ask("GET", f"/{first}")
        assert (status, shown["replies"][0]["state"]) == (200, "acked")
        assert "Permanent" in shown["error"]
        token = fleet.service.fleet.runner(talk.identity).agent.grant
        assert token is not None
        assert token.token not in str(shown)
        assert SECRET not in str(shown)
        handler_module("brittle").mended.set()
        status, shown = await ask("POST", f"/{first}/replay")
        assert (status, shown["id"], shown["replays"]) == (200, first, 1)
        await fleet.until(lambda: "fine: 1" in talk.texts())
        status, shown = await ask("POST", f"/{second}/discard")
        assert (status, shown["state"]) == (200, "cancelled")
        assert fleet.service.control.status(talk.identity).inbox == InboxCounts(0, 0, 0)
        for path in (f"/{second}/replay", f"/{first}/discard"):
            status, refused = await ask("POST", path)
            assert (status, list(refused)) == (409, ["error"])
            assert "only a dead letter" in refused["error"]
        assert (await ask("POST", "/999/replay"))[0] == 404
        assert (await ask("GET", "?state=done&state=cancelled"))[1][0]["id"] == second
