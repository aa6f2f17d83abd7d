"""From a figure to the message behind it: a real Prometheus keeps the trace ids that a real collector has."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import aiohttp

from tests.support.collector import collecting, opens_tracing
from tests.support.observing import handlers_folder
from tests.support.prometheus import prometheus
from tests.support.stack import Stack, stack

HANDLER: Final = """
from supervisor.handler import Permanent

async def on_message(message, ctx):
    if message.content == "bury":
        raise Permanent("no")
    with ctx.model_call("m", provider="own"):
        return "answered"
"""
HISTOGRAMS: Final = (
    "supervisor_message_latency_seconds_bucket",
    "supervisor_message_handle_seconds_bucket",
    "gen_ai_client_operation_duration_seconds_bucket",
)
OPENMETRICS: Final = {"accept": "application/openmetrics-text; version=1.0.0"}


async def scraped(fleet: Stack, **headers: str) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{fleet.service.admin_url}/metrics", headers=headers) as answer,
    ):
        return await answer.text()


async def test_prometheus_has_the_traces_of_what_was_slow_and_of_what_failed(tmp_path: Path) -> None:
    async with (
        collecting() as collector,
        stack(
            tmp_path,
            agents_dir=handlers_folder(tmp_path, {"one": HANDLER}),
            parts={"open_tracing": opens_tracing(batch_seconds=0.05)},
            otlp_endpoint=collector.url,
        ) as fleet,
    ):
        agent = await fleet.add(handler="one")
        await fleet.online()
        target = fleet.service.admin_url.removeprefix("http://")
        async with prometheus(tmp_path, [target]) as watched:
            await fleet.ask(agent, "hello")
            await fleet.ask(agent, "bury")
            outcomes = {}
            for spans in await collector.ended(2):
                [root] = [span for span in spans if not span.parent_id]
                outcomes[root.attributes["aiwm.message.outcome"]] = root.trace_id
            await watched.until('supervisor_messages_handled_total{outcome="dead"} == 1', bool)
            await watched.until("supervisor_message_latency_seconds_count == 1", bool)
            found = {name: (await watched.exemplars(name))[name] for name in HISTOGRAMS}
        plain = await scraped(fleet)
    done, dead = outcomes["done"], outcomes["dead"]
    assert found == dict(zip(HISTOGRAMS, ({done}, {done, dead}, {done}), strict=True))
    assert "trace_id" not in plain


async def test_without_traces_there_is_nothing_to_point_at(tmp_path: Path) -> None:
    async with stack(tmp_path, agents_dir=handlers_folder(tmp_path, {"one": HANDLER})) as fleet:
        agent = await fleet.add(handler="one")
        await fleet.online()
        await fleet.ask(agent, "hello")
        text = await scraped(fleet, **OPENMETRICS)
    assert 'supervisor_message_latency_seconds_count{handler="one"} 1.0' in text
    assert text.endswith("# EOF\n")
    assert " # {" not in text
