"""Scripts of what happens to agents, played on a whole supervisor over a paper platform in virtual time.

After a script all faults are taken away, and every agent has to be online again within the cap.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from supervisor.core.states import AgentState
from tests.support.paper_fleet import SECRET_FILE, PaperFleet
from tests.support.paper_platform import HOME, PaperPlatform
from tests.support.stage import SINGLE, open_stage
from tests.support.virtual import VirtualLoop, run

AGENTS = tuple(f"{number:024x}" for number in range(1, 4))
BACKOFF_CAP_SECONDS = 60.0
HANDSHAKE_SECONDS = 15.0
#: The longest wait before the next attempt, and what that may take: token, connect, registration, proof.
BACK_WITHIN_SECONDS = BACKOFF_CAP_SECONDS + 4 * HANDSHAKE_SECONDS
#: States in which an agent has no connection, once nothing is under way any more.
OFFLINE = frozenset(
    {AgentState.PAUSED, AgentState.STOPPED, AgentState.REJECTED, AgentState.BACKOFF, AgentState.FAULTED}
)

#: A verb of :class:`Life` and what it takes.
Step = tuple[Any, ...]
World = dict[str, Any]


@dataclass
class Life:
    """One script on its way."""

    loop: VirtualLoop
    fleet: PaperFleet
    platform: PaperPlatform
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def step(self, step: Step) -> None:
        await getattr(self, f"do_{step[0]}")(*step[1:])

    async def do_turns(self, number: int) -> None:
        await self.loop.turns(number)

    async def do_wait(self, seconds: float) -> None:
        await self.loop.advance(seconds)
        self.check()

    async def do_tokens(self, fates: list[str], standing: str) -> None:
        self.platform.tokens.extend(fates)
        self.platform.standing_token = standing

    async def do_connects(self, fates: list[str], standing: str) -> None:
        self.platform.connects.extend(fates)
        self.platform.standing_connect = standing

    async def do_cut(self, which: int, reason: str) -> None:
        self.platform.cut(reason, AGENTS[which])

    async def do_cut_all(self, reason: str) -> None:
        self.platform.cut(reason)

    async def do_secret(self, there: bool) -> None:
        """The file that holds the secret comes or goes."""
        path = self.fleet.folder / SECRET_FILE
        if there:
            path.write_text("s3cret-of-the-test")
        else:
            path.unlink(missing_ok=True)

    async def do_code(self, good: bool) -> None:
        """The handler's code is broken or mended on disk."""
        (self.fleet.agents_dir / "stage.py").write_text(SINGLE if good else "raise RuntimeError('broken')\n")

    async def do_row(self, which: int, changes: dict[str, Any]) -> None:
        """Somebody changes an agent's row; one that was removed is added again."""
        agent_id = AGENTS[which]
        known = agent_id in self.rows
        self.rows[agent_id] = self.rows.get(agent_id, {}) | changes
        record = self.fleet.record(agent_id, **self.rows[agent_id])
        await self.loop.complete(self.fleet.change(**{"change" if known else "add": [record]}))

    async def do_remove(self, which: int) -> None:
        if self.rows.pop(AGENTS[which], None) is not None:
            await self.loop.complete(self.fleet.change(remove=[AGENTS[which]]))

    async def do_reload(self, which: int) -> None:
        if AGENTS[which] in self.rows:
            self.fleet.service.fleet.runner(AGENTS[which]).reload()

    async def do_poke(self, which: int) -> None:
        if AGENTS[which] in self.rows:
            self.fleet.service.fleet.runner(AGENTS[which]).retry_now()

    def state(self, agent_id: str) -> AgentState:
        return self.fleet.service.fleet.runner(agent_id).condition.state

    def sockets(self, agent_id: str) -> int:
        return sum(socket.agent_id == agent_id for socket in self.platform.sockets)

    def check(self) -> None:
        """At any moment at which nothing can happen before time passes."""
        service = self.fleet.service
        for agent_id in self.rows:
            state, sockets = self.state(agent_id), self.sockets(agent_id)
            assert state not in OFFLINE or sockets == 0, (agent_id, state, sockets)
            # A second socket that is on its way may yet outlive the first (upkeep: rotation).
            rotating = service.fleet.runner(agent_id).rotation.opening
            assert state is not AgentState.ONLINE or sockets >= 1 or rotating, (agent_id, state)
        text = service.metrics.render("text/plain")[0].decode()
        shown = dict(re.findall(r'^supervisor_agents\{state="(\w+)"\} (\d+)', text, re.MULTILINE))
        counted = service.fleet.states()
        assert {name: int(number) for name, number in shown.items() if int(number)} == {
            str(state): number for state, number in counted.items() if number
        }

    async def heal(self) -> None:
        """Take every fault away; whoever was refused for good is told so by a person."""
        self.platform.heal()
        await self.do_secret(there=True)
        await self.do_code(good=True)
        for which, agent_id in enumerate(AGENTS):
            known = self.rows.get(agent_id, {})
            self.rows[agent_id] = {key: value for key, value in known.items() if key == "name"}
            record = self.fleet.record(agent_id, **self.rows[agent_id])
            await self.loop.complete(
                self.fleet.change(**{"change" if known or agent_id in self._added() else "add": [record]})
            )
            if self.state(agent_id) is AgentState.REJECTED:
                await self.do_poke(which)

    def _added(self) -> set[str]:
        return {str(row[0]) for row in self.fleet.sql("SELECT id FROM agents")}

    async def check_recovery(self) -> None:
        """Everybody is back within the cap, with one socket, and hears what is said."""
        await self.loop.advance(BACK_WITHIN_SECONDS)
        states = {agent_id: self.state(agent_id) for agent_id in AGENTS}
        assert set(states.values()) == {AgentState.ONLINE}, {
            agent_id: self.fleet.service.fleet.runner(agent_id).status() for agent_id in AGENTS
        }
        self.check()
        for agent_id in AGENTS:
            assert self.sockets(agent_id) == 1, agent_id
            said = {"conversationId": HOME, "role": "user", "content": f"to {agent_id}"}
            assert self.platform.say(agent_id, said)
        await self.loop.advance(10)
        answers = [one.content for one in self.platform.stored]
        assert answers == [f"to {agent_id} end" for agent_id in AGENTS], answers


