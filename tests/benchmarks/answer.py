"""How long one person waits for an assistant, beside the provider's bare client on the same model; README.md here.

``.venv/bin/python tests/benchmarks/answer.py`` from anywhere. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from supervisor.sandbox import Sandbox, SandboxUser
from tests.benchmarks import meter
from tests.benchmarks.assistants import ANSWER_SECONDS, ONLINE_SECONDS, SETTLE_SECONDS, Assistants, Place
from tests.benchmarks.line_process import Child, clean_environment
from tests.benchmarks.opponents import CLIENTS, ROOT, SECRET, START_SECONDS, agent_id

OURS: Final = "assistant"
BARE: Final = "bare client"
BEFORE: Final = "before"


@dataclass
class Times:
    """What one opponent needed: milliseconds of each turn, and CPU of each answer."""

    first_ms: list[float] = field(default_factory=list)
    whole_ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0


FIGURES: Final[Mapping[str, Callable[[Times], float]]] = {
    "first part that is seen (ms)": lambda one: statistics.median(one.first_ms),
    "whole answer (ms)": lambda one: statistics.median(one.whole_ms),
    "CPU per answer (ms)": lambda one: one.cpu_ms,
}


@dataclass(frozen=True)
class Talk:
    """A person's conversation with the assistant of one supervisor."""

    sandbox: Sandbox
    user: SandboxUser
    conversation: str

    async def ask(self) -> tuple[float, float]:
        """Seconds until the first part of the answer was there, and until its last."""
        before = len(self.sandbox.messages(self.conversation))
        began = time.monotonic()
        message = await self.user.say(self.conversation, "How is the weather?")
        shown = before + 2
        await self.sandbox.wait_until(lambda: len(self.sandbox.messages(self.conversation)) >= shown, ANSWER_SECONDS)
        first = time.monotonic() - began
        await self.user.wait_for_reply(self.conversation, after=message, timeout=ANSWER_SECONDS)
        return first, time.monotonic() - began


async def _talk(sandbox: Sandbox, supervisor: Assistants, identity: str) -> Talk:
    sandbox.add_agent(identity, SECRET["AGENT_SECRET"], instruction="Be brief.", mcp_servers={})
    await asyncio.to_thread(supervisor.add, [identity])
    await sandbox.wait_online(identity, timeout=ONLINE_SECONDS)
    user = await sandbox.user()
    return Talk(sandbox, user, await user.open(identity))


async def _asked(bare: Child) -> tuple[float, float]:
    bare.tell({"calls": 1})
    answer = await asyncio.to_thread(bare.hear, ANSWER_SECONDS)
    return answer["first_seconds"], answer["seconds"]


async def _measure(turns: int, warm_up: int, work: Path, checkouts: Mapping[str, Path]) -> dict[str, Times]:
    """Each in its turn, all in one run: the machine's mood is the same for all."""
    client = [sys.executable, str(CLIENTS / "bare_openai.py")]
    async with AsyncExitStack() as opened:
        sandbox = await opened.enter_async_context(Sandbox())
        model = opened.enter_context(
            Child([sys.executable, str(CLIENTS / "slow_model.py"), "0"], work / "model.log", env=clean_environment())
        )
        url = (await asyncio.to_thread(model.hear_first, START_SECONDS))["url"]
        place = Place(sandbox.api_url, sandbox.ws_url)
        children: dict[str, Child] = {}
        talks: dict[str, Talk] = {}
        for number, (name, checkout) in enumerate(checkouts.items()):
            folder = work / name
            folder.mkdir()
            supervisor = await asyncio.to_thread(Assistants, place, folder, url, checkout)
            children[name] = opened.enter_context(supervisor)
            talks[name] = await _talk(sandbox, supervisor, agent_id(number))
        bare = children[BARE] = opened.enter_context(Child([*client, url], work / "bare.log", env=clean_environment()))
        await asyncio.to_thread(bare.hear_first, START_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        times = {name: Times() for name in children}
        for turn in range(-warm_up, turns):
            for name, child in children.items():
                spent = meter.cpu_seconds(child.pid)
                first, whole = await (talks[name].ask() if name in talks else _asked(bare))
                await asyncio.sleep(
                    0.02
                )  # what comes after an answer is part of its cost: acknowledgements, the journal
                if turn >= 0:
                    times[name].first_ms.append(first * 1000)
                    times[name].whole_ms.append(whole * 1000)
                    times[name].cpu_ms += (meter.cpu_seconds(child.pid) - spent) * 1000 / turns
        return times


def lines(times: Mapping[str, Times]) -> Sequence[str]:
    """The table: medians, and how they stand to the bare client's and to what they were before."""
    turns = len(times[OURS].whole_ms)
    bare = times[BARE]
    found = [f"one after the other, a model that answers at once; medians of {turns} turns"]
    for what, figure in FIGURES.items():
        shown = "".join(f"   {name} {figure(one):7.2f}" for name, one in times.items())
        found.append(f"{what:30}{shown}   ratio {figure(times[OURS]) / figure(bare):.2f}")
        if BEFORE in times:
            now, then = (figure(times[name]) - figure(bare) for name in (OURS, BEFORE))
            found.append(f"{'':30}   beyond the bare client: {now:.2f}, before {then:.2f}, ratio {now / then:.2f}")
    return found


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/answer.py", description=__doc__)
    parser.add_argument("--turns", type=int, default=100, metavar="N", help="answers of each (default 100)")
    parser.add_argument("--warm-up", type=int, default=10, metavar="N", help="answers before that (default 10)")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout of ours, to measure beside")
    given = parser.parse_args()
    checkouts = {OURS: ROOT, **({BEFORE: given.before.resolve()} if given.before else {})}
    with tempfile.TemporaryDirectory(prefix="supervisor-benchmark-") as work:
        times = asyncio.run(_measure(max(1, given.turns), max(0, given.warm_up), Path(work), checkouts))
    print("\n".join(lines(times)))


if __name__ == "__main__":
    main()
