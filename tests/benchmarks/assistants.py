"""Assistants that answer at once, beside the provider's bare client that makes the same calls; README.md here.

``.venv/bin/python tests/benchmarks/assistants.py`` from anywhere. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from supervisor.sandbox import Sandbox, SandboxUser
from tests.benchmarks import meter
from tests.benchmarks.certificates import Certificates
from tests.benchmarks.line_process import Child, clean_environment
from tests.benchmarks.opponents import CLIENTS, ROOT, SECRET, START_SECONDS, Platform, Supervisor, agent_id

MIB: Final = 1024 * 1024
ONLINE_SECONDS: Final = 120.0
ANSWER_SECONDS: Final = 120.0
#: A process has done what its start brought with it.
SETTLE_SECONDS: Final = 3.0
MODEL_KEY: Final = {"AGENT_MODEL_KEY": "sk-of-the-benchmark"}


@dataclass(frozen=True)
class Plan:
    """How many assistants, how often each answers, and how long the model takes."""

    agents: int
    rounds: int
    delay_seconds: float


@dataclass
class Figures:
    """What was measured, a value for each round; memory once."""

    seconds: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    bare_seconds: list[float] = field(default_factory=list)
    bare_cpu_ms: list[float] = field(default_factory=list)
    first_mib: float = 0.0
    idle_mib: float = 0.0
    answered_mib: float = 0.0

    def lines(self, plan: Plan) -> list[str]:
        """The table."""
        late, bare = statistics.median(self.seconds), statistics.median(self.bare_seconds)
        cpu, bare_cpu = statistics.median(self.cpu_ms), statistics.median(self.bare_cpu_ms)
        others = plan.agents - 1
        return [
            f"{plan.agents} at once on a model that takes {plan.delay_seconds:g} s; medians of {plan.rounds} rounds",
            f"all answered after the last was asked (s)       {late:7.2f}   bare client {bare:7.2f}",
            f"of that beyond the model's own time (s)         {late - plan.delay_seconds:7.2f}   "
            f"bare client {bare - plan.delay_seconds:7.2f}",
            f"CPU per answer (ms)                             {cpu:7.2f}   bare client {bare_cpu:7.2f}   "
            f"ratio {cpu / bare_cpu:.2f}",
            f"RSS with the first assistant (MiB)              {self.first_mib:7.1f}",
            f"RSS per further one, idle (MiB)                 {(self.idle_mib - self.first_mib) / others:7.3f}",
            f"RSS per further one, once it has answered (MiB) {(self.answered_mib - self.first_mib) / others:7.3f}",
        ]


@dataclass(frozen=True)
class Place:
    """Where the supervisor finds the sandbox."""

    api_url: str
    ws_url: str
    certificates: Certificates | None = None


class Assistants(Supervisor):
    """The supervisor with assistants on a model at ``model_url``; its settings are the defaults.

    Args:
        checkout: whose code runs.
    """

    def __init__(self, platform: Platform, work: Path, model_url: str, checkout: Path = ROOT) -> None:
        self._checkout = checkout
        settings = {"model": "openai:gpt-4o", "base_url": model_url, "api_key": "env:AGENT_MODEL_KEY"}
        self._insert = (
            "INSERT INTO agents (id, handler, secret, settings) "
            f"VALUES (?, 'assistant', 'env:AGENT_SECRET', '{json.dumps(settings)}')"
        )
        super().__init__(platform, work)

    def _environment(self, gateway: Platform) -> dict[str, str]:
        ours = {"PYTHONPATH": str(self._checkout), "SUPERVISOR_AGENTS_DIR": str(self._checkout / "agents")}
        return {**super()._environment(gateway), **MODEL_KEY, **ours}


@dataclass(frozen=True)
class Person:
    """Somebody in a conversation with an assistant."""

    user: SandboxUser
    conversation: str

    async def ask(self) -> tuple[float, float]:
        """When the question was out and when its answer was there, monotonic seconds."""
        message = await self.user.say(self.conversation, "How is the weather?")
        asked = time.monotonic()
        await self.user.wait_for_reply(self.conversation, after=message, timeout=ANSWER_SECONDS)
        return asked, time.monotonic()


async def _people(sandbox: Sandbox, ids: Sequence[str]) -> list[Person]:
    """A person for each of the agents, once all are online."""
    await sandbox.wait_online(*ids, timeout=ONLINE_SECONDS)
    people = []
    for identity in ids:
        user = await sandbox.user()
        people.append(Person(user, await user.open(identity)))
    await asyncio.sleep(SETTLE_SECONDS)
    return people


async def _measure(plan: Plan, work: Path) -> Figures:
    figures = Figures()
    ids = [agent_id(number) for number in range(plan.agents)]
    client = [sys.executable, str(CLIENTS / "bare_openai.py")]
    async with Sandbox() as sandbox:
        for identity in ids:
            sandbox.add_agent(identity, SECRET["AGENT_SECRET"], instruction="Be brief.", mcp_servers={})
        model = Child(
            [sys.executable, str(CLIENTS / "slow_model.py"), str(plan.delay_seconds)],
            work / "model.log",
            env=clean_environment(),
        )
        with model:
            url = (await asyncio.to_thread(model.hear_first, START_SECONDS))["url"]
            platform = Place(sandbox.api_url, sandbox.ws_url)
            supervisor = await asyncio.to_thread(Assistants, platform, work, url)
            with supervisor, Child([*client, url], work / "client.log", env=clean_environment()) as bare:
                await asyncio.to_thread(bare.hear_first, START_SECONDS)
                await asyncio.to_thread(supervisor.add, ids[:1])
                await _people(sandbox, ids[:1])
                figures.first_mib = meter.rss_bytes(supervisor.pid) / MIB
                await asyncio.to_thread(supervisor.add, ids[1:])
                people = await _people(sandbox, ids)
                figures.idle_mib = meter.rss_bytes(supervisor.pid) / MIB
                for number in range(plan.rounds):
                    await _round(plan, people, supervisor, bare, figures)
                    print(f"round {number + 1}: {figures.seconds[-1]:.2f} s", file=sys.stderr, flush=True)
                await asyncio.sleep(SETTLE_SECONDS)
                figures.answered_mib = meter.rss_bytes(supervisor.pid) / MIB
    return figures


async def _round(plan: Plan, people: Sequence[Person], supervisor: Child, bare: Child, figures: Figures) -> None:
    """Each in its turn: the machine's mood is the same for both."""
    before = meter.cpu_seconds(supervisor.pid)
    times = await asyncio.gather(*(person.ask() for person in people))
    await asyncio.sleep(1)  # what comes after an answer is part of its cost: acknowledgements, the journal
    figures.cpu_ms.append((meter.cpu_seconds(supervisor.pid) - before) / plan.agents * 1000)
    figures.seconds.append(max(done for _, done in times) - max(asked for asked, _ in times))
    before = meter.cpu_seconds(bare.pid)
    bare.tell({"calls": plan.agents})
    answer = await asyncio.to_thread(bare.hear, ANSWER_SECONDS)
    figures.bare_cpu_ms.append((meter.cpu_seconds(bare.pid) - before) / plan.agents * 1000)
    figures.bare_seconds.append(answer["seconds"])


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/assistants.py", description=__doc__)
    parser.add_argument("--agents", type=int, default=100, metavar="N", help="assistants (default 100)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="answers of each (default 5)")
    parser.add_argument("--delay", type=float, default=2.0, metavar="S", help="seconds the model takes (default 2)")
    given = parser.parse_args()
    plan = Plan(max(2, given.agents), max(1, given.rounds), given.delay)
    with tempfile.TemporaryDirectory(prefix="supervisor-benchmark-") as work:
        figures = asyncio.run(_measure(plan, Path(work)))
    print("\n".join(figures.lines(plan)))


if __name__ == "__main__":
    main()
