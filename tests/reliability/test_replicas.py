"""R39: several supervisors run one registry while people talk to all agents, and something happens to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pytest

from supervisor.sandbox import Sandbox
from tests.support import postgres
from tests.support.postgres_servers import Server, new_server
from tests.support.reliability import Case
from tests.support.replicas import Replicas, replicas
from tests.support.talk import Talk, talking
from tests.support.trial_figures import Spread, TrialFigures, table

REPLICAS = 3
#: Who stands still for longer counts as dead: long enough for a machine that others keep busy.
LEASE_SECONDS = 6.0
#: Where nobody is to die: as it comes, for a start may hold a process up for long.
LONG_LEASE_SECONDS = 15.0
#: So long the server is away: longer than a lease.
AWAY_SECONDS = 1.2 * LEASE_SECONDS
HOUR = 3600.0


@dataclass
class Trial:
    """Replicas, what happens to them, and who talks meanwhile.

    Args:
        servers: of the registry, where it has some of its own: the primary, and its standby.
        until: people talk until then, by the monotonic clock.
    """

    fleet: Replicas
    talk: Talk
    servers: list[Server]
    until: float

    async def wait(self, until: float) -> None:
        """Have everything go on until then, by the monotonic clock."""
        await self.fleet.until(lambda: time.monotonic() >= until, "a time")

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
    await trial.wait(trial.until)
    frozen.signal(signal.SIGCONT)
    assert await frozen.end() == 3


async def restart_the_server(trial: Trial) -> None:
    """For longer than a lease nobody can say that he lives, nor bury anybody."""
    await without_server(trial, trial.servers[0].start)


async def fail_over(trial: Trial) -> None:
    """The server dies, and after as long its standby takes its place."""
    await without_server(trial, trial.servers[1].promote)


async def fail_over_behind(trial: Trial, seconds: float) -> None:
    """The server dies, and its standby lacks what was committed last: whoever committed it finds out, and ends."""
    primary, standby = trial.servers
    cut_off = "ALTER SYSTEM SET primary_conninfo = ''"
    for statement in (cut_off, "SELECT pg_reload_conf()"):
        postgres.on_server(statement, url=standby.url)
    await trial.wait(time.monotonic() + seconds)
    await asyncio.to_thread(primary.stop, "immediate")
    await asyncio.to_thread(standby.promote)
    for old in trial.fleet.started[:REPLICAS]:
        assert await old.end() == 3
        # As whoever runs them does.
        await trial.fleet.start()
    await trial.settled(REPLICAS)
    assert all(new.process.returncode is None for new in trial.fleet.started[REPLICAS:])


async def without_server(trial: Trial, mend: Callable[[], None]) -> None:
    await asyncio.to_thread(trial.servers[0].stop, "immediate")
    await trial.wait(time.monotonic() + AWAY_SECONDS)
    await asyncio.to_thread(mend)
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
    "fail over": fail_over,
    "fail over, 4 s behind": partial(fail_over_behind, seconds=4.0),
    # Between two beats: that commits are gone is seen by those alone.
    "fail over, 0.3 s behind": partial(fail_over_behind, seconds=0.3),
    "join": join,
    "leave": leave,
    "replace": replace,
    "roll": roll,
    "clocks apart": kill,
}
#: In these nobody is taken for dead.
PEACEFUL = ("join", "leave", "replace", "roll")
WITH_STANDBY = ("fail over", "fail over, 4 s behind", "fail over, 0.3 s behind")
#: Those that are played each time; one joins and one leaves where it is replaced.
SHORT = ("clocks apart", "freeze", "fail over", "replace")


@contextlib.contextmanager
def own_servers(name: str) -> Iterator[list[Server]]:
    """Servers of this event's own, which may be stopped: one, and its standby."""
    if name != "restart" and name not in WITH_STANDBY:
        yield []
        return
    # The one of the tests makes what a server needs to be run by root.
    postgres.server_url()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(new_server())]
        servers[0].make()
        if name == "fail over":
            servers[0].options = "-c synchronous_standby_names=*"
        servers[0].start()
        if name in WITH_STANDBY:
            servers.append(stack.enter_context(new_server()))
            servers[1].copy_of(servers[0])
            servers[1].start()
        yield servers


