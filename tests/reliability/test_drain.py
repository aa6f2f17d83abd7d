"""R15: SIGTERM with 100 handlers running and messages arriving; and the drain of one agent that is paused."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.core.states import FINAL_REPLY_STATES, MessageState
from supervisor.sandbox import Sandbox, SandboxUser
from tests.support.processes import SECONDS, SupervisorProcess, supervisor_process
from tests.support.reliability import Case

RUNNING = 100
#: Conversations in which nothing runs when the drain begins: a message there could start at once.
IDLE = 20
#: Messages that come after the drain has begun.
ARRIVING = 60
PAUSE_SECONDS = 0.005
#: The second signal ends the process within 5 s (docs/faults.md#r15); more on a machine that others use too.
SECOND_SIGNAL_SECONDS = 15.0
WAITING = '''
import asyncio

async def on_message(message, ctx):
    """ "wait" ends with the mark "go"; "stuck" never, and "stubborn" not even when it is cancelled, before "later"."""
    kind = message.content.partition(" ")[0]
    mark("starts", message.content)
    while kind == "wait" and not marked("go"):
        await asyncio.sleep(0.05)
    while kind in ("stuck", "stubborn") and not marked("later"):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if kind == "stuck":
                raise
    return f"Echo: {message.content}"
'''


@dataclass
class Chat:
    """One person's conversation with an agent, and what was said in it."""

    user: SandboxUser
    id: str
    said: dict[str, str] = field(default_factory=dict)  # content by message id

    async def say(self, content: str) -> str:
        message_id = await self.user.say(self.id, content)
        self.said[message_id] = content
        return message_id


@dataclass
class Crowd:
    """People who talk to an agent, and the supervisor that runs it."""

    supervisor: SupervisorProcess
    sandbox: Sandbox
    chats: list[Chat] = field(default_factory=list)
    leaving: bool = False
    _number: itertools.count[int] = field(default_factory=itertools.count)

    async def open(self, agent: str, count: int) -> list[Chat]:
        """So many more people, each in a conversation of its own with the agent."""
        users = [await self.sandbox.user() for _ in range(count)]
        opened = [Chat(user, await user.open(agent)) for user in users]
        self.chats += opened
        return opened

    async def write(self, chats: list[Chat]) -> None:
        """They say something all the time, whether anybody is there or not."""
        while not self.leaving:
            number = next(self._number)
            await chats[number % len(chats)].say(f"late {number}")
            await asyncio.sleep(PAUSE_SECONDS)

    def answers(self, chat: Chat) -> list[str]:
        return [message.content for message in self.sandbox.messages(chat.id) if message.sender_kind == "agent"]

    async def answered(self, chats: Iterable[Chat]) -> None:
        """Wait until each of these has an answer to the last that was said."""
        waiting = [chat for chat in chats if chat.said]

        def open_chats() -> list[Chat]:
            return [chat for chat in waiting if f"Echo: {list(chat.said.values())[-1]}" not in self.answers(chat)]

        try:
            await self.sandbox.wait_until(lambda: not open_chats(), SECONDS)
        except TimeoutError:
            found = [(list(chat.said.values()), self.answers(chat)) for chat in open_chats()[:5]]
            raise AssertionError(f"not answered in {len(open_chats())} conversations: {found}") from None

    def started(self) -> set[str]:
        """What handlers have begun with, each message by its content."""
        return set(self.supervisor.marks("starts"))

    async def run(self, chats: list[Chat], kinds: Iterable[str]) -> set[str]:
        """Say one message in each conversation and wait until their handlers run; the messages' ids."""
        wanted = [(chat, f"{kind} {number}") for number, (chat, kind) in enumerate(zip(chats, kinds, strict=False))]
        said = {await chat.say(content) for chat, content in wanted}
        contents = {content for _, content in wanted}
        await self.supervisor.until(lambda: contents <= self.started(), f"{len(contents)} handlers to run")
        return said

    async def drain(self) -> None:
        """Send SIGTERM and wait until the agents drain."""
        drains = self.supervisor.log.count('"draining"')
        self.supervisor.signal(signal.SIGTERM)
        # The service says it first, then each agent's state does: from then on nothing starts.
        agents = len(self.supervisor.agents)
        await self.supervisor.until(lambda: self.supervisor.log.count('"draining"') > drains + agents, "the drain")

    async def finish(self, figures: Case) -> None:
        """The next start answers everything, in the order of the questions, and each once."""
        self.supervisor.mark("go")
        self.supervisor.mark("later")
        began = time.monotonic()
        await self.supervisor.start()
        await self.supervisor.online()
        await self.answered(self.chats)
        figures.recovered(time.monotonic() - began)
        await self.supervisor.stop()
        for chat in self.chats:
            expected = [f"Echo: {content}" for content in chat.said.values()]
            figures.answers(expected, self.answers(chat))
            assert self.answers(chat) == expected
        assert (figures.lost, figures.doubled) == (0, 0)
        assert {row.state for row in self.supervisor.file.inbox().values()} == {MessageState.DONE}
        assert {row.state for row in self.supervisor.file.outbox()} <= FINAL_REPLY_STATES


