"""What is measured, each for one opponent at a time over a gateway that is already running.

A sample is a mapping from a metric's name to the values that one run gave, in the unit that the name ends in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks import meter
from tests.benchmarks.gateway_process import Gateway
from tests.benchmarks.opponents import Opponent, agent_id

Sample = Mapping[str, Sequence[float]]

KIB: Final = 1024
MIB: Final = 1024 * 1024
ONLINE_SECONDS: Final = 400.0
TRIPS_SECONDS: Final = 500.0
BARRIER_SECONDS: Final = 120.0
#: A process has done what its start brought with it, and its allocator has returned what it will.
SETTLE_SECONDS: Final = 2.0
BATCH_AGENTS: Final = 25


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Args:
        agents: agents online in all runs but echo and latency.
        round_trips: measured echoes in all.
        echo_agents: agents that share those echoes, and those of latency.
        in_flight: unanswered messages per agent.
        warm_up: echoes before the measured ones.
        first_agents: agents online when memory is read for the first time.
        hot_adds: agents added one by one.
        latency_rate: messages a second in the latency run; 0 for half of what the slowest echo carried.
        idle_seconds: how long the idle run looks at agents that nobody talks to.
        rounds: how often each opponent has its turn.
        ping_seconds: the gateway's ping interval. The platform's is 25; with that, a client that is behind by more
            than 5 s when its ping is due loses connections, and its reconnects are the next storm.
    """

    agents: int = 1000
    round_trips: int = 20_000
    echo_agents: int = 50
    in_flight: int = 1
    warm_up: int = 2_000
    first_agents: int = 50
    hot_adds: int = 20
    latency_rate: int = 0
    idle_seconds: int = 60
    rounds: int = 3
    ping_seconds: int = 600


@dataclass(frozen=True)
class Run:
    """One opponent's turn."""

    opponent: type[Opponent]
    gateway: Gateway
    plan: Plan
    work: Path


def ids(first: int, count: int) -> list[str]:
    return [agent_id(number) for number in range(first, first + count)]


def add_gently(client: Opponent, gateway: Gateway, first: int, last: int) -> None:
    """Bring the agents ``first`` to ``last`` online in small batches, one after the other."""
    deadline = time.monotonic() + ONLINE_SECONDS
    for start in range(first, last, BATCH_AGENTS):
        stop = min(start + BATCH_AGENTS, last)
        client.add(ids(start, stop - start))
        gateway.wait_online(stop, max(1.0, deadline - time.monotonic()))


def finish_reading(gateway: Gateway) -> int:
    """Wait until all sent is read *and* handled: the second pass is behind the work that the first one queued."""
    gateway.barrier(BARRIER_SECONDS)
    return gateway.barrier(BARRIER_SECONDS)


@contextmanager
def warmed_up(run: Run) -> Iterator[tuple[Opponent, list[str]]]:
    """A client whose agents have answered for a while and are at rest, with their ids; nothing is counted yet."""
    plan, gateway = run.plan, run.gateway
    agents = ids(0, min(plan.echo_agents, plan.agents))
    with run.opponent(gateway, run.work) as client:
        add_gently(client, gateway, 0, len(agents))
        gateway.round_trips(agents, plan.warm_up, plan.in_flight, TRIPS_SECONDS)
        finish_reading(gateway)
        time.sleep(SETTLE_SECONDS)
        gateway.ask("reset")
        yield client, agents


def echo(run: Run) -> Sample:
    """CPU per echo round trip: message in, typing on, typing off, reply, ack."""
    plan, gateway = run.plan, run.gateway
    with warmed_up(run) as (client, agents):
        before = meter.cpu_seconds(client.pid)
        result = gateway.round_trips(agents, plan.round_trips, plan.in_flight, TRIPS_SECONDS)
        finish_reading(gateway)
        cpu = meter.cpu_seconds(client.pid) - before
        counts = gateway.ask("counts")
    return {
        "echo_cpu_us": [cpu / plan.round_trips * 1e6],
        "echo_rate": [plan.round_trips / result["wallMs"] * 1000],
        "echo_latency_ms": [result["latencyMs"]["p50"]],
        "echo_typings": [counts["typings"] / plan.round_trips],
        "echo_strays": [result["strays"]],
        "echo_lost": [counts["disconnects"]],
    }


def storm(run: Run) -> Sample:
    """All agents connecting at once, each presence broadcast to all, until the last of the events is read."""
    plan, gateway = run.plan, run.gateway
    with run.opponent(gateway, run.work) as client:
        time.sleep(SETTLE_SECONDS)
        idle_rss = meter.rss_bytes(client.pid)
        before = meter.cpu_seconds(client.pid)
        with meter.Peak(client.pid) as peak:
            started = client.add(ids(0, plan.agents))
            online = gateway.wait_online(plan.agents, ONLINE_SECONDS)
            read = finish_reading(gateway)
            cpu = meter.cpu_seconds(client.pid) - before
        counts = gateway.ask("counts")
    return {
        "storm_cpu_s": [cpu],
        "storm_online_s": [(online - started) / 1e9],
        "storm_read_s": [(read - started) / 1e9],
        "storm_peak_mib": [peak.bytes / MIB],
        "storm_idle_mib": [idle_rss / MIB],
        "storm_above_idle_mib": [(peak.bytes - idle_rss) / MIB],
        "storm_events": [counts["presences"]],
        "storm_lost": [counts["disconnects"]],
    }


