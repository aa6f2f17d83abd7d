"""Many assistants in one process: none waits for another, and each costs next to nothing.

What they cost is judged in memory and CPU, beside the provider's bare client in the same process: seconds depend on
who else uses the machine. ``tests/benchmarks/assistants.py`` shows the seconds.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.assistants import ONLINE_SECONDS, Assistants, assistants
from tests.support.fake_models import MODEL_KEY, Answer, FakeModels

AGENTS = 100
MIB = 1024 * 1024
#: What each further one may cost at most.
IDLE_BYTES = 3 * MIB
#: Journal, chat, platform and people are in this process too; measured are 4 to 5 times the bare client's CPU.
MOST_TIMES_THE_BARE_CLIENT = 15


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Assistants]:
    # With the settings that people have: their limits are part of what is tested.
    async with assistants(tmp_path) as running:
        yield running


async def _let_go_at_once(fleet: Assistants) -> None:
    """Wait until all of them are with the model before it says its first word: none waits for another."""
    await fleet.stack.until(lambda: fleet.models.running == AGENTS, timeout=60)
    fleet.models.go.set()


async def _bare_call(client: Any) -> str:
    stream = await client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "I am 0"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def _bare_cpu_seconds(models: FakeModels) -> float:
    """What the same calls cost through the provider's own client."""
    from openai import AsyncOpenAI  # noqa: PLC0415  it takes a second, in every process that collects tests

    async with AsyncOpenAI(base_url=models.openai_url, api_key=MODEL_KEY, max_retries=0) as client:
        await _bare_call(client)
        began = time.process_time()
        await asyncio.gather(*(_bare_call(client) for _ in range(AGENTS)))
        return time.process_time() - began


async def test_a_hundred_cost_little_and_answer_at_once_each_its_own_person(fleet: Assistants) -> None:
    fleet.models.otherwise = lambda request: Answer(f"You are {request.texts[-1].rpartition(' ')[2]}")
    ids = [await fleet.add()]
    await fleet.ask(ids[0], "I am here")
    # The import of the model clients brings hundreds of thousands of objects that no collection looks at any more.
    assert gc.get_freeze_count() > 100_000
    first = psutil.Process().memory_info().rss
    ids += [await fleet.add(online=False) for _ in range(AGENTS - 1)]
    await fleet.stack.online(AGENTS, ONLINE_SECONDS)
    assert (psutil.Process().memory_info().rss - first) / (AGENTS - 1) < IDLE_BYTES

    bare = await _bare_cpu_seconds(fleet.models)
    fleet.models.go.clear()
    began = time.process_time()
    said = [await fleet.say(identity, f"I am {number}") for number, identity in enumerate(ids)]
    await _let_go_at_once(fleet)
    for number, (conversation, message) in enumerate(said):
        [reply] = await fleet.answer(conversation, message, timeout=60)
        assert reply.content == f"You are {number}"
    ours = time.process_time() - began
    print(f"{ours / bare:.1f} times the bare client's CPU")
    assert ours < bare * MOST_TIMES_THE_BARE_CLIENT
