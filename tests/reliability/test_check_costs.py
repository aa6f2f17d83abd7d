"""What it costs that agents take turns at finding out whether the platform still finds them, in fleets of all sizes.

The figures stand in docs/protocol.md#71-the-platform-forgets-an-agent-after-an-hour.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from supervisor.core.clock import SystemClock
from supervisor.fleet.findability import is_found
from supervisor.net import Session
from supervisor.platform.connection import Connection
from supervisor.platform.hosts.checks import CHECK_SECONDS, CONNECTS_FOR_CHECK, PRESENCES_PER_SECOND, Checks
from supervisor.platform.hosts.facts import Way
from supervisor.platform.transport import Target, Transport, choose_wire
from supervisor.settings import Settings
from tests.support.connecting import TOKEN, make_test_grant
from tests.support.gateway import Gateway, Peer, eventually, gateway
from tests.support.stack import agent_id

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
NAMESPACE = "/ws"
CONVERSATION = "c" * 24
#: Sockets that are opened at once, and for how long is measured.
AT_ONCE, SECONDS = 50, 60.0


class Platform:
    """Acknowledges joins and, unless it has lost what it knew, broadcasts the presence that follows them."""

    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}
        self.forgets = False
        self.frame_bytes = 0
        self._ready, self._over = threading.Event(), threading.Event()
        self.server: Gateway | None = None

    def presence(self, agent: str) -> str:
        said = {"type": "agent", "userId": None, "agentId": agent, "status": "online"}
        stamped = said | {"timestamp": "2026-01-31T12:00:00.000Z"}
        return f"42{NAMESPACE}," + json.dumps(["presence:update", stamped], separators=(",", ":"))

    async def serve(self, peer: Peer) -> None:
        # No pings: they are another figure.
        await peer.join(interval=600.0)
        agent = peer.auth["token"].rpartition(".")[2]
        self.peers[agent] = peer
        # To itself alone: what a whole fleet's connects cost is another figure.
        await peer.send(self.presence(agent))
        while True:
            frame = await peer.receive()
            ack_id, _, body = frame.removeprefix(f"42{NAMESPACE},").partition("[")
            if ack_id:
                await peer.send(f'43{NAMESPACE},{ack_id}[{{"success":true}}]')
            if body.startswith('"conversation:join"') and not self.forgets:
                told = self.presence(agent)
                self.frame_bytes = len(told)
                for one in self.peers.values():
                    await one.send_at_once(told)

    async def _live(self) -> None:
        async with gateway(self.serve) as server:
            self.server = server
            self._ready.set()
            await asyncio.to_thread(self._over.wait)

    @contextmanager
    def running(self) -> Iterator[Gateway]:
        """Its own thread, so that it costs that of the test nothing."""
        thread = threading.Thread(target=lambda: asyncio.run(self._live()))
        thread.start()
        assert self._ready.wait(30)
        assert self.server is not None
        try:
            yield self.server
        finally:
            self._over.set()
            thread.join()


class Agent:
    """One agent of the fleet, connected, with a conversation of its own."""

    def __init__(self, number: int) -> None:
        self.id = agent_id(number)
        self.connection = Connection(self.id, on_event=lambda *_: None)
        self.checks = 0
        self.lost_at: float | None = None

    async def open(self, transport: Transport, server: Gateway) -> None:
        socket = await transport.open(
            Target(server.url, NAMESPACE),
            f"{TOKEN}.{self.id}",
            agent_id=self.id,
            on_event=self.connection.receive,
            timeout=60,
        )
        self.connection.bind(socket, make_test_grant(), Way(NAMESPACE, "/socket.io"))
        await asyncio.wait_for(asyncio.shield(self.connection.registered), 60)

    @property
    def can_be_checked(self) -> bool:
        return self.connection.connected

    async def check(self) -> bool | None:
        self.checks += 1
        return await is_found(self.connection, CONVERSATION, Settings.model_fields["handshake_seconds"].default)

    def forgotten(self, since: float) -> None:
        if self.lost_at is None:
            self.lost_at = time.monotonic()


async def connected(transport: Transport, server: Gateway, count: int) -> list[Agent]:
    fleet = [Agent(number) for number in range(1, count + 1)]
    places = asyncio.Semaphore(AT_ONCE)

    async def come(agent: Agent) -> None:
        async with places:
            await agent.open(transport, server)

    await asyncio.gather(*map(come, fleet))
    return fleet


@pytest.mark.parametrize("agents", [200, 1000, 5000])
async def test_what_the_checks_of_a_fleet_cost(agents: int, record_property: Any) -> None:
    clock, session, platform = SystemClock(), await Session.open(), Platform()
    transport = Transport(session, make_wire=choose_wire("auto"), clock=clock)
    rate = Settings.model_fields["connect_rate"].default / CONNECTS_FOR_CHECK
    checks = Checks(clock, rate=rate, interval_seconds=CHECK_SECONDS)
    with platform.running() as server:
        fleet = await connected(transport, server, agents)

        def figures() -> tuple[int, int, float]:
            frames = sum(one.connection.socket.noise.dropped + one.connection.presences for one in fleet)
            return sum(one.checks for one in fleet), frames, time.thread_time()

        for one in fleet:
            checks.of("platform").enter(one.id, one)
        rests = figures()[2]
        await clock.sleep(CHECK_SECONDS - 5)
        rests = figures()[2] - rests
        await eventually(lambda: figures()[0] > 0, 30)
        before, began = figures(), time.monotonic()
        await clock.sleep(SECONDS)
        after, seconds = figures(), time.monotonic() - began
        done, frames, cpu = after[0] - before[0], after[1] - before[1], after[2] - before[2]
        assert 0 < done / seconds <= min(rate, PRESENCES_PER_SECOND / agents) + 2 / seconds
        assert not [one for one in fleet if one.lost_at is not None]
        platform.forgets = True
        lost = time.monotonic()
        await eventually(lambda: all(one.lost_at is not None for one in fleet), 120)
        noticed = max(one.lost_at or 0.0 for one in fleet) - lost
        said = (
            f"{done / seconds:.1f} checks and {frames / seconds:,.0f} frames of {platform.frame_bytes} bytes a second, "
            f"{100 * cpu / seconds:.1f} % of a core, {100 * rests / (CHECK_SECONDS - 5):.1f} % without checks; "
            f"noticed by all after {noticed:.0f} s"
        )
        print(f"{agents}: {said}")
        record_property("cost", said)
        await checks.close()
        await transport.close()
        await session.close()
