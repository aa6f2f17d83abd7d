"""R16: tokens that end during an outage, platforms that kick at expiry, and a whole fleet's refreshes due at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox import Sandbox, TokenRequest
from tests.support.reliability import Case
from tests.support.stack import Stack
from tests.support.traces import Talk, Traces, add_fleet, busiest, most_at_once, watched_stack

MARGIN_SECONDS = 15.0


def of_each(requests: list[TokenRequest]) -> dict[str, list[TokenRequest]]:
    """The requests of each agent."""
    found: dict[str, list[TokenRequest]] = {}
    for request in requests:
        found.setdefault(request.agent_id, []).append(request)
    return found


def check_requests(requests: list[TokenRequest]) -> None:
    """No agent asked for a token while it waited for one."""
    assert {most_at_once(mine) for mine in of_each(requests).values()} <= {1}


def most_refusals(sandbox: Sandbox) -> int:
    """How often a token was tried that had ended: revoked, it has to be refused once before anyone can know."""
    assert all(attempt.token_id for attempt in sandbox.connects)
    refusals = Counter(attempt.token_id for attempt in sandbox.connects if attempt.outcome == "refused")
    return max(refusals.values(), default=0)


def offline(fleet: Stack) -> bool:
    """Whether no agent is online."""
    return fleet.service.fleet.states().get(AgentState.ONLINE, 0) == 0


def reload(fleet: Stack, identities: list[str]) -> None:
    """Someone wants everything anew."""
    for identity in identities:
        fleet.service.fleet.runner(identity).reload()


def revoke(fleet: Stack, identities: list[str]) -> None:
    """The platform ends all tokens and the connections that were made with them."""
    assert fleet.sandbox.tokens.expire(*identities) >= len(identities)
    fleet.sandbox.kick(*identities)


CAUSES = {"reload": reload, "revoke": revoke}


async def all_at_once(
    folder: Path, figures: Case, agents: int, cause: str, *, auth_rate: float, auth_concurrency: int, late: float
) -> None:
    """Have a fleet's refreshes due at once while people talk to some of it."""
    bounds: dict[str, Any] = {"auth_rate": auth_rate, "auth_concurrency": auth_concurrency}
    async with watched_stack(folder, **bounds) as fleet:
        identities = await add_fleet(fleet, agents, timeout=60 + 2 * agents / auth_rate)
        before = Traces.now()
        talk = Talk(fleet, identities[:: agents // 10])
        await talk.begin()
        fleet.sandbox.token_requests.clear()
        fleet.sandbox.connects.clear()
        fleet.sandbox.faults.delay(rest_seconds=late)
        figures.faults = agents
        began = time.monotonic()
        CAUSES[cause](fleet, identities)
        requests, connects = fleet.sandbox.token_requests, fleet.sandbox.connects
        limit = 2 * agents / auth_rate + 2 * MARGIN_SECONDS
        await fleet.until(lambda: {c.agent_id for c in connects if c.outcome == "accepted"} == set(identities), limit)
        await fleet.online(agents, limit)
        await fleet.until(lambda: all(len(fleet.sandbox.sockets_of(one)) == 1 for one in identities), limit)
        figures.recovered(time.monotonic() - began)
        await talk.end(figures)
        times = [request.at for request in requests]
        print(f"{len(times)} requests: {most_at_once(requests)} at once, {busiest(times)} a second")
        check_requests(requests)
        assert most_at_once(requests) <= auth_concurrency
        # They pass evenly, and come to the platform not quite so.
        assert busiest(times) <= 1.1 * auth_rate + 1
        assert {len(mine) for mine in of_each(requests).values()} == {1}
        assert most_refusals(fleet.sandbox) <= (cause == "revoke")
        await before.again()
    assert figures.messages > 100
    assert (figures.lost, figures.doubled) == (0, 0)


@pytest.mark.parametrize("cause", CAUSES)
async def test_r16_a_hundred_refreshes_due_at_once(tmp_path: Path, case: Callable[[str], Case], cause: str) -> None:
    await all_at_once(tmp_path, case(f"R16 {cause}"), 100, cause, auth_rate=40, auth_concurrency=4, late=0.05)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cause", CAUSES)
async def test_r16_500_refreshes_due_at_once(tmp_path: Path, case: Callable[[str], Case], cause: str) -> None:
    await all_at_once(tmp_path, case(f"R16 500 {cause}"), 500, cause, auth_rate=20, auth_concurrency=10, late=0.4)


@pytest.mark.parametrize("second", ["allow", "refuse", "error", "replace"])
async def test_r16_rotations_on_a_platform_that_kicks_at_expiry(
    tmp_path: Path, case: Callable[[str], Case], second: Literal["allow", "refuse", "error", "replace"]
) -> None:
    figures = case(f"R16 rotation {second}")
    async with watched_stack(tmp_path, sandbox_settings={"expires_in_seconds": 3}) as fleet:
        fleet.sandbox.faults.kick_at_expiry()
        if second != "allow":
            fleet.sandbox.faults.second_socket(second)
        identities = await add_fleet(fleet, 8)
        talk = Talk(fleet, identities)
        await talk.begin()
        requests = fleet.sandbox.token_requests
        await fleet.until(lambda: all(len(mine) >= 4 for mine in of_each(requests).values()), 60)
        await talk.end(figures)
        figures.faults = len(requests)
        check_requests(requests)
        assert most_refusals(fleet.sandbox) == 0
    assert figures.messages > 100
    assert (figures.lost, figures.doubled) == (0, 0)


async def test_r16_tokens_that_end_while_there_are_no_others(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R16 no tokens")
    async with watched_stack(tmp_path, sandbox_settings={"expires_in_seconds": 4}) as fleet:
        fleet.sandbox.faults.kick_at_expiry()
        identities = await add_fleet(fleet, 8)
        talk = Talk(fleet, identities)
        await talk.begin()
        fleet.sandbox.faults.rest("token", status=503)
        await fleet.until(lambda: offline(fleet), 30)
        connects = len(fleet.sandbox.connects)
        struck = fleet.sandbox.faults.struck
        figures.faults = struck["rest"]
        await fleet.until(lambda: struck["rest"] > figures.faults, 30)
        await fleet.until(lambda: any("503" in status.reason for status in fleet.service.control.statuses()))
        assert len(fleet.sandbox.connects) == connects, "an attempt without a good token"
        figures.faults = struck["rest"]
        fleet.sandbox.faults.clear()
        healed = time.monotonic()
        await fleet.online(len(identities), 30)
        figures.recovered(time.monotonic() - healed)
        await talk.end(figures)
        check_requests(fleet.sandbox.token_requests)
        assert most_refusals(fleet.sandbox) == 0
    assert figures.messages > 100
    assert (figures.lost, figures.doubled) == (0, 0)


async def back_after(fleet: Stack, figures: Case, agents: int, down: float) -> None:
    """Take the platform down for a while; no token may be tried that has ended by then."""
    figures.faults += agents
    await fleet.sandbox.stop()
    await fleet.until(lambda: offline(fleet), 30)
    await asyncio.sleep(down)
    await fleet.sandbox.start()
    back = time.monotonic()
    await fleet.online(agents, 60)
    figures.recovered(time.monotonic() - back)
    check_requests(fleet.sandbox.token_requests)
    assert most_refusals(fleet.sandbox) == 0


async def test_r16_tokens_that_end_while_the_platform_is_down(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R16 down")
    async with watched_stack(tmp_path, sandbox_settings={"expires_in_seconds": 4}) as fleet:
        identities = await add_fleet(fleet, 40)
        await back_after(fleet, figures, 40, 4.0)
        answers = [reply.content for reply in await fleet.ask(identities[-1], "after", timeout=MARGIN_SECONDS)]
        figures.answers(["Echo: after"], answers)
    assert (figures.lost, figures.doubled) == (0, 0)


async def test_r16_tokens_that_end_while_their_agents_queue(tmp_path: Path, case: Callable[[str], Case]) -> None:
    """A token that was good when its agent began to wait for its turn may have ended when the turn comes."""
    figures = case("R16 queue")
    async with watched_stack(tmp_path, sandbox_settings={"expires_in_seconds": 8}, connect_rate=12) as fleet:
        await add_fleet(fleet, 40)
        await back_after(fleet, figures, 40, 3.5)
