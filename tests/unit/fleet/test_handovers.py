"""Agents go from one supervisor to another, connected there first, and whatever keeps one from that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from supervisor.core.states import AgentState
from supervisor.service import Service
from supervisor.settings.secrets import generate_key
from supervisor.store import Registry
from tests.support import postgres
from tests.support.journaling import inbound
from tests.support.leases import on_its_way
from tests.support.observing import figures, handlers_folder
from tests.support.postgres_way import way_to
from tests.support.stack import Stack, stack

HANDLERS = {
    "broken": "raise RuntimeError('it cannot be loaded')\n",
    "patient": """
import asyncio
from pathlib import Path

go_on = Path(__file__).parent / "go_on"

async def on_message(message, ctx):
    while not go_on.exists():
        await asyncio.sleep(0.01)
    return f"Echo: {message.content}"
""",
}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    with postgres.new_database() as url:
        folder = handlers_folder(tmp_path, HANDLERS)
        async with stack(tmp_path, registry_url=url, agents_dir=folder, lease_seconds=5) as running:
            yield running


@pytest.fixture
async def other(fleet: Stack) -> AsyncIterator[Service]:
    """One more supervisor of the same registry."""
    started = await Service.start(fleet.settings)
    yield started
    await started.stop(0.0)


def states(service: Service) -> dict[str, AgentState]:
    return {one.id[-1]: one.state for one in service.fleet.statuses()}


async def test_whatever_an_agent_is_like_it_goes_to_the_other_when_its_supervisor_ends(
    fleet: Stack, other: Service
) -> None:
    await fleet.add(1)
    await fleet.add(2, paused=True)
    await fleet.add(3, handler="broken")
    await fleet.add(4)
    await fleet.until(lambda: len(states(fleet.service)) + len(states(other)) == 4)
    await fleet.online(sum(one in "14" for one in states(fleet.service)))
    await fleet.until(lambda: fleet.service.registry.replicas.takers == 1)
    had = len(states(fleet.service))
    online = sum(one in "14" for one in states(fleet.service))
    async with asyncio.timeout(20):
        assert await fleet.service.stop()
    assert set(states(other)) == set("1234")
    async with asyncio.timeout(20):
        await other.fleet.wait_online(2, 20)
    assert states(other)["2"] is AgentState.PAUSED
    assert states(other)["3"] is AgentState.FAULTED
    assert not states(fleet.service)
    handed = figures(fleet.service.metrics)
    assert handed['supervisor_handovers_total{outcome="ok"}'] == handed["supervisor_handover_seconds_count"] == had
    assert figures(other.metrics)["supervisor_takeovers_total"] == 0
    heard_all = postgres.on_server("SELECT count(*) FROM leases WHERE heard_all", url=fleet.settings.registry_url)
    assert heard_all == [(online,)], "those that were connected"


async def test_whoever_gets_an_agent_goes_on_with_the_token_that_it_has(fleet: Stack) -> None:
    await fleet.restart(secret_keys=(SecretStr(generate_key()),))
    url = fleet.settings.registry_url
    identity = await fleet.add(1)
    await fleet.online()

    def kept() -> list[tuple[bytes]]:
        return postgres.on_server("SELECT sealed FROM agent_tokens", url=url)

    await fleet.until(kept)
    [[sealed]] = kept()
    assert sealed.startswith(b"gAAAA"), "encrypted, as Fernet does"
    assert len(fleet.sandbox.token_requests) == 1
    await fleet.restart()
    await fleet.online()
    assert len(fleet.sandbox.token_requests) == 1
    # An old one that the platform does not take any more is asked for anew, and replaced.
    await fleet.service.stop()
    postgres.on_server("UPDATE agent_tokens SET asked_at = asked_at - interval '2 hours'", url=url)
    fleet.sandbox.tokens.expire(identity)
    fleet.service = await Service.start(fleet.settings)
    await fleet.online()
    assert len(fleet.sandbox.token_requests) == 2
    await fleet.until(lambda: kept() != [(sealed,)])
    # Who asks for everything anew gets it.
    assert await fleet.service.fleet.runner(identity).refresh() == ""
    assert len(fleet.sandbox.token_requests) == 3
    # Whom the platform refuses nobody lets in again by what it gave before.
    fleet.sandbox.agents[identity].status = "suspended"
    fleet.service.fleet.runner(identity).reload()
    await fleet.state(identity, AgentState.REJECTED)
    await fleet.until(lambda: not kept())


async def test_one_that_ends_alone_waits_for_nobody(fleet: Stack) -> None:
    await fleet.add(1)
    await fleet.online()
    async with asyncio.timeout(10):
        assert await fleet.service.stop()
    assert postgres.on_server("SELECT owner FROM leases", url=fleet.settings.registry_url) == [(None,)]


async def test_what_only_the_next_owner_heard_is_answered_though_it_does_not_come_to_own_the_agent(
    fleet: Stack,
) -> None:
    await fleet.restart(grace_seconds=0, backfill_messages=0)
    url, identity = fleet.settings.registry_url, await on_its_way(fleet)
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    message = await user.say(conversation, "nobody else hears it")
    postgres.on_server("UPDATE leases SET next = NULL, ready = false", url=url)
    called_off = 'supervisor_handovers_total{outcome="called_off"}'
    await fleet.until(lambda: not states(fleet.service) and figures(fleet.service.metrics)[called_off] == 1)
    # Its owner dies, and whoever has it next has the platform's history as little as this one.
    postgres.on_server("UPDATE leases SET owner = NULL", url=url)
    [reply] = await user.wait_for_reply(conversation, after=message, timeout=20)
    assert reply.content == "Echo: nobody else hears it"


async def test_what_another_one_heard_for_an_agent_that_runs_here_is_answered_and_counted(fleet: Stack) -> None:
    identity = await fleet.add(1)
    await fleet.online()
    conversation = await (await fleet.sandbox.user()).open(identity)
    other = await Registry.open(fleet.settings.registry_url)
    for _ in range(2):
        await other.journal.hand_in(identity, inbound("heard", conversation), key="e" * 24, received_at=time.time())
    await fleet.until(lambda: [one.content for one in fleet.sandbox.messages(conversation)] == ["Echo: heard"])
    assert figures(fleet.service.metrics)["supervisor_handed_in_total"] == 1
    await other.close()


async def test_a_move_that_is_called_off_leaves_the_agent_where_it_is(fleet: Stack, other: Service) -> None:
    identity = await fleet.add(1)
    await fleet.until(lambda: len(states(fleet.service)) + len(states(other)) == 1)
    owner, target = (fleet.service, other) if states(fleet.service) else (other, fleet.service)
    await owner.fleet.wait_online(1, 20)
    url = fleet.settings.registry_url
    moving = "UPDATE leases SET next = $1, next_at = clock_timestamp()"
    postgres.on_server(moving, target.registry.replicas.my_id, url=url)
    await fleet.until(lambda: states(target), 20)
    # As a planner does that finds the target drained: it may be too late.
    postgres.on_server("UPDATE leases SET next = NULL, ready = false", url=url)
    await fleet.until(lambda: not states(target) or not states(owner), 20)
    running = owner if states(owner) else target
    await running.fleet.wait_online(1, 20)
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "Echo: hello"


async def test_a_look_that_began_before_an_agent_went_does_not_bring_it_back(tmp_path: Path) -> None:
    folder = handlers_folder(tmp_path, HANDLERS)
    with postgres.new_database() as url:
        async with (
            way_to(url) as way,
            stack(tmp_path, registry_url=way.url, agents_dir=folder, lease_seconds=5) as fleet,
        ):
            identity = await fleet.add(1, "patient")
            await fleet.online()
            user = await fleet.sandbox.user()
            conversation = await user.open(identity)
            other = await Service.start(fleet.settings.model_copy(update={"registry_url": url}))
            for text in ("one", "two"):
                await user.say(conversation, text)
            moving = "UPDATE leases SET next = $1, next_at = clock_timestamp()"
            postgres.on_server(moving, other.registry.replicas.my_id, url=url)
            await fleet.until(lambda: states(fleet.service) == {"1": AgentState.DRAINING}, 20)
            # The move is called off too late; the agent is not to come back here all the same.
            drained = fleet.service.registry.replicas.my_id
            postgres.on_server("UPDATE replicas SET draining = true WHERE id = $1", drained, url=url)
            postgres.on_server("UPDATE leases SET next = NULL, ready = false", url=url)
            # The row that says whose the agent is: its id, and that it is this one's.
            way.holding = identity.encode() + b"\x00\x00\x00\x01\x01"
            look = asyncio.create_task(fleet.service.fleet.reconcile())
            await fleet.until(lambda: way.held, 20)
            (folder / "go_on").touch()
            await fleet.until(lambda: not states(fleet.service), 20)
            way.holding = b""
            await look
            assert not states(fleet.service)
            answered = {"one", "two", "Echo: one", "Echo: two"}
            await fleet.until(lambda: {one.content for one in fleet.sandbox.messages(conversation)} == answered, 20)
            await other.stop(0.0)
