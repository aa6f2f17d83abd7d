"""An agent goes offline: what runs may end in its time, and a pause may be taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supervisor.core.states import AgentState
from supervisor.fleet.change import Changed
from supervisor.fleet.condition import Condition
from supervisor.fleet.drain import Drain
from tests.support.paper_agent import PaperAgent, paper_agent
from tests.support.paper_play import AGENT, Play, play
from tests.support.stack import handler_module

GATED = """
import asyncio

gate = asyncio.Event()

async def on_message(message, ctx):
    await gate.wait()
    return "late"
"""


class Desk:
    """The drain of one agent that is online and in the middle of an answer."""

    def __init__(self, script: Play, paper: PaperAgent) -> None:
        self.script, self.paper = script, paper
        self.states: list[AgentState] = []
        clock = script.shared.clock
        self.condition = Condition(clock, paper.agent.log, lambda _old, new: self.states.append(new))
        self.drain = Drain(paper.agent, paper.desired, self.condition, clock)

    async def work(self) -> None:
        await self.script.loop.complete(self.paper.come_online())
        self.condition.become(AgentState.AUTHENTICATING)
        self.condition.become(AgentState.CONNECTING)
        self.condition.become(AgentState.REGISTERING)
        self.condition.become(AgentState.ONLINE)
        self.states.clear()
        self.paper.pipeline.resume()
        self.script.say("hello")
        await self.script.loop.settle()

    def pause(self) -> None:
        self.paper.desired.replace(self.script.fleet.record(AGENT, handler="gated", paused=True))

    def begin(self, grace_seconds: float) -> asyncio.Task[None]:
        return self.script.loop.create_task(self.drain.run(grace_seconds))


def test_it_is_over_when_what_runs_has_ended_and_its_reply_is_out(tmp_path: Path) -> None:
    async def drains(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            desk = Desk(script, paper)
            await desk.work()
            desk.pause()
            drained = desk.begin(30)
            await script.loop.advance(5)
            assert (drained.done(), desk.states) == (False, [AgentState.DRAINING])
            handler_module("gated").gate.set()
            await script.loop.settle()
            assert drained.done()
            assert (script.answers, desk.drain.cut_short) == (["late"], False)

    play(tmp_path, drains, handlers={"gated": GATED})


def test_it_is_cut_short_when_its_time_is_over_and_says_so(tmp_path: Path) -> None:
    async def drains(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            desk = Desk(script, paper)
            await desk.work()
            desk.pause()
            began = script.loop.time()
            await script.loop.complete(desk.drain.run(30))
            assert script.loop.time() - began == pytest.approx(30)
            assert (desk.drain.cut_short, script.answers) == (True, [])
            [line] = script.logged("drain_incomplete")
            assert line["seconds"] == 30
            assert paper.pipeline.lanes.running == 0

    play(tmp_path, drains, handlers={"gated": GATED})


def test_a_stop_that_comes_meanwhile_shortens_it(tmp_path: Path) -> None:
    async def drains(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            desk = Desk(script, paper)
            await desk.work()
            desk.pause()
            began = script.loop.time()
            drained = desk.begin(30)
            await script.loop.advance(5)
            paper.desired.stop(2)
            await script.loop.complete(asyncio.wait([drained]))
            assert script.loop.time() - began == pytest.approx(7)

    play(tmp_path, drains, handlers={"gated": GATED})


def test_a_pause_that_is_taken_back_ends_it_and_what_runs_goes_on(tmp_path: Path) -> None:
    async def drains(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            desk = Desk(script, paper)
            await desk.work()
            desk.pause()
            drained = desk.begin(30)
            await script.loop.settle()
            paper.desired.replace(script.fleet.record(AGENT, handler="gated"))
            paper.desired.change.set()
            await script.loop.settle()
            assert isinstance(drained.exception(), Changed)
            paper.pipeline.resume()
            handler_module("gated").gate.set()
            await script.loop.advance(1)
            assert script.answers == ["late"]

    play(tmp_path, drains, handlers={"gated": GATED})


def test_where_it_is_over_nothing_happens(tmp_path: Path) -> None:
    async def drains(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            desk = Desk(script, paper)
            desk.condition.become(AgentState.PAUSED)
            desk.states.clear()
            await script.loop.complete(desk.drain.run(30))
            assert desk.states == []

    play(tmp_path, drains, handlers={"gated": GATED})