@asynccontextmanager
async def crowd(folder: Path, agents: int = 1, **settings: float) -> AsyncIterator[Crowd]:
    """Agents that may do all at once, each in as many conversations as people open (v2)."""
    async with (
        Sandbox(profile="v2") as sandbox,
        supervisor_process(
            folder,
            sandbox,
            {"waiting": WAITING},
            concurrency=2 * RUNNING,
            agent_concurrency=2 * RUNNING,
            log_level="DEBUG",
            **settings,
        ) as supervisor,
    ):
        for number in range(1, agents + 1):
            await supervisor.add(number, "waiting")
        await supervisor.start()
        await supervisor.online()
        yield Crowd(supervisor, sandbox)


async def test_r15_sigterm_finishes_what_runs_and_keeps_what_arrives(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R15")
    async with crowd(tmp_path) as people:
        supervisor = people.supervisor
        busy = await people.open(supervisor.agents[0], RUNNING)
        idle = await people.open(supervisor.agents[0], IDLE)
        await people.run(idle, ["hello"] * IDLE)
        running = await people.run(busy, ["wait"] * RUNNING)
        writing = asyncio.create_task(people.write([*busy[:IDLE], *idle]))
        await people.drain()
        figures.faults += 1
        before = people.started()
        spoken = {message_id for chat in people.chats for message_id in chat.said}
        # What is said from here on is journaled while the drain waits for its handlers …
        await supervisor.until(
            lambda: len(supervisor.file.inbox().keys() - spoken) >= ARRIVING, "messages to be journaled in the drain"
        )
        arriving = supervisor.file.inbox().keys() - spoken
        # … and not run, though most of it comes to conversations where nothing else does.
        assert people.started() == before
        supervisor.mark("go")
        assert await supervisor.end() == 0, supervisor.log[-2000:]
        inbox = supervisor.file.inbox()
        people.leaving = True
        await writing
        assert people.started() == before
        assert arriving <= inbox.keys()
        assert {inbox[message_id].state for message_id in running} == {MessageState.DONE}
        assert {(inbox[message_id].state, inbox[message_id].attempts) for message_id in arriving} == {
            (MessageState.AVAILABLE, 0)
        }
        # Whoever was being worked for when the signal came got the answer before the process ended.
        assert all(people.answers(chat)[:1] == [f"Echo: wait {n}"] for n, chat in enumerate(busy))
        await people.finish(figures)


async def test_r15_what_does_not_end_within_the_grace_period_is_released(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R15 grace")
    async with crowd(tmp_path, drain_seconds=2) as people:
        supervisor = people.supervisor
        chats = await people.open(supervisor.agents[0], RUNNING)
        running = await people.run(chats, itertools.cycle(["wait", "stuck", "wait", "stubborn"]))
        supervisor.mark("go")
        await people.drain()
        figures.faults += 1
        code = await supervisor.end()
        inbox = supervisor.file.inbox()
        ended = {inbox[message_id].state for chat in chats[::2] for message_id in chat.said}
        released = {(inbox[m].state, inbox[m].attempts) for chat in chats[1::2] for m in chat.said}
        assert inbox.keys() == running
        assert ended == {MessageState.DONE}
        # A drain costs no attempt.
        assert released == {(MessageState.AVAILABLE, 0)}
        assert code == 1, "work was cut short: that is no clean drain"
        await people.finish(figures)


async def test_r15_a_second_signal_ends_the_drain_whatever_runs(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R15 second signal")
    async with crowd(tmp_path, drain_seconds=600) as people:
        supervisor = people.supervisor
        chats = await people.open(supervisor.agents[0], RUNNING)
        running = await people.run(chats, itertools.cycle(["stuck"] * 9 + ["stubborn"]))
        await people.drain()
        writing = asyncio.create_task(people.write(chats))
        await supervisor.until(lambda: len(supervisor.file.inbox()) > RUNNING, "a message to be journaled")
        people.leaving = True
        await writing
        supervisor.signal(signal.SIGTERM)
        figures.faults += 2
        assert await supervisor.end(SECOND_SIGNAL_SECONDS) == 1
        inbox = supervisor.file.inbox()
        assert running <= inbox.keys()
        assert {row.state for row in inbox.values()} <= {MessageState.AVAILABLE, MessageState.RUNNING}
        await people.finish(figures)


async def test_r15_a_paused_agent_drains_while_another_goes_on(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R15 pause")
    async with crowd(tmp_path, agents=2) as people:
        supervisor = people.supervisor
        paused, other = supervisor.agents
        busy, beside = await people.open(paused, 10), await people.open(other, 10)
        idle = await people.open(paused, 2)
        await people.run(idle, ["hello"] * 2)
        await people.run([*busy, *beside], ["wait"] * 20)
        await supervisor.command("agents", "pause", paused)
        figures.faults += 1
        await supervisor.until(lambda: '"state": "draining"' in supervisor.log, "the agent to drain")
        before = people.started()
        waiting = {await chat.say("in the drain") for chat in idle}
        await supervisor.until(lambda: waiting <= supervisor.file.inbox().keys(), "messages to be journaled")
        # The other agent begins new work meanwhile.
        [fresh] = await people.open(other, 1)
        await fresh.say("hello from outside")
        await people.answered([fresh])
        assert people.started() - before == {"hello from outside"}
        supervisor.mark("go")
        await people.answered([*busy, *beside])
        await people.sandbox.wait_until(lambda: not people.sandbox.is_online(paused), SECONDS)
        assert people.sandbox.is_online(other)
        assert {supervisor.file.inbox()[message_id].state for message_id in waiting} == {MessageState.AVAILABLE}
        await supervisor.command("agents", "resume", paused)
        await people.answered(people.chats)
        await supervisor.stop()
        await people.finish(figures)
