"""R30: a connection that dies while what was missed is asked for; what was said then is answered after it, once."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest

from supervisor.core.states import AgentState, MessageState
from supervisor.sandbox import SandboxUser
from supervisor.sandbox.world.faults import Handshake
from tests.support.observing import handlers_folder
from tests.support.reliability import Case
from tests.support.stack import Stack, handler_module, stack

Slow = Literal["history", "conversations"]

#: How long a busy machine may take for a step.
STEP_SECONDS = 30.0
#: How late the platform's answers are while a connection dies.
SLOW_SECONDS = 0.4
BRITTLE = '''
"""Echoes, but for what is no good until it is mended."""
from supervisor.handler import Permanent

mended = False

async def on_message(message, ctx):
    if message.content == "bad" and not mended:
        raise Permanent("not yet")
    return f"Echo: {message.content}"
'''
OFFLINE = (AgentState.BACKOFF, AgentState.CONNECTING, AgentState.AUTHENTICATING)


class Talk:
    """One agent and one person, whose words are to be answered in their order.

    Args:
        slow: which questions the platform answers late once the agent is back.
    """

    def __init__(self, fleet: Stack, identity: str, user: SandboxUser, slow: Slow) -> None:
        self.fleet = fleet
        self.sandbox = fleet.sandbox
        self.id = identity
        self.user = user
        self.slow = slow
        self.conversation = ""
        self.said: list[str] = []

    async def begin(self) -> None:
        """A conversation in which one message is answered."""
        self.conversation = await self.user.open(self.id)
        await self.say("first")
        await self.fleet.until(lambda: self.answers == self.said, STEP_SECONDS)

    async def say(self, *texts: str) -> None:
        for text in texts:
            self.said.append(text)
            await self.user.say(self.conversation, text)

    async def say_live(self, text: str) -> None:
        """Say something that the connection brings."""
        before = self._waiting
        await self.say(text)
        # On a busy machine it is answered before anybody looks.
        await self.fleet.until(lambda: self._waiting > before or text in self.answers, STEP_SECONDS)

    @property
    def _waiting(self) -> int:
        counts = self.fleet.service.control.status(self.id).inbox
        return counts.available + counts.running

    async def lose(self) -> None:
        """The platform goes away for the agent, until :meth:`find`."""
        self.sandbox.faults.handshake("refuse")
        await self.cut()

    async def cut(self) -> None:
        self.sandbox.cut(self.id)
        await self.fleet.state(self.id, *OFFLINE, timeout=STEP_SECONDS)

    def find(self) -> None:
        """The platform is back, and slow with what is asked of it."""
        self.sandbox.faults.delay(rest_seconds=SLOW_SECONDS, rest_target=self.slow)
        self.sandbox.faults.clear(Handshake)

    @property
    def asked(self) -> int:
        """How often the platform was asked what it answers late."""
        return sum(event.kind == "delayed" for event in self.sandbox.events)

    async def until_asked(self, before: int = 0) -> None:
        await self.sandbox.wait_until(lambda: self.asked > before, STEP_SECONDS)

    @property
    def answers(self) -> list[str]:
        said = [message.content for message in self.sandbox.messages(self.conversation)]
        return [text.removeprefix("Echo: ") for text in said if text.startswith("Echo: ")]

    async def check(self, figures: Case) -> None:
        """All is answered once, in the order in which it was said."""
        ended = time.monotonic()
        try:
            await self.fleet.until(lambda: set(self.said) <= set(self.answers), STEP_SECONDS)
        finally:
            figures.recovered(time.monotonic() - ended)
            figures.answers(self.said, self.answers)
        # What would come twice has come by then.
        await self.say("last")
        await self.fleet.until(lambda: "last" in self.answers, STEP_SECONDS)
        assert self.answers == self.said


async def backfill(talk: Talk) -> None:
    """Said while the agent was away."""
    await talk.begin()
    await talk.lose()
    await talk.say("missed 1", "missed 2")
    talk.find()


async def begun_away(talk: Talk) -> None:
    """Said in a conversation that was begun while the agent was away: only the platform's list tells of it."""
    await talk.begin()
    await talk.lose()
    talk.said.clear()
    talk.user = await talk.sandbox.user()
    talk.conversation = await talk.user.open(talk.id)
    await talk.say("missed 1", "missed 2")
    talk.find()


