"""An agent that goes has heard what was said to it before the other process was there, or says that it may not have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox.world.faults import Handshake
from tests.support import postgres
from tests.support.leases import another_replica, give_to_another, handed
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, stack
from tests.support.tunnels import lagging

#: Ends its work once a file is there.
PATIENT = """
import asyncio, pathlib

async def on_message(message, ctx):
    while not (pathlib.Path(__file__).parent / "go").exists():
        await asyncio.sleep(0.01)
    return "done"
"""


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    with postgres.new_database() as url:
        folder = handlers_folder(tmp_path, {"patient": PATIENT})
        async with stack(tmp_path, registry_url=url, agents_dir=folder, lease_seconds=5, ack_seconds=2) as running:
            yield running


@pytest.mark.parametrize("in_time", [True, False])
async def test_what_a_slow_socket_still_has_is_read_before_its_agent_goes(fleet: Stack, in_time: bool) -> None:
    url = fleet.settings.registry_url
    async with lagging(fleet.sandbox.ws_url) as lag:
        identity = await fleet.add(1, settings={"ws_url": lag.url})
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await fleet.until(lambda: fleet.service.control.status(identity).conversations)
        lag.holding, lag.asked = True, 0
        await user.say(conversation, "said before the next owner was there")
        give_to_another(url)
        await fleet.until(lambda: lag.asked or not fleet.service.fleet.agent_ids())
        lag.holding = not in_time
        await fleet.until(lambda: handed(url)[0][0])
        lag.holding = False
        assert handed(url) == [(True, in_time)]
        assert postgres.on_server("SELECT count(*) FROM inbox", url=url) == [(int(in_time),)]


async def test_whoever_gets_an_agent_before_it_is_there_looks_for_what_was_missed(fleet: Stack) -> None:
    url, mine = fleet.settings.registry_url, fleet.service.registry.replicas.my_id
    await fleet.add(1)
    await fleet.online()
    postgres.on_server("UPDATE replicas SET draining = true WHERE id = $1", mine, url=url)
    refused = (
        "UPDATE leases SET next = $1, next_at = clock_timestamp(), refused_at = clock_timestamp() + interval '1 s'"
    )
    postgres.on_server(refused, another_replica(url), url=url)
    await fleet.until(lambda: handed(url)[0][0])
    assert handed(url) == [(True, False)]


async def test_whoever_gets_an_agent_that_was_away_looks_for_what_was_missed(fleet: Stack) -> None:
    url = fleet.settings.registry_url
    identity = await fleet.add(1)
    await fleet.online()
    fleet.sandbox.faults.set(Handshake(mode="refuse"))
    fleet.sandbox.kick(identity)
    await fleet.until(lambda: fleet.service.control.status(identity).state is AgentState.BACKOFF)
    give_to_another(url)
    await fleet.until(lambda: handed(url)[0][0])
    assert handed(url) == [(True, False)]


async def test_what_was_heard_before_one_was_there_says_nothing_of_another_that_gets_the_agent_instead(
    fleet: Stack,
) -> None:
    url = fleet.settings.registry_url
    identity = await fleet.add(1, handler="patient")
    await fleet.online()
    user = await fleet.sandbox.user()
    await user.say(await user.open(identity), "takes its time")
    await fleet.until(lambda: fleet.service.control.status(identity).inbox.running)
    give_to_another(url)
    await fleet.until(lambda: fleet.service.control.status(identity).state is AgentState.DRAINING)
    # The one that was ready ends before its agent comes, and a third one is to have it, which is not connected yet.
    another = "UPDATE leases SET next = $1, next_at = clock_timestamp(), ready = false"
    postgres.on_server(another, another_replica(url), url=url)
    (fleet.folder / "handlers" / "go").touch()
    await fleet.until(lambda: handed(url)[0][0])
    assert handed(url) == [(True, False)]
