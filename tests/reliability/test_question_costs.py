"""What the questions cost that every agent asks again and again: requests, bytes, the supervisor's own time.

The figures stand in docs/protocol.md#10-cost-of-what-is-asked-again-and-again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
from yarl import URL

from supervisor.core.clock import SystemClock
from supervisor.platform.conversations import PlatformConversations
from supervisor.platform.hosts.agent_api import Access, AgentApi
from supervisor.platform.hosts.api import Answer, PlatformApi
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.instructions import fetch_configuration
from supervisor.protocol.answers import ConnectAnswer, Instruction
from supervisor.sandbox import Sandbox
from tests.support.stack import SECRET, agent_id

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
CONVERSATIONS = 5


class MeteredApi(PlatformApi):
    """Counts what goes through it."""

    requests = 0
    bytes = 0

    async def request(self, method: str, url: URL, **options: Any) -> Answer:
        answer = await super().request(method, url, **options)
        self.requests += 1
        self.bytes += len(answer.body or b"")
        return answer


@contextmanager
def sandbox_in_a_thread(agents: int) -> Iterator[Sandbox]:
    """A platform that costs the test's own thread nothing."""
    ready, over = threading.Event(), threading.Event()
    made: list[Sandbox] = []

    async def run() -> None:
        async with Sandbox(profile="v2") as sandbox:
            people = [await sandbox.user() for _ in range(CONVERSATIONS)]
            for number in range(agents):
                sandbox.add_agent(agent_id(number), SECRET, instruction="Be brief. " * 100)
                for person in people:
                    await person.open(agent_id(number))
            made.append(sandbox)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    ready.wait()
    try:
        yield made[0]
    finally:
        over.set()
        thread.join()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.mark.parametrize("agents", [1000, 5000])
async def test_what_a_round_of_questions_costs(
    session: aiohttp.ClientSession, agents: int, record_property: Any
) -> None:
    clock = SystemClock()
    gates = Gates(
        connect_rate=50, auth_rate=50, connect_concurrency=10, auth_concurrency=10, clock=clock, api_rate=100_000
    )
    with sandbox_in_a_thread(agents) as sandbox:
        api = MeteredApi(session, clock, timeout_seconds=120)
        asked = AgentApi(api, gates)
        conversations = PlatformConversations(asked, clock)
        ids = [agent_id(number) for number in range(agents)]
        access = {one: Access(sandbox.api_url, sandbox.tokens.for_agent(one, role="editor")) for one in ids}
        known = ConnectAnswer(access_token="", instruction=Instruction(system_prompt="old"))

        async def whole(one: str) -> None:
            assert len(await conversations.newest_first(access[one], one) or ()) == CONVERSATIONS

        async def changed(one: str) -> None:
            assert await conversations.newest_first(access[one], one, since=clock.now() + 60) == []

        async def configured(one: str) -> None:
            found = await fetch_configuration(asked, access[one], one, known)
            assert found is not None
            assert found.instruction.system_prompt.startswith("Be brief.")

        for name, ask in (("whole list", whole), ("what changed", changed), ("configuration", configured)):
            api.requests = api.bytes = 0
            began, cpu = time.monotonic(), time.thread_time()
            await asyncio.gather(*[ask(one) for one in ids])
            cpu, seconds = time.thread_time() - cpu, time.monotonic() - began
            record_property(name, f"{api.requests} requests, {api.bytes:,} bytes, {cpu:.2f} s CPU")
            print(f"{agents} {name}: {api.requests} requests, {api.bytes:,} bytes, {cpu:.2f} s CPU, {seconds:.1f} s")
            assert api.requests == agents, "one request an agent"
