"""R9: ``kill -9`` of the supervisor at each step of receive, journal, handle, reply, ack, round after round."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor.core.states import MessageState, ReplyState
from supervisor.sandbox import Sandbox, SandboxUser
from supervisor.sandbox.world.config import Profile
from tests.support.processes import SECONDS, SupervisorProcess, supervisor_process
from tests.support.reliability import Case

#: Whether missed messages are asked for at the platform's history: then all is answered, else all that was committed.
BACKFILL = True
HANDLERS = {
    "plain": """
import asyncio

async def on_message(message, ctx):
    kind, _, number = message.content.partition(" ")
    mark("starts", message.content)
    if kind == "hold" and not marked(f"held-{number}"):
        mark(f"held-{number}")
        await asyncio.Event().wait()
    return f"Echo: {message.content}"
""",
    "parts": """
import asyncio

async def on_message(message, ctx):
    kind, _, number = message.content.partition(" ")
    mark("starts", message.content)
    yield f"Echo: {message.content}"
    if kind == "hold" and not marked(f"held-{number}"):
        mark(f"held-{number}")
        await asyncio.Event().wait()
    yield f"More: {message.content}"
""",
}
#: People write so often, all the time, until they have said what a round gives them to say.
PAUSE_SECONDS = 0.01
#: A kill "at a random moment" comes after so many events of the platform at most: while or after agents come online.
RANDOM_EVENTS = 40


@dataclass
class Chat:
    """One conversation: what was said, and what has to be answered."""

    agent: str
    handler: str
    user: SandboxUser
    id: str
    said: dict[str, str] = field(default_factory=dict)  # content by message id

    async def say(self, content: str) -> str:
        message_id = await self.user.say(self.id, content)
        self.said[message_id] = content
        return message_id

    def expected(self, committed: set[str] | None = None) -> list[str]:
        """The answers to all that was said, or to what was committed, in order."""
        asked = [content for message_id, content in self.said.items() if committed is None or message_id in committed]
        starts = ("Echo", "More") if self.handler == "parts" else ("Echo",)
        return [f"{start}: {content}" for content in asked for start in starts]


@dataclass
class Kills:
    """Kills a supervisor again and again while people write to its agents."""

    supervisor: SupervisorProcess
    sandbox: Sandbox
    chats: list[Chat]
    figures: Case
    chance: random.Random
    messages_a_round: int
    to_say: int = 0
    ended: bool = False
    committed: set[str] = field(default_factory=set)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    async def say(self, kind: str = "say") -> str:
        """A person says something somewhere; the message's id."""
        return await self.chance.choice(self.chats).say(f"{kind} {next(self._number)}")

    async def write(self) -> None:
        """What people do meanwhile: they do not care whether anybody is there."""
        while not self.ended or self.to_say:
            if self.to_say:
                self.to_say -= 1
                await self.say()
            await asyncio.sleep(PAUSE_SECONDS)

    async def play(self, rounds: int) -> None:
        """Kill at each step in turn, then let the last process answer what is left and stop."""
        steps = [self.on_receive, self.on_journal, self.on_handle, self.on_reply, self.on_ack, self.at_random]
        self.figures.rounds = rounds
        async with asyncio.TaskGroup() as group:
            group.create_task(self.write())
            for number in range(rounds):
                self.to_say += self.messages_a_round
                await self.kill_once(steps[number % len(steps)])
            self.ended = True
        await self.start()
        # What is not answered by then is lost: judged with the rest.
        with suppress(TimeoutError):
            await self.sandbox.wait_until(self.all_answered, SECONDS)
        await self.supervisor.stop()

    async def kill_once(self, step: Callable[[], Awaitable[None]]) -> None:
        """One round: start, come to the step, kill, look at the database."""
        if step == self.at_random:
            await self.supervisor.start()
        else:
            await self.start()
        before = self.supervisor.file.inbox().keys()
        await step()
        await self.supervisor.kill()
        self.figures.faults += 1
        self.sandbox.faults.clear()
        after = self.supervisor.file.inbox().keys()
        assert before | self.committed <= after, "the kill lost what was committed"
        self.committed |= after

    async def start(self) -> None:
        began = time.monotonic()
        await self.supervisor.start()
        await self.supervisor.online()
        self.figures.recovered(time.monotonic() - began)

    async def on_receive(self) -> None:
        """The platform has emitted a message; nobody can say how far it has come."""
        await self.say()

    async def on_journal(self) -> None:
        """A message is committed: seen by a connection that is not the supervisor's."""
        message_id = await self.say()
        await self.supervisor.until(lambda: message_id in self.supervisor.file.inbox(), "the row of a message")
        self.committed.add(message_id)

    async def on_handle(self) -> None:
        """A handler is in the middle of its work, some of them after their first part."""
        message_id = await self.say("hold")
        [number] = [chat.said[message_id].split()[1] for chat in self.chats if message_id in chat.said]
        await self.supervisor.until(lambda: self.supervisor.marks(f"held-{number}"), "a handler to start")

    async def on_reply(self) -> None:
        """The platform has a reply, and its acknowledgement is lost with the process."""
        self.sandbox.faults.drop_acks(confirmations=True)
        await self._next_reply()

    async def on_ack(self) -> None:
        """The acknowledgement of a reply has just gone out."""
        await self._next_reply()

    async def at_random(self) -> None:
        left = self.chance.randrange(1, RANDOM_EVENTS)
        with self.sandbox.log.subscribe() as events:
            async with asyncio.timeout(SECONDS):
                async for _ in events:
                    left -= 1
                    if left == 0:
                        return

    async def _next_reply(self) -> None:
        with self.sandbox.log.subscribe() as events:
            await self.say()
            async with asyncio.timeout(SECONDS):
                async for event in events:
                    # One that an earlier process has sent already is refused: E11000.
                    if event.kind == "refused" or (
                        event.kind == "message" and event.fields["message"].sender_kind == "agent"
                    ):
                        return

    def answers(self, chat: Chat) -> list[str]:
        return [message.content for message in self.sandbox.messages(chat.id) if message.sender_kind == "agent"]

    def all_answered(self) -> bool:
        """Whether each chat has the answers to all that was said in it."""
        return all(self._answered(chat) for chat in self.chats)

    def _answered(self, chat: Chat) -> bool:
        expected = chat.expected(None if BACKFILL else self.committed)
        # The set only where it may be complete: this is asked after every event.
        answers = self.answers(chat)
        return not expected or (len(answers) >= len(expected) and set(expected) <= set(answers))

    def judge(self, *, doubles_allowed: bool) -> None:
        """Nothing lost, nothing out of order, each message and reply in exactly one final state, attempts counted."""
        inbox, outbox = self.supervisor.file.inbox(), self.supervisor.file.outbox()
        lost: list[str] = []
        disordered: list[str] = []
        assert self.committed <= inbox.keys()
        for chat in self.chats:
            expected = chat.expected(None if BACKFILL else set(inbox))
            answers = self.answers(chat)
            self.figures.answers(expected, answers)
            lost += [content for content in expected if content not in answers]
            if list(dict.fromkeys(answers)) != [content for content in expected if content in answers]:
                disordered.append(chat.id)
        assert not lost
        assert not disordered
        assert doubles_allowed or self.figures.doubled == 0
        assert {row.state for row in inbox.values()} == {MessageState.DONE}
        assert {row.state for row in outbox} == {ReplyState.ACKED}
        assert max(Counter((row.inbox_id, row.part) for row in outbox).values()) == 1
        assert len(outbox) == sum(len(chat.expected(set(inbox))) for chat in self.chats)
        self._judge_attempts({message_id: row.attempts for message_id, row in inbox.items()})
        # The case counts messages, not answers.
        self.figures.messages = sum(len(chat.said) for chat in self.chats)

    def _judge_attempts(self, attempts: dict[str, int]) -> None:
        starts = Counter(self.supervisor.marks("starts"))
        for chat in self.chats:
            for message_id, content in chat.said.items():
                if message_id in attempts:
                    assert starts[content] <= attempts[message_id] <= 1 + self.figures.faults
                    assert not content.startswith("hold") or attempts[message_id] >= 2


