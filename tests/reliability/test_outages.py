"""R2, R8: a token endpoint that fails in every way, and a platform that is killed under a whole fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.sandbox import Sandbox, TokenRequest
from tests.support.observing import Bystander
from tests.support.reliability import Case
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id
from tests.support.traces import Traces, add_fleet, busiest, dead_port, handshakes, most_at_once, watched_stack

MARGIN_SECONDS = 15.0

Mode = Literal["status", "html", "ok_html", "empty", "reset", "hang"]


@dataclass(frozen=True)
class Failure:
    """A way for the token endpoint to fail, and what the agent's status is to say of it."""

    says: str
    mode: Mode = "status"
    status: int = 503
    retry_after: str | None = None

    def inflict(self, sandbox: Sandbox) -> None:
        """Let every token request fail like this from now on."""
        sandbox.faults.rest("token", self.mode, status=self.status, retry_after=self.retry_after)


FAILURES = {
    "raises": Failure("broke off", "reset"),
    "hangs": Failure("within 0.5 s", "hang"),
    "500": Failure("500", status=500),
    "502": Failure("502", status=502),
    "429": Failure("429", status=429, retry_after="1"),
    "an error page": Failure("502", "html", status=502),
    "a page": Failure("JSON", "ok_html"),
    "no accessToken": Failure("accessToken", "empty"),
}


@asynccontextmanager
async def healthy_neighbour(fleet: Stack) -> AsyncIterator[Callable[[int], Awaitable[str]]]:
    """A second platform under another name; gives what adds an agent of it to the same supervisor."""
    async with Sandbox() as sandbox:

        async def add(number: int) -> str:
            identity = agent_id(number)
            sandbox.add_agent(identity, SECRET)
            urls = {"api_url": sandbox.api_url, "ws_url": sandbox.ws_url}
            settings = {name: url.replace("127.0.0.1", "localhost") for name, url in urls.items()}
            secret = f"file:{fleet.folder / SECRET_FILE}"
            record = AgentRecord(id=identity, handler="echo", secret=secret, settings=settings)
            await fleet.service.registry.add_agent(record)
            await sandbox.wait_online(identity, timeout=MARGIN_SECONDS)
            return identity

        yield add


def of(requests: list[TokenRequest], identity: str) -> list[TokenRequest]:
    """The requests of one agent."""
    return [request for request in requests if request.agent_id == identity]


@pytest.mark.parametrize("name", FAILURES)
async def test_r2_a_token_endpoint_that_fails(tmp_path: Path, case: Callable[[str], Case], name: str) -> None:
    figures, failure = case(f"R2 {name}"), FAILURES[name]
    async with watched_stack(tmp_path, handshake_seconds=0.5, allowed_hosts=("localhost",)) as fleet:
        bystander = await Bystander.join(fleet)
        async with healthy_neighbour(fleet) as add_healthy:
            elsewhere = await add_healthy(10)
            failure.inflict(fleet.sandbox)
            identity = await fleet.add(1)
            reason = await fleet.state(identity, AgentState.BACKOFF)
            assert failure.says in reason, reason
            requests = fleet.sandbox.token_requests
            await fleet.until(lambda: len(of(requests, identity)) >= 4, 30)
            # Meanwhile: one that was online, one of another platform, and one that is only added now.
            await bystander.answers(3)
            await add_healthy(11)
            assert fleet.service.control.status(elsewhere).state is AgentState.ONLINE
            figures.faults = fleet.sandbox.faults.struck["rest"]
            fleet.sandbox.faults.clear()
            healed = time.monotonic()
            await fleet.online(4)
            figures.recovered(time.monotonic() - healed)
            mine = of(requests, identity)
            assert most_at_once(mine) == 1
            if failure.retry_after:
                gaps = [after.at - before.at for before, after in pairwise(mine)]
                assert min(gaps) >= float(failure.retry_after) - 0.05, gaps
            assert fleet.service.control.status(identity).reason == ""
            answers = [reply.content for reply in await fleet.ask(identity, "after")]
            figures.answers(["Echo: after"], answers)
            assert not [task for task in asyncio.all_tasks() if task.get_name() == f"token {identity}"]
    assert (figures.lost, figures.doubled) == (0, 0)


async def test_r2_a_platform_that_hangs_holds_up_nobody_of_another(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R2 neighbour")
    given: dict[str, Any] = {"handshake_seconds": 40, "auth_concurrency": 3, "allowed_hosts": ("localhost",)}
    async with watched_stack(tmp_path, **given) as fleet, healthy_neighbour(fleet) as add_healthy:
        fleet.sandbox.faults.rest("token", "hang")
        for number in range(1, 10):
            await fleet.add(number)
        requests = fleet.sandbox.token_requests
        await fleet.until(lambda: len(requests) == 3)
        figures.faults = len(requests)
        await add_healthy(100)
        assert [request for request in requests if request.over_at] == [], "it had to wait for the others"
        assert len(requests) == 3


async def killed(folder: Path, figures: Case, agents: int, down: float, *, rate: float, cap: float) -> None:
    """Kill the platform under a whole fleet and bring it back."""
    bounds = {"connect_rate": rate, "backoff_initial_seconds": 1.0, "backoff_cap_seconds": cap}
    async with watched_stack(folder, **bounds) as fleet:
        identities = await add_fleet(fleet, agents, timeout=60 + 2 * agents / rate)
        before = Traces.now()
        began = time.time()
        await fleet.sandbox.stop()
        figures.faults = agents
        async with dead_port(fleet.sandbox) as knocks:
            await fleet.until(lambda: not fleet.service.fleet.states().get(AgentState.ONLINE), 30)
            await asyncio.sleep(down)
        assert knocks, "nobody tries any more"
        await fleet.sandbox.start()
        back = time.monotonic()
        limit = agents / rate + cap + MARGIN_SECONDS
        await fleet.online(agents * 99 // 100, limit)
        figures.recovered(time.monotonic() - back)
        await fleet.online(agents, limit)
        attempts = [*knocks, *(at for at in handshakes(fleet.sandbox) if at >= began)]
        print(f"{len(knocks)} attempts while down; at most {busiest(attempts)} a second, {rate} allowed")
        # They pass evenly, and come to the platform not quite so.
        assert busiest(attempts) <= 1.1 * rate + 1
        assert all(fleet.sandbox.is_online(identity) for identity in identities)
        assert {len(fleet.sandbox.sockets_of(identity)) for identity in identities} == {1}
        assert len(fleet.sandbox.token_requests) == agents, "no token had come to its end"
        await before.again()
        answers = [reply.content for reply in await fleet.ask(identities[-1], "after", timeout=MARGIN_SECONDS)]
        figures.answers(["Echo: after"], answers)
    assert (figures.lost, figures.doubled) == (0, 0)


async def test_r8_a_platform_killed_under_a_fleet(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await killed(tmp_path, case("R8"), 200, 3.0, rate=60, cap=4)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_r8_a_platform_killed_under_1000_agents_for_30_s(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await killed(tmp_path, case("R8 1,000"), 1_000, 30.0, rate=50, cap=60)
