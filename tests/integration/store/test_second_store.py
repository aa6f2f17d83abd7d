"""A whole supervisor, over real sockets, on the store's other implementations: the seam holds for the engine too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.states import AgentState, MessageState
from supervisor.management.messages import MessageQuery
from supervisor.store import Registry
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, stack
from tests.support.stores import Store, make_store

FAILS_FIRST = """
attempts = []

async def on_message(message, ctx):
    attempts.append(message)
    if len(attempts) == 1:
        raise RuntimeError("not yet")
    return f"at last: {message.content}"
"""
HANDLERS = {
    "twice": FAILS_FIRST,
    "once": FAILS_FIRST,
    "spender": """
async def on_message(message, ctx):
    ctx.usage(100, 20, model="large", provider="openai")
    return "spent"
""",
    "stuck": "import asyncio\n\nasync def on_message(message, ctx):\n    await asyncio.Event().wait()\n",
}


@pytest.fixture(params=("postgres", "memory"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with make_store(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def fleet(tmp_path: Path, store: Store) -> AsyncIterator[Stack]:
    folder = handlers_folder(tmp_path, HANDLERS)
    async with stack(tmp_path, dialect=store.dialect, registry_url=store.url, agents_dir=folder) as running:
        yield running
    assert not list(tmp_path.glob("*.db*")), "no file was made"


async def test_messages_are_answered_in_order_and_once(fleet: Stack) -> None:
    identity = await fleet.add()
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    said = [await user.say(conversation, f"m{number}") for number in range(20)]
    replies = await user.wait_for_reply(conversation, after=said[0], count=20)
    assert [reply.content for reply in replies] == [f"Echo: m{number}" for number in range(20)]
    journal = fleet.service.registry.journal
    async with asyncio.timeout(10):
        while await journal.unsent(identity):
            await asyncio.sleep(0.01)
    assert {row.state for row in await journal.messages()} == {MessageState.DONE}


async def test_what_waits_is_taken_up_by_the_next_supervisor(fleet: Stack) -> None:
    identity = await fleet.add(handler="stuck")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "one")
    await user.say(conversation, "two")
    await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 1)
    # Before the next one starts: it would run the first message with what it finds.
    await fleet.service.registry.update_agent(identity, handler="echo")
    await fleet.restart(grace_seconds=0)
    replies = await user.wait_for_reply(conversation, after=first, count=2)
    assert [reply.content for reply in replies] == ["Echo: one", "Echo: two"]


async def test_an_attempt_that_fails_is_tried_again_and_a_dead_letter_replayed(fleet: Stack) -> None:
    patient = await fleet.add(1, "twice", settings={"max_attempts": 2})
    hasty = await fleet.add(2, "once", settings={"max_attempts": 1})
    await fleet.online(2)
    [reply] = await fleet.ask(patient, "hello")
    assert reply.content == "at last: hello"
    await fleet.ask(hasty, "hello")
    [letter] = await fleet.service.control.messages(MessageQuery(agent_id=hasty), limit=10)
    assert letter.state is MessageState.DEAD
    await fleet.service.control.replay(letter.id)
    conversation = fleet.sandbox.conversation_of(hasty)
    await fleet.until(lambda: "at last: hello" in [one.content for one in fleet.sandbox.messages(conversation)])
    await fleet.until(lambda: fleet.service.control.status(hasty).inbox.dead == 0)


async def test_agents_are_followed_and_a_removed_ones_messages_cancelled(fleet: Stack, store: Store) -> None:
    identity = await fleet.add(handler="stuck")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    await user.say(conversation, "one")
    await user.say(conversation, "two")
    await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 1)
    # By another hand, as a command in another process would.
    beside = Registry(await store.dialect.open(fleet.settings.registry_url, clock=SystemClock()))
    await beside.update_agent(identity, paused=True)
    await fleet.state(identity, AgentState.PAUSED)
    await beside.remove_agent(identity)
    await fleet.until(lambda: not fleet.service.control.statuses())
    journal = fleet.service.registry.journal
    async with asyncio.timeout(10):
        while {row.state for row in await journal.messages(agent_id=identity)} != {MessageState.CANCELLED}:
            await asyncio.sleep(0.01)
    await beside.close()


async def test_what_agents_use_is_summed_up(fleet: Stack) -> None:
    identity = await fleet.add(handler="spender")
    await fleet.online()
    for _ in range(3):
        await fleet.ask(identity, "hello")
    await fleet.service.registry.journal.flush()
    [used] = await fleet.service.registry.usage(identity)
    assert (used.model, used.requests, used.input_tokens, used.output_tokens) == ("large", 3, 300, 60)