async def play_script(loop: VirtualLoop, template: Path, folder: Path, world: World, script: list[Step]) -> None:
    """Play one script and judge what came of it."""
    loop.job_turns = world["job_turns"]
    platform = PaperPlatform(keeps_ids=world["keeps_ids"], token_seconds=world["token_seconds"])
    fleet = PaperFleet(
        loop,
        platform,
        template,
        folder,
        drain_seconds=5,
        ack_seconds=5,
        handshake_seconds=HANDSHAKE_SECONDS,
        backoff_cap_seconds=BACKOFF_CAP_SECONDS,
    )
    (fleet.agents_dir / "stage.py").write_text(SINGLE)
    open_stage()
    await loop.complete(fleet.begin())
    life = Life(loop, fleet, platform)
    with structlog.testing.capture_logs() as log:
        try:
            for which in range(len(AGENTS)):
                await life.do_row(which, {})
            for step in script:
                await life.step(step)
            await life.heal()
            await life.check_recovery()
        finally:
            await loop.complete(fleet.stop(5))
        await loop.advance(60)
    assert platform.broken == [], platform.broken
    assert max(platform.most_sockets.values()) <= 2, platform.most_sockets
    fleet.check_nothing_left()
    defects = {"work_failed", "agent_crashed", "chore_failed", "side_task_died", "message_not_settled"}
    told = [entry for entry in log if entry["event"] in defects]
    assert told == [], told


def play(template: Path, folder: Path, world: World, script: list[Step]) -> None:
    """Play one script on an event loop of its own; the same script always goes the same way."""
    random.seed(0)
    run(lambda loop: play_script(loop, template, folder, world, script))