@asynccontextmanager
async def kills(folder: Path, figures: Case, profile: Profile, messages_a_round: int) -> AsyncIterator[Kills]:
    """Four agents, and people who have talked to each of them before."""
    async with (
        Sandbox(profile=profile) as sandbox,
        # A message may be at the head of its lane at one kill after the other, and an agent killed before it has
        # caught up many times in a row: both bounds are no subject here.
        supervisor_process(folder, sandbox, HANDLERS, max_attempts=1000, backfill_messages=10_000) as supervisor,
    ):
        chats = []
        for number, handler in enumerate(["plain", "parts"] * 2, start=1):
            agent = await supervisor.add(number, handler)
            for _ in range(1 if profile == "v1" else 2):
                user = await sandbox.user()
                chats.append(Chat(agent, handler, user, await user.open(agent)))
        play = Kills(supervisor, sandbox, chats, figures, random.Random(9), messages_a_round)
        await supervisor.start()
        await supervisor.online()
        for chat in chats:
            await chat.user.open(chat.agent)
            await chat.say(f"hello {chat.id}")
        await sandbox.wait_until(play.all_answered, SECONDS)
        await supervisor.kill()
        yield play


@pytest.mark.timeout(300)
async def test_r9_kills_at_every_step_lose_and_double_nothing(tmp_path: Path, case: Callable[[str], Case]) -> None:
    async with kills(tmp_path, case("R9"), "v1", messages_a_round=20) as play:
        await play.play(rounds=6)
        play.judge(doubles_allowed=False)


@pytest.mark.timeout(300)
async def test_r9_kills_lose_nothing_where_the_platform_keeps_no_ids(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    async with kills(tmp_path, case("R9 v2"), "v2", messages_a_round=20) as play:
        await play.play(rounds=6)
        play.judge(doubles_allowed=True)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("profile", "rounds"), [("v1", 200), ("v2", 50)])
async def test_r9_two_hundred_kills_under_ten_thousand_messages(
    tmp_path: Path, case: Callable[[str], Case], profile: Profile, rounds: int
) -> None:
    async with kills(tmp_path, case(f"R9 soak {profile}"), profile, messages_a_round=50) as play:
        await play.play(rounds)
        play.judge(doubles_allowed=profile == "v2")
