"""The figures of a running supervisor, scraped over HTTP: the whole contract, and what each figure follows."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from supervisor.core.states import AgentState
from supervisor.settings import Price
from supervisor.store.sqlite import Sqlite
from tests.support.metrics_contract import CONTRACT
from tests.support.observing import figures, handlers_folder
from tests.support.promtool import complaints
from tests.support.stack import Stack, agent_id, stack

HANDLERS = {
    "spender": """
async def on_message(message, ctx):
    with ctx.model_call("large", provider="openai"):
        ctx.usage(100, 20, model="large", provider="openai", reasoning_tokens=5, estimated=True)
    return "spent"
""",
    "broken": "async def on_message(message, ctx):\n    raise ValueError('never')\n",
    "slow": """
import asyncio

async def on_message(message, ctx):
    await asyncio.sleep(0.05)
    return "at last"
""",
    "talker": """
import asyncio
from supervisor.handler import Thinking

async def on_message(message, ctx):
    for text in ("one", "two"):
        yield text
        await asyncio.sleep(0.1)
    yield Thinking("and so on")
""",
}
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    agents_dir = handlers_folder(tmp_path, HANDLERS)
    prices = {"large": Price(input=10.0, output=20.0)}
    impatient = Sqlite(busy_seconds=0.1, patience_seconds=0.2)
    async with stack(
        tmp_path,
        dialect=impatient,
        agents_dir=agents_dir,
        prices=prices,
        max_attempts=1,
        budget_tokens=10_000,
        metrics_agent_limit=6,
    ) as running:
        yield running


async def scrape(fleet: Stack, accept: str = "text/plain") -> str:
    """What Prometheus gets."""
    address, headers = f"{fleet.service.admin_url}/metrics", {"Accept": accept}
    async with aiohttp.ClientSession() as session, session.get(address, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == accept.partition(";")[0]
        return await answer.text()


#: Whoever runs a registry alone has nothing to say of these.
OF_SHARED_REGISTRIES = ("supervisor_replicas", "supervisor_registry_dead_rows")


def described(families: list[Metric]) -> dict[str, tuple[str, set[str]]]:
    """The name, type and labels of each family, as the contract writes them down."""
    found = {}
    for family in families:
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        name = family.name if family.name.endswith(suffix) else family.name + suffix
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = ("gauge" if family.type == "info" else family.type, labels)
        assert family.documentation.endswith("."), name
    return found


async def test_the_whole_contract_is_scraped_in_both_formats_and_clean(fleet: Stack, promtool: str) -> None:
    await fleet.add(1, "echo", settings={"budget_tokens": 1000})
    await fleet.add(2, "spender")
    await fleet.add(3, "broken")
    await fleet.online(3)
    for number in (1, 2, 3):
        await fleet.ask(agent_id(number), "hello")
    await fleet.until(lambda: figures(fleet.service.metrics)["supervisor_event_loop_lag_seconds_count"] > 0)
    text, modern = await scrape(fleet), await scrape(fleet, OPENMETRICS)
    assert complaints(promtool, text) == ""
    plain = described(list(parse_plain(text)))
    said = CONTRACT | {name: (CONTRACT[name][0], set()) for name in OF_SHARED_REGISTRIES}
    assert {name: plain.get(name) for name in CONTRACT} == said
    assert described(list(parse_openmetrics(modern))) == plain  # type: ignore[no-untyped-call]
    listed = {
        each.name: ("gauge" if each.kind == "info" else each.kind, set(each.labels), each.help)
        for each in fleet.service.metrics.describe()
    }
    assert {name: (kind, labels) for name, (kind, labels, _) in listed.items()} == CONTRACT
    helps = {line.split()[2]: line.split(maxsplit=3)[3] for line in text.splitlines() if line.startswith("# HELP ")}
    assert {name: text for name, (_, _, text) in listed.items()} == helps
    assert "# UNIT supervisor_message_send_seconds seconds" in modern
    shown = figures(fleet.service.metrics)
    assert shown['supervisor_llm_cost_total{handler="spender",model="large"}'] == pytest.approx(1.4e-3)
    of_openai = 'gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="large"'
    assert shown[f'gen_ai_client_token_usage_sum{{{of_openai},gen_ai_token_type="input"}}'] == 100
    assert shown["supervisor_agents_failing"] == 1


async def test_what_has_not_happened_yet_is_there_at_zero(fleet: Stack) -> None:
    await fleet.add(1, "echo")
    await fleet.online()
    shown = figures(fleet.service.metrics)
    for series in (
        *(
            f'supervisor_messages_handled_total{{handler="echo",outcome="{how}"}}'
            for how in ("dead", "timeout", "lost")
        ),
        *(f'supervisor_sends_total{{outcome="{how}"}}' for how in ("refused", "timeout", "lost", "unknown")),
        *(f'supervisor_connection_attempts_total{{outcome="{how}"}}' for how in ("reject", "retry", "kicked")),
        *(f'supervisor_auth_refreshes_total{{outcome="{how}"}}' for how in ("rejected", "retry", "fault")),
        *(f'supervisor_messages_dropped_total{{reason="{why}"}}' for why in ("inbox_full", "loop_guard")),
        'supervisor_disconnects_total{reason="transport_error"}',
        'supervisor_message_latency_seconds_count{handler="echo"}',
        "supervisor_journal_errors_total",
    ):
        assert shown[series] == 0, series


async def test_queue_handle_and_send_make_the_latency(fleet: Stack) -> None:
    identity = await fleet.add(1, "slow")
    await fleet.online()
    fleet.sandbox.faults.delay(event_ack_seconds=0.1)
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    for text in ("one", "two", "three"):
        # One conversation is one lane: the second and third wait in the queue.
        await user.say(conversation, text)
    latency = 'supervisor_message_latency_seconds_count{handler="slow"}'
    await fleet.until(lambda: figures(fleet.service.metrics)[latency] == 3)
    shown = figures(fleet.service.metrics)
    taken = {what: shown[f'supervisor_message_{what}_seconds_sum{{handler="slow"}}'] for what in ("queue", "send")}
    taken["handle"] = shown['supervisor_message_handle_seconds_sum{handler="slow",outcome="done"}']
    assert taken["handle"] >= 3 * 0.05
    assert taken["queue"] >= 0.05 + 0.1
    assert taken["send"] >= 3 * 0.1
    whole = shown['supervisor_message_latency_seconds_sum{handler="slow"}']
    # Between the three there is only the loop's way from one step to the next.
    assert sum(taken.values()) == pytest.approx(whole, abs=0.05)


async def test_an_agent_that_never_comes_online_is_the_longest_on_its_way(fleet: Stack) -> None:
    def oldest() -> float:
        return figures(fleet.service.metrics)["supervisor_agents_connecting_oldest_seconds"]

    await fleet.add(1, "echo")
    await fleet.online()
    assert oldest() == 0
    fleet.sandbox.faults.connect("reset", agents=[agent_id(2)])
    added_at = time.monotonic()
    await fleet.add(2, "echo")
    await fleet.until(oldest)
    seen_seconds, seen_at = oldest(), time.monotonic()
    attempts = 'supervisor_connection_attempts_total{outcome="retry"}'
    await fleet.until(lambda: figures(fleet.service.metrics)[attempts] >= 3)
    # Its attempts are one way: not a moment is lost between them.
    assert seen_seconds + time.monotonic() - seen_at <= oldest()
    assert oldest() <= time.monotonic() - added_at
    fleet.sandbox.faults.clear()
    await fleet.state(agent_id(2), AgentState.ONLINE)
    assert oldest() == 0


async def test_an_answer_in_parts_is_measured_once_and_by_its_last_part(fleet: Stack) -> None:
    identity = await fleet.add(1, "talker")
    await fleet.online()
    await fleet.ask(identity, "go on", count=2)
    latency = 'supervisor_message_latency_seconds_{}{{handler="talker"}}'
    handled = 'supervisor_messages_handled_total{handler="talker",outcome="done"}'
    await fleet.until(lambda: figures(fleet.service.metrics)[handled] == 1)
    shown = figures(fleet.service.metrics)
    assert shown[latency.format("count")] == 1
    # "two" came 0.1 s after "one"; the thinking after it is no answer.
    assert (
        0.1
        <= shown[latency.format("sum")]
        < shown['supervisor_message_handle_seconds_sum{handler="talker",outcome="done"}']
    )


async def test_the_outbox_shows_what_is_on_its_way(fleet: Stack) -> None:
    identity = await fleet.add(1, "echo")
    await fleet.online()
    fleet.sandbox.faults.drop_acks()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    for text in ("one", "two"):
        await user.say(conversation, text)

    def outbox() -> tuple[float, float]:
        shown = figures(fleet.service.metrics)
        return tuple(shown[f'supervisor_outbox_messages{{state="{state}"}}'] for state in ("sent", "pending"))  # type: ignore[return-value]

    await fleet.until(lambda: outbox() == (1, 1))
    fleet.sandbox.faults.clear()


async def test_a_journal_that_cannot_write_is_counted_and_not_ready(fleet: Stack) -> None:
    identity = await fleet.add(1, "echo")
    await fleet.online()
    assert figures(fleet.service.metrics)["supervisor_ready"] == 1
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    path = fleet.folder / "supervisor.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        await user.say(conversation, "still there?")
        await fleet.until(lambda: figures(fleet.service.metrics)["supervisor_ready"] == 0)
        assert figures(fleet.service.metrics)["supervisor_journal_errors_total"] >= 1
        other.execute("ROLLBACK")
    await fleet.until(lambda: figures(fleet.service.metrics)["supervisor_ready"] == 1)


async def test_the_series_of_removed_agents_disappear(fleet: Stack) -> None:
    """Six agents have series of their own here, the seventh and eighth share one."""
    for number in range(1, 9):
        await fleet.add(number, "spender", settings={"budget_tokens": 1000})
    await fleet.online(8)
    for number in (1, 8):
        await fleet.ask(agent_id(number), "hello")

    def named(agent: str) -> set[str]:
        return {name.partition("{")[0] for name in figures(fleet.service.metrics) if f'agent="{agent}"' in name}

    per_agent = {name for name, (_, labels) in CONTRACT.items() if "agent" in labels}
    per_agent.remove("supervisor_agent_trouble")  # nothing troubles them
    assert named(agent_id(1)) == per_agent
    assert named("_other") == per_agent - {"supervisor_agent_info"}
    assert not named(agent_id(7))
    for number in (1, 7, 8):
        await fleet.service.registry.remove_agent(agent_id(number))
    await fleet.until(lambda: not named(agent_id(1)) | named("_other"))
    assert figures(fleet.service.metrics)['supervisor_agents{state="online"}'] == 5
    await fleet.add(9, "echo")
    await fleet.state(agent_id(9), AgentState.ONLINE)
    assert "supervisor_agent_up" in named(agent_id(9))


async def test_scrapes_go_on_while_agents_come_and_go(fleet: Stack) -> None:
    over = False

    async def scrapes() -> None:
        while not over:
            list(parse_plain(await scrape(fleet)))

    scraping = asyncio.create_task(scrapes())
    for number in range(1, 4):
        await fleet.add(number, "echo")
        await fleet.state(agent_id(number), AgentState.ONLINE)
        await fleet.service.registry.remove_agent(agent_id(number))
    await fleet.until(lambda: not fleet.service.control.statuses())
    over = True
    await scraping
    assert "supervisor_agent_up{" not in await scrape(fleet)