async def joined_late(talk: Talk) -> None:
    """Said while the agent was away, in a conversation that the platform lets it into only at the second attempt."""
    await talk.begin()
    await talk.lose()
    await talk.say("missed 1", "missed 2")
    talk.sandbox.faults.refuse_events(times=1)
    talk.find()


async def rotation(talk: Talk) -> None:
    """Said when the first socket is gone and the second is not there yet."""
    await talk.begin()
    connects = len(talk.sandbox.connects)
    talk.sandbox.faults.delay(connect_ack_seconds=SLOW_SECONDS)
    await talk.fleet.service.control.reload(talk.id)
    await talk.sandbox.wait_until(lambda: len(talk.sandbox.connects) > connects, STEP_SECONDS)
    talk.sandbox.cut(talk.id)
    await talk.say("missed 1", "missed 2")
    talk.find()


async def replay(talk: Talk) -> None:
    """A dead letter is replayed meanwhile: it is older than all that was missed."""
    await talk.begin()
    await talk.say("bad")
    await talk.fleet.until(lambda: talk.fleet.service.control.status(talk.id).inbox.dead, STEP_SECONDS)
    await talk.lose()
    await talk.say("missed 1", "missed 2")
    handler_module("brittle").mended = True
    [dead] = await talk.fleet.service.registry.journal.messages(agent_id=talk.id, states=[MessageState.DEAD])
    await talk.fleet.service.control.replay(dead.id)
    talk.find()


async def before(talk: Talk) -> None:
    """As soon as it is there."""
    await talk.sandbox.wait_online(talk.id, timeout=STEP_SECONDS)
    talk.sandbox.cut(talk.id)


async def while_asking(talk: Talk) -> None:
    """While the answer is waited for, after something was said."""
    await talk.until_asked()
    await talk.say_live("now")
    await talk.cut()


async def after(talk: Talk) -> None:
    """When the first answers go out."""
    await talk.until_asked()
    await talk.say_live("now")
    await talk.fleet.until(lambda: "missed 1" in talk.answers, STEP_SECONDS)
    await talk.cut()


async def twice(talk: Talk) -> None:
    await while_asking(talk)
    await talk.until_asked(talk.asked)
    await talk.say_live("and now")
    await talk.cut()


async def platform_restarts(talk: Talk) -> None:
    await talk.until_asked()
    await talk.say_live("now")
    await talk.sandbox.restart(0.3)


async def supervisor_stops(talk: Talk) -> None:
    await talk.until_asked()
    await talk.say_live("now")
    await talk.fleet.restart()


async def stops_at_once(talk: Talk) -> None:
    await talk.until_asked()
    await talk.say_live("now")
    await talk.fleet.restart(grace_seconds=0)


Step = Callable[[Talk], Awaitable[None]]
WAYS: dict[str, tuple[Step, str, Slow]] = {
    "backfill, v1": (backfill, "v1", "history"),
    "backfill, v2": (backfill, "v2", "history"),
    "list, v1": (backfill, "v1", "conversations"),
    "list, v2": (backfill, "v2", "conversations"),
    "begun away, v2": (begun_away, "v2", "history"),
    "joined late, v2": (joined_late, "v2", "history"),
    "rotation, v1": (rotation, "v1", "history"),
    "rotation, v2": (rotation, "v2", "history"),
    "replay, v1": (replay, "v1", "history"),
}


@pytest.mark.parametrize(
    "death", [before, while_asking, after, twice, platform_restarts, supervisor_stops, stops_at_once]
)
@pytest.mark.parametrize("way", WAYS)
async def test_r30_order_outlives_the_connection(
    tmp_path: Path, case: Callable[[str], Case], way: str, death: Step
) -> None:
    figures = case(f"R30 {way}, {death.__name__}")
    step, profile, slow = WAYS[way]
    folder = handlers_folder(tmp_path, {"brittle": BRITTLE})
    async with stack(tmp_path, sandbox_settings={"profile": profile}, agents_dir=folder) as fleet:
        identity = await fleet.add(1, "brittle")
        await fleet.online(timeout=STEP_SECONDS)
        talk = Talk(fleet, identity, await fleet.sandbox.user(), slow)
        await step(talk)
        await death(talk)
        figures.faults = 2 if death is twice else 1
        await talk.check(figures)