def latency(run: Run) -> Sample:
    """How long a round trip takes at one rate for all opponents, which none of them has to hurry for."""
    plan, gateway = run.plan, run.gateway
    with warmed_up(run) as (_, agents):
        result = gateway.round_trips_at(agents, plan.round_trips, plan.latency_rate, TRIPS_SECONDS)
        lost = gateway.ask("counts")["disconnects"]
    return {
        "latency_p50_ms": [result["latencyMs"]["p50"]],
        "latency_p99_ms": [result["latencyMs"]["p99"]],
        "latency_rate": [plan.latency_rate],
        "latency_strays": [result["strays"]],
        "latency_lost": [lost],
    }


def cold_start(run: Run) -> Sample:
    """A process is started and told of all agents at once; each sees only its own presence."""
    plan, gateway = run.plan, run.gateway
    gateway.ask("configure", presence="own")
    with run.opponent(gateway, run.work) as client:
        started = client.add(ids(0, plan.agents))
        online = gateway.wait_online(plan.agents, ONLINE_SECONDS)
        finish_reading(gateway)
        cpu = meter.cpu_seconds(client.pid)
        lost = gateway.ask("counts")["disconnects"]
    return {"cold_cpu_s": [cpu], "cold_online_s": [(online - started) / 1e9], "cold_lost": [lost]}


def idle(run: Run) -> Sample:
    """CPU of agents that are online and that nobody talks to."""
    plan, gateway = run.plan, run.gateway
    gateway.ask("configure", presence="own")
    with run.opponent(gateway, run.work) as client:
        add_gently(client, gateway, 0, plan.agents)
        finish_reading(gateway)
        time.sleep(SETTLE_SECONDS)
        before = meter.cpu_seconds(client.pid)
        time.sleep(plan.idle_seconds)
        cpu = meter.cpu_seconds(client.pid) - before
        lost = gateway.ask("counts")["disconnects"]
    return {"idle_cpu_ms": [cpu / plan.idle_seconds * 60 * 1000], "idle_lost": [lost]}


def memory(run: Run) -> Sample:
    """What one more agent under TLS costs: the slope between a few agents and all of them, at rest.

    They come in small batches and see only their own presence, so that connections are measured and not the garbage of
    a storm.
    """
    plan, gateway = run.plan, run.gateway
    first = min(plan.first_agents, plan.agents // 2)
    gateway.ask("configure", presence="own")
    with run.opponent(gateway, run.work) as client:
        add_gently(client, gateway, 0, first)
        time.sleep(SETTLE_SECONDS)
        few_rss, few_pss = meter.rss_bytes(client.pid), meter.pss_bytes(client.pid)
        add_gently(client, gateway, first, plan.agents)
        time.sleep(SETTLE_SECONDS)
        all_rss, all_pss = meter.rss_bytes(client.pid), meter.pss_bytes(client.pid)
        lost = gateway.ask("counts")["disconnects"]
    added = plan.agents - first
    sample = {
        "memory_rss_kib": [(all_rss - few_rss) / added / KIB],
        "memory_total_mib": [all_rss / MIB],
        "memory_lost": [lost],
    }
    if few_pss is not None and all_pss is not None:
        sample["memory_pss_kib"] = [(all_pss - few_pss) / added / KIB]
    return sample


def hot_add(run: Run) -> Sample:
    """From one more agent's registration to its own presence read, with all the others up."""
    plan, gateway = run.plan, run.gateway
    pauses = random.Random(1)
    noticed: list[float] = []
    online: list[float] = []
    with run.opponent(gateway, run.work) as client:
        add_gently(client, gateway, 0, plan.agents)
        finish_reading(gateway)
        time.sleep(SETTLE_SECONDS)
        for each in ids(plan.agents, plan.hot_adds):
            # Uneven pauses, so that the samples do not fall in step with anyone's polling.
            time.sleep(0.2 + 0.3 * pauses.random())
            started = client.add([each])
            times = gateway.ask("wait-agent", ONLINE_SECONDS, agentId=each)
            noticed.append((int(times["tokenNs"]) - started) / 1e6)
            online.append((int(times["onlineNs"]) - started) / 1e6)
        lost = gateway.ask("counts")["disconnects"]
    return {"hot_add_ms": online, "hot_add_noticed_ms": noticed, "hot_add_lost": [lost]}


@dataclass(frozen=True)
class Scenario:
    """One kind of run; ``tls`` says whether its gateway serves TLS."""

    measure: Callable[[Run], Sample]
    tls: bool = False


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "echo": Scenario(echo),
    "latency": Scenario(latency),
    "storm": Scenario(storm),
    "cold-start": Scenario(cold_start),
    "memory": Scenario(memory, tls=True),
    "hot-add": Scenario(hot_add),
    "idle": Scenario(idle),
}
