"""``when_busy``: what becomes of messages that come while one of their conversation is being answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from supervisor.core.states import MessageState
from supervisor.sandbox import SandboxUser
from tests.support.observing import handlers_folder
from tests.support.stack import SECRET, Stack, agent_id, handler_module, stack

HANDLERS = {
    "gate": '''
"""Answers what it was given together, once the gate is open; the first message that fails does so once."""
import asyncio

given, opened = [], asyncio.Event()

async def on_message(message, ctx):
    texts = [one.content for one in (*message.earlier, message)]
    given.append(texts)
    await opened.wait()
    if texts[-1] == "fail" and given.count(texts) == 1:
        raise ValueError("once")
    return " + ".join(texts)
''',
    "parts": '''
"""Shows a part, then waits for the gate."""
import asyncio

given, opened = [], asyncio.Event()

async def on_message(message, ctx):
    given.append([one.content for one in (*message.earlier, message)])
    yield f"part {len(given)}"
    await opened.wait()
    yield " + ".join(given[-1])
''',
    "thread": '''
"""Waits for the gate in a thread."""
import threading

given, opened = [], threading.Event()

def on_message(message, ctx):
    given.append([one.content for one in (*message.earlier, message)])
    opened.wait(20)
    return " + ".join(given[-1])
''',
}


@dataclass
class Talk:
    """Somebody who talks to an agent that is busy until the gate is opened."""

    fleet: Stack
    agent: str
    user: SandboxUser
    id: str
    handler: str

    async def say(self, *texts: str) -> None:
        """Say things one after the other; each is in its lane before the next."""
        lanes = self.fleet.service.fleet.runner(self.agent).agent.pipeline.lanes
        for number, text in enumerate(texts, lanes.in_memory + 1):
            await self.user.say(self.id, text)
            await self.fleet.until(partial(self._waits, number))

    def _waits(self, count: int) -> bool:
        return self.fleet.service.fleet.runner(self.agent).agent.pipeline.lanes.in_memory >= count

    async def begun(self, count: int) -> None:
        """Wait until the handler was begun so many times."""
        await self.fleet.until(lambda: len(self.given) == count)

    @property
    def given(self) -> list[list[str]]:
        """What the handler was given together, each time."""
        given: list[list[str]] = handler_module(self.handler).given
        return given

    def open(self) -> None:
        handler_module(self.handler).opened.set()

    async def answers(self, count: int) -> list[str]:
        """What the agent has said, once it is so much."""

        def said() -> list[str]:
            return [one.content for one in self.fleet.sandbox.messages(self.id) if one.sender_kind == "agent"]

        await self.fleet.until(lambda: len(said()) >= count)
        return said()

    async def journal(self) -> list[tuple[str, MessageState]]:
        """What became of each message, in order."""
        rows = await self.fleet.service.registry.journal.messages(agent_id=self.agent)
        return [(row.message.content, row.state) for row in reversed(rows)]

    async def settled(self) -> list[tuple[str, MessageState]]:
        """As :meth:`journal`, once nothing waits."""
        await self.fleet.until(lambda: self.fleet.service.fleet.inbox()[self.agent].available == 0)
        await self.fleet.until(lambda: self.fleet.service.fleet.inbox()[self.agent].running == 0)
        return await self.journal()


@asynccontextmanager
async def talk(folder: Path, when_busy: str, handler: str = "gate", **settings: object) -> AsyncIterator[Talk]:
    """A conversation with an agent."""
    async with stack(folder, agents_dir=handlers_folder(folder, HANDLERS)) as fleet:
        fleet.sandbox.add_agent(agent_id(1), SECRET)
        agent = await fleet.add(1, handler, settings={"when_busy": when_busy, **settings})
        await fleet.online()
        user = await fleet.sandbox.user()
        yield Talk(fleet, agent, user, await user.open(agent), handler)


def done(*texts: str) -> list[tuple[str, MessageState]]:
    return [(text, MessageState.DONE) for text in texts]


async def test_queue_answers_each_by_itself(tmp_path: Path) -> None:
    async with talk(tmp_path, "queue") as one:
        await one.say("a", "b", "c")
        one.open()
        assert await one.answers(3) == ["a", "b", "c"]
        assert one.given == [["a"], ["b"], ["c"]]


async def test_collect_gives_all_that_wait_one_answer(tmp_path: Path) -> None:
    async with talk(tmp_path, "collect") as one:
        await one.say("a")
        await one.begun(1)
        await one.say("b", "c", "d")
        assert await one.journal() == [("a", MessageState.RUNNING), *((x, MessageState.AVAILABLE) for x in "bcd")]
        one.open()
        assert await one.answers(2) == ["a", "b + c + d"]
        assert await one.settled() == done("a", "b", "c", "d")


async def test_what_was_collected_is_tried_again_together(tmp_path: Path) -> None:
    async with talk(tmp_path, "collect") as one:
        await one.say("a")
        await one.begun(1)
        await one.say("b", "fail")
        one.open()
        assert await one.answers(2) == ["a", "b + fail"]
        assert one.given == [["a"], ["b", "fail"], ["b", "fail"]]
        assert await one.settled() == done("a", "b", "fail")


async def test_what_was_collected_is_given_up_together(tmp_path: Path) -> None:
    async with talk(tmp_path, "collect", max_attempts=1) as one:
        await one.say("a")
        await one.begun(1)
        await one.say("b", "fail")
        one.open()
        await one.answers(2)
        assert await one.settled() == [("a", MessageState.DONE), ("b", MessageState.DEAD), ("fail", MessageState.DEAD)]


async def test_one_of_several_that_is_cancelled_leaves_the_others(tmp_path: Path) -> None:
    async with talk(tmp_path, "interrupt") as one:
        for number, text in enumerate("abc", 1):
            await one.say(text)
            await one.begun(number)
        first = (await one.fleet.service.registry.journal.messages(agent_id=one.agent))[-1]
        assert await one.fleet.service.fleet.cancel(first, "not wanted")
        one.open()
        assert await one.answers(1) == ["a + b + c"], "its handler had begun"
        assert await one.settled() == [("a", MessageState.CANCELLED), *done("b", "c")]


async def test_interrupt_begins_again_with_what_has_come(tmp_path: Path) -> None:
    async with talk(tmp_path, "interrupt") as one:
        await one.say("a")
        await one.begun(1)
        await one.say("b")
        await one.begun(2)
        await one.say("c")
        await one.begun(3)
        one.open()
        assert await one.answers(1) == ["a + b + c"]
        assert one.given == [["a"], ["a", "b"], ["a", "b", "c"]]
        assert await one.settled() == done("a", "b", "c")
        rows = await one.fleet.service.registry.journal.messages(agent_id=one.agent)
        assert [row.attempts for row in reversed(rows)] == [0, 0, 1], "an interruption costs no attempt"


async def test_who_never_stops_writing_is_answered_too(tmp_path: Path) -> None:
    async with talk(tmp_path, "interrupt") as one:
        for number in range(6):
            await one.say(str(number))
            await one.begun(number + 1)
        await one.say("6", "7")
        one.open()
        assert await one.answers(2) == ["0 + 1 + 2 + 3 + 4 + 5", "6 + 7"]


@pytest.mark.parametrize("handler", ["parts", "thread"])
async def test_what_is_seen_already_or_cannot_be_stopped_is_not_interrupted(tmp_path: Path, handler: str) -> None:
    async with talk(tmp_path, "interrupt", handler) as one:
        await one.say("a")
        await one.begun(1)
        if handler == "parts":
            assert await one.answers(1) == ["part 1"]
        await one.say("b", "c")
        one.open()
        expected = ["part 1", "a", "part 2", "b + c"] if handler == "parts" else ["a", "b + c"]
        assert await one.answers(len(expected)) == expected
        assert one.given == [["a"], ["b", "c"]]


async def test_commands_go_between_and_stop_what_was_collected(tmp_path: Path) -> None:
    async with talk(tmp_path, "collect") as one:
        await one.say("a")
        await one.begun(1)
        await one.say("b", "c")
        await one.user.say(one.id, "/stop")
        assert await one.answers(1) == ["Stopped."]
        await one.begun(2)
        await one.user.say(one.id, "/stop")
        assert await one.answers(2) == ["Stopped."] * 2
        states = dict(await one.settled())
        assert [states[text] for text in "abc"] == [MessageState.CANCELLED] * 3


async def test_after_a_restart_what_waited_is_still_answered_together(tmp_path: Path) -> None:
    async with talk(tmp_path, "collect") as one:
        await one.say("a")
        await one.begun(1)
        await one.say("b", "c")
        await one.fleet.restart(grace_seconds=0)
        await one.fleet.online()
        one.open()
        answers = await one.answers(1)
        assert answers == ["a + b + c"]
        assert await one.settled() == done("a", "b", "c")
