"""R39: several supervisors run one registry while people talk to all agents, and something happens to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.sandbox import Sandbox
from tests.support import postgres
from tests.support.postgres_servers import Server, new_server
from tests.support.reliability import Case
from tests.support.replicas import Replicas, replicas
from tests.support.talk import Talk, talking

REPLICAS = 3
#: Who stands still for longer counts as dead: long enough for a machine that others keep busy.
LEASE_SECONDS = 6.0
#: Where nobody is to die: as it comes, for a start may hold a process up for long.
LONG_LEASE_SECONDS = 15.0
HOUR = 3600.0


@dataclass
class Trial:
    """Replicas, what happens to them, and who talks meanwhile."""

    fleet: Replicas
    talk: Talk
    server: Server | None

    async def settled(self, replicas: int) -> None:
        """So many have all agents among them, each about its part, and everybody is online."""
        agents = len(self.talk.agents)

        def spread() -> bool:
            owned = self.fleet.owned()
            return len(owned) == replicas and sum(owned) == agents

        await self.fleet.until(spread, f"{replicas} replicas with {agents} agents, not {self.fleet.owned()}")
        await self.fleet.sandbox.wait_online(*self.talk.agents, timeout=60)


async def kill(trial: Trial) -> None:
    await trial.fleet.started[1].kill()
    await trial.settled(REPLICAS - 1)


async def freeze(trial: Trial) -> None:
    """It stands still for longer than its lease, and goes on."""
    frozen = trial.fleet.started[1]
    frozen.signal(signal.SIGSTOP)
    await trial.settled(REPLICAS - 1)
    frozen.signal(signal.SIGCONT)
    assert await frozen.end() == 3


async def restart_the_server(trial: Trial) -> None:
    """For longer than a lease nobody can say that he lives, nor bury anybody."""
    assert trial.server is not None
    await asyncio.to_thread(trial.server.stop, "immediate")
    down_until = time.monotonic() + 1.2 * LEASE_SECONDS
    await trial.fleet.until(lambda: time.monotonic() > down_until, "the end of an outage")
    await asyncio.to_thread(trial.server.start)
    await trial.settled(REPLICAS)
    assert postgres.on_server("SELECT replica FROM graves", url=trial.fleet.url) == []


async def join(trial: Trial) -> None:
    await trial.fleet.start()
    await trial.settled(REPLICAS + 1)


async def leave(trial: Trial) -> None:
    await trial.fleet.started[1].stop()
    await trial.settled(REPLICAS - 1)


async def replace(trial: Trial) -> None:
    """The oldest is replaced by another one."""
    old = next(one for one in trial.fleet.started if one.process.returncode is None)
    await join(trial)
    await old.stop()
    await trial.settled(REPLICAS)


async def roll(trial: Trial) -> None:
    """Each is replaced by another one."""
    for _ in range(REPLICAS):
        await replace(trial)


EVENTS: dict[str, Callable[[Trial], Awaitable[None]]] = {
    "kill": kill,
    "freeze": freeze,
    "restart": restart_the_server,
    "join": join,
    "leave": leave,
    "replace": replace,
    "roll": roll,
    "clocks apart": kill,
}
#: In these nobody is taken for dead.
PEACEFUL = ("join", "leave", "replace", "roll")
#: Those that are played each time; one joins and one leaves where it is replaced.
SHORT = ("clocks apart", "freeze", "restart", "replace")


@contextlib.contextmanager
def a_server() -> Iterator[Server]:
    """A server of this test's own, which may be stopped."""
    # The one of the tests makes what a server needs to be run by root.
    postgres.server_url()
    with new_server() as server:
        server.make()
        server.start()
        yield server


async def play(folder: Path, name: str, figures: Case, *, agents: int, pause_seconds: float) -> Talk:
    """Play one event; who talked, and had an answer to everything in the end."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(a_server()) if name == "restart" else None
        ahead = (HOUR, -HOUR, 0.0) if name == "clocks apart" else (0.0,) * REPLICAS
        url = server.url if server else None
        lease = LONG_LEASE_SECONDS if name in PEACEFUL else LEASE_SECONDS
        async with Sandbox() as sandbox, replicas(folder, sandbox, {}, url=url, lease_seconds=lease) as fleet:
            for seconds in ahead:
                await fleet.start(ahead_seconds=seconds)
            await fleet.until(lambda: len(fleet.owned()) == REPLICAS, "all replicas")
            identities = await fleet.add(agents)
            await sandbox.wait_online(*identities, timeout=60)
            async with talking(sandbox, identities, pause_seconds) as talk:
                trial = Trial(fleet, talk, server)
                began = time.monotonic()
                await EVENTS[name](trial)
                figures.faults += 1
                figures.recovered(time.monotonic() - began)
            with contextlib.suppress(AssertionError):
                await fleet.until(lambda: not talk.unanswered(), "all answers")
    talk.judge(figures)
    return talk


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SHORT)
async def test_r39_everything_is_answered_once_whatever_happens(
    tmp_path: Path, case: Callable[[str], Case], name: str
) -> None:
    figures = case(f"R39 {name}")
    await play(tmp_path, name, figures, agents=6, pause_seconds=0.1)
    assert figures.messages > 10
    assert (figures.lost, figures.doubled) == (0, 0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", EVENTS)
async def test_r39_of_nine_hundred_agents_nobody_goes_unanswered(
    tmp_path: Path, case: Callable[[str], Case], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = case(f"R39 {name} of 900")
    talk = await play(tmp_path, name, figures, agents=900, pause_seconds=1 / 60)
    with capsys.disabled():
        print(
            f"\n{name}: settled after {figures.slowest_recovery:.1f} s, longest gap {max(talk.gaps, default=0):.1f} s "
            f"({len(talk.gaps)} gaps), {figures.messages} messages, lost {figures.lost}, doubled {figures.doubled}"
        )
    assert (figures.lost, figures.doubled) == (0, 0)
