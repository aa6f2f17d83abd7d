"""Supervisors that share a registry share out what a host bears, and what may be spent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from supervisor.sandbox.world.faults import Handshake
from supervisor.service import Service
from supervisor.store import LockInfo, Registry
from tests.support import postgres
from tests.support.stack import Stack, stack

HANDLERS = {
    "echo": "async def on_message(message, ctx):\n    return message.content\n",
    "usage": "async def on_message(message, ctx):\n    ctx.usage(100, 0, model='m')\n    return 'spent'\n",
}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    (tmp_path / "handlers").mkdir()
    for name, code in HANDLERS.items():
        (tmp_path / "handlers" / f"{name}.py").write_text(code)
    with postgres.new_database() as url:
        async with stack(tmp_path, registry_url=url, agents_dir=tmp_path / "handlers", budget_tokens=1000) as running:
            yield running


async def test_the_rates_of_hosts_are_those_of_all_together(fleet: Stack) -> None:
    gate = fleet.service.shared.gates.of("platform.example")
    whole = gate.token_rate.rate
    async with AsyncExitStack() as ending:
        beside = await Registry.open(
            fleet.settings.registry_url, lock=LockInfo("http://[::1]:1", api_url=fleet.settings.api_url)
        )
        ending.push_async_callback(beside.close)
        await fleet.until(lambda: gate.token_rate.rate < whole * 0.6)
    await fleet.until(lambda: gate.token_rate.rate == whole)


async def test_a_host_that_is_down_for_another_one_is_tried_in_turns_here_too(fleet: Stack) -> None:
    identity = await fleet.add(handler="echo")
    await fleet.online()
    lock = LockInfo("http://[::1]:1", api_url=fleet.settings.api_url, capacity=0.001)
    beside = await Registry.open(fleet.settings.registry_url, lock=lock)
    try:
        host = fleet.service.fleet.runner(identity).host
        beside.replicas.tell_down(frozenset({host}))
        heard = fleet.service.registry.replicas
        await fleet.until(lambda: {host} in heard.heard_down.values())
        fleet.sandbox.faults.set(Handshake(mode="refuse"))
        fleet.sandbox.kick()
        await fleet.until(lambda: "waits for its turn" in fleet.service.control.status(identity).reason)
        fleet.sandbox.faults.clear()
        beside.replicas.tell_down(frozenset())
        await fleet.online()
    finally:
        await beside.close()


async def test_what_one_spends_counts_for_the_budget_of_all(fleet: Stack) -> None:
    identity = await fleet.add(handler="usage")
    await fleet.online()
    other = await Service.start(fleet.settings)
    try:
        for _ in range(3):
            await fleet.ask(identity, "hello")
        async with asyncio.timeout(30):
            while other.shared.ledger.budget("another").spent_tokens < 300:
                await asyncio.sleep(0.05)
        assert fleet.service.shared.ledger.budget(identity).spent_tokens == 300
    finally:
        await other.stop(0.0)