def url_of(servers: list[Server]) -> str | None:
    """One URL of all of them; None of none."""
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in servers)
    return f"postgresql://postgres@{hosts}/postgres" if servers else None


@dataclass
class Play:
    """One event, played.

    Args:
        pause_seconds: between two messages.
        least_seconds: for so long people talk at least, and whoever stands still does so.
    """

    name: str
    agents: int
    pause_seconds: float
    least_seconds: float = 0.0

    async def run(self, folder: Path, figures: Case) -> TrialFigures:
        """Play it until everything is answered, or nothing comes any more."""
        lease = LONG_LEASE_SECONDS if self.name in PEACEFUL else LEASE_SECONDS
        ahead = (HOUR, -HOUR, 0.0) if self.name == "clocks apart" else (0.0,) * REPLICAS
        with own_servers(self.name) as servers:
            url = url_of(servers)
            async with Sandbox() as sandbox, replicas(folder, sandbox, {}, url=url, lease_seconds=lease) as fleet:
                for seconds in ahead:
                    await fleet.start(ahead_seconds=seconds)
                await fleet.until(lambda: len(fleet.owned()) == REPLICAS, "all replicas")
                identities = await fleet.add(self.agents)
                await sandbox.wait_online(*identities, timeout=60)
                async with talking(sandbox, identities, self.pause_seconds) as talk:
                    began = time.monotonic()
                    trial = Trial(fleet, talk, servers, began + self.least_seconds)
                    await EVENTS[self.name](trial)
                    figures.faults += 1
                    figures.recovered(time.monotonic() - began)
                    await trial.wait(trial.until)
                with contextlib.suppress(AssertionError):
                    await fleet.until(lambda: not talk.unanswered(), "all answers")
                return self._judged(trial, figures)

    def _judged(self, trial: Trial, figures: Case) -> TrialFigures:
        talk, url = trial.talk, trial.fleet.url
        talk.judge(figures)
        dead = "SELECT writer FROM journal_commits WHERE writer NOT IN (SELECT id FROM replicas)"
        assert postgres.on_server(dead, url=url) == [], "nothing is written after a burial"
        [(journaled,)] = postgres.on_server("SELECT count(*) FROM inbox_bodies", url=url)
        return TrialFigures(
            self.name,
            self.agents,
            figures.slowest_recovery,
            Spread.of(talk.gaps),
            Spread.of(talk.waits()),
            # Without the greetings, which come before.
            figures.messages - self.agents,
            figures.messages - journaled,
            figures.doubled,
            figures.lost,
        )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SHORT)
async def test_r39_everything_is_answered_once_whatever_happens(
    tmp_path: Path, case: Callable[[str], Case], name: str
) -> None:
    figures = await Play(name, agents=6, pause_seconds=0.1).run(tmp_path, case(f"R39 {name}"))
    assert figures.messages > 10
    assert (figures.lost, figures.doubled, figures.unanswered) == (0, 0, 0)


@pytest.fixture(scope="module")
def rows(pytestconfig: pytest.Config) -> Iterator[list[TrialFigures]]:
    """The figures of all events that are played, shown in the end."""
    found: list[TrialFigures] = []
    yield found
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", *table(found), json.dumps([asdict(one) for one in found]), sep="\n")


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", EVENTS)
async def test_r39_of_nine_hundred_agents_nobody_goes_unanswered(
    tmp_path: Path, case: Callable[[str], Case], name: str, rows: list[TrialFigures]
) -> None:
    play = Play(name, agents=900, pause_seconds=1 / 60, least_seconds=30.0)
    rows.append(await play.run(tmp_path, case(f"R39 {name} of 900")))
    assert (rows[-1].doubled, rows[-1].unanswered) == (0, 0)
    # Rows go with a server that alone had them; that they are answered the platform still knows.
    assert (rows[-1].lost > 0) is name.endswith("behind")
