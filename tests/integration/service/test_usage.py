"""Usage, budgets, health and secrets of handlers in a running supervisor, and what a ``kill -9`` leaves of the sums."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.sandbox import Sandbox
from supervisor.settings import Price
from tests.support.observing import figures, handlers_folder
from tests.support.processes import supervisor_process
from tests.support.stack import Stack, agent_id, stack

HANDLERS = {
    "spender": '''
"""Uses as many tokens as it is told; when its budget is used up it says so."""
from supervisor.handler import Reply, Usage

async def on_message(message, ctx):
    if (budget := ctx.budget()).exhausted:
        return budget.notice
    how, _, tokens = message.content.partition(" ")
    with ctx.model_call("asked", provider="fake") as call:
        call.model = "m"
    if how == "reply":
        return Reply("spent", usage=Usage(int(tokens), 0, "m", 4))
    ctx.usage(int(tokens) - 10, 0, model="m", cached_tokens=4)
    ctx.usage(0, 10, model="unpriced")
    return "spent"
''',
    "threaded": """
def on_message(message, ctx):
    with ctx.model_call("m", provider="fake"):
        ctx.usage(int(message.content), 0, model="m")
    return f"{ctx.budget().spent_tokens} spent"
""",
    "ailing": """
async def on_message(message, ctx):
    if message.content == "ill":
        ctx.note_health("the model refuses " + ctx.secret(ctx.settings["place"]) + "\\nand all")
    elif message.content == "well":
        ctx.note_health(None)
    elif message.content == "fail":
        raise RuntimeError("with " + ctx.secret(ctx.settings["place"]) + " it failed")
    elif message.content.startswith(("env:", "file:", "plain")):
        try:
            return "resolved " + ctx.secret(message.content)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "answered"
""",
}
#: It looks like nothing: that it is secret is known by its value alone.
MODEL_KEY = "horse-battery-staple"
PRICES = {"m": Price(input=1000.0, output=2000.0, cached=500.0)}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    (tmp_path / "model-key").write_text(MODEL_KEY)
    agents_dir = handlers_folder(tmp_path, HANDLERS)
    async with stack(tmp_path, agents_dir=agents_dir, prices=PRICES, max_attempts=1) as running:
        yield running


async def spend(fleet: Stack, identity: str, tokens: int, how: str = "usage") -> str:
    """Have an agent use so many tokens; what it answers."""
    [answer] = await fleet.ask(identity, f"{how} {tokens}")
    return answer.content


async def recorded(fleet: Stack) -> dict[str, tuple[int, int, int, int]]:
    """Requests, input, output and cached tokens of each model, as the registry has them."""
    await fleet.service.registry.journal.flush()
    rows = await fleet.service.registry.usage()
    return {row.model: (row.requests, row.input_tokens, row.output_tokens, row.cached_tokens) for row in rows}


async def test_what_handlers_report_reaches_registry_and_metrics_alike(fleet: Stack) -> None:
    identity = await fleet.add(1, "spender")
    await fleet.add(2, "threaded")
    await fleet.online(2)
    await spend(fleet, identity, 110)
    await spend(fleet, identity, 50, "reply")
    rows = await recorded(fleet)
    assert rows == {"m": (2, 150, 0, 8), "unpriced": (1, 0, 10, 0)}
    shown = figures(fleet.service.metrics)
    for model, (_, *counts) in rows.items():
        for kind, count in zip(("input", "output", "cached"), counts, strict=True):
            series = f'supervisor_llm_tokens_total{{handler="spender",model="{model}",type="{kind}"}}'
            assert shown.get(series, 0) == count
            if kind != "cached":
                labels = (
                    'gen_ai_operation_name="chat",gen_ai_provider_name="unknown",'
                    f'gen_ai_request_model="{model}",gen_ai_token_type="{kind}"'
                )
                assert shown.get(f"gen_ai_client_token_usage_sum{{{labels}}}", 0) == count
    timed = 'error_type="",gen_ai_operation_name="chat",gen_ai_provider_name="fake",gen_ai_request_model="m"'
    assert shown[f"gen_ai_client_operation_duration_seconds_count{{{timed}}}"] == 2
    [priced, unpriced] = await fleet.service.registry.usage()
    assert priced.cost == pytest.approx((142 * 1000 + 8 * 500) / 1e6)
    assert shown['supervisor_llm_cost_total{handler="spender",model="m"}'] == pytest.approx(priced.cost)
    assert shown[f'supervisor_agent_llm_cost_total{{agent="{identity}"}}'] == pytest.approx(priced.cost)
    assert 'supervisor_llm_cost_total{handler="spender",model="unpriced"}' not in shown
    assert (unpriced.cost, unpriced.unpriced_requests) == (0.0, 1)


async def test_plain_functions_report_from_their_threads(fleet: Stack) -> None:
    identity = await fleet.add(1, "threaded")
    await fleet.online()
    assert [(await fleet.ask(identity, "5"))[0].content for _ in range(3)] == ["5 spent", "10 spent", "15 spent"]
    assert await recorded(fleet) == {"m": (3, 15, 0, 0)}


async def test_messages_cost_no_transaction_more_for_their_usage(fleet: Stack) -> None:
    messages = 20
    for number, handler in enumerate(("echo", "spender"), start=1):
        await fleet.add(number, handler)
    await fleet.online(2)

    async def commits(number: int) -> float:
        before = figures(fleet.service.metrics)["supervisor_journal_commit_seconds_count"]
        for _ in range(messages):
            await fleet.ask(agent_id(number), "usage 10")
        await fleet.service.registry.journal.flush()
        return figures(fleet.service.metrics)["supervisor_journal_commit_seconds_count"] - before

    # What is written every second may fall between a report and its message's settling.
    assert await commits(2) <= await commits(1) + messages / 2


async def test_a_budget_ends_is_told_and_works_again_once_it_is_raised(
    fleet: Stack, log: Callable[[], list[dict[str, Any]]]
) -> None:
    identity = await fleet.add(1, "spender", settings={"budget_tokens": 100})
    other = await fleet.add(2, "spender")
    await fleet.online(2)
    assert [await spend(fleet, identity, 50) for _ in range(2)] == ["spent", "spent"]
    assert "tomorrow" in await spend(fleet, identity, 50)
    assert await spend(fleet, other, 50) == "spent"
    shown = figures(fleet.service.metrics)
    assert shown[f'supervisor_agent_budget_used_ratio{{agent="{identity}"}}'] == 1.0
    assert shown['supervisor_budget_used_ratio{scope="agent"}'] == 1.0
    assert shown['supervisor_budget_alerts_total{level="exhausted",scope="agent"}'] == 1
    [told] = [line for line in log() if line["event"] == "budget_exhausted"]
    assert (told["agent"], told["spent_tokens"], told["limit_tokens"]) == (identity, 100, 100)
    await fleet.service.registry.update_agent(identity, settings={"budget_tokens": 160})
    await fleet.until(lambda: figures(fleet.service.metrics)['supervisor_budget_used_ratio{scope="agent"}'] < 1)
    assert await spend(fleet, identity, 50) == "spent"
    await fleet.service.registry.remove_agent(identity)
    await fleet.until(lambda: 'supervisor_budget_used_ratio{scope="agent"}' not in figures(fleet.service.metrics))


async def test_the_fleets_budget_bounds_all_and_survives_a_restart(fleet: Stack) -> None:
    first, second = await fleet.add(1, "spender"), await fleet.add(2, "spender")
    await fleet.online(2)
    await fleet.restart(budget_cost=0.1)
    await fleet.online(2)
    await spend(fleet, first, 100)
    await fleet.restart()
    await fleet.online(2)
    assert figures(fleet.service.metrics)['supervisor_budget_used_ratio{scope="fleet"}'] == pytest.approx(0.88)
    assert await spend(fleet, first, 30) == "spent"
    assert "tomorrow" in await spend(fleet, second, 10)
    await fleet.restart(budget_cost=1.0)
    await fleet.online(2)
    assert await spend(fleet, second, 10) == "spent"


async def test_an_agent_that_says_it_is_ill_stays_online_and_failing_until_it_says_otherwise(fleet: Stack) -> None:
    settings = {"place": f"file:{fleet.folder / 'model-key'}"}
    identity = await fleet.add(1, "ailing", settings=settings)
    await fleet.online()

    async def health(text: str) -> str:
        await fleet.ask(identity, text)
        await fleet.until(lambda: fleet.service.control.status(identity).inbox.running == 0)
        return fleet.service.control.status(identity).health

    assert await health("hello") == "ok"
    assert await health("ill") == "failing: the model refuses [redacted] and all"
    assert await health("hello") == "failing: the model refuses [redacted] and all", (
        "it answers, and is ill all the same"
    )
    assert fleet.service.control.status(identity).state == "online"
    assert await health("well") == "ok"
    assert await health("fail") == "failing: RuntimeError: with [redacted] it failed"
    assert await health("hello") == "ok"
    await health("ill")
    await fleet.service.registry.update_agent(identity, settings=settings | {"other": 1})
    await fleet.until(lambda: fleet.service.control.status(identity).health == "ok")


async def test_secrets_come_by_reference_within_the_deployments_bounds(
    fleet: Stack, monkeypatch: pytest.MonkeyPatch, log: Callable[[], list[dict[str, Any]]]
) -> None:
    monkeypatch.setenv("AGENT_MODEL_KEY", MODEL_KEY)
    monkeypatch.setenv("OTHER_KEY", "not for agents")
    identity = await fleet.add(1, "ailing", settings={"place": "env:AGENT_MODEL_KEY"})
    await fleet.online()

    async def ask(text: str) -> str:
        return (await fleet.ask(identity, text))[0].content

    assert await ask("env:AGENT_MODEL_KEY") == f"resolved {MODEL_KEY}"
    assert "SUPERVISOR_SECRET_ENV_PREFIXES" in await ask("env:OTHER_KEY")
    assert (await ask("file:/etc/hostname")).startswith("ConfigurationError: ")
    assert (await ask("plain secret")).startswith("ConfigurationError: ")
    await ask("fail")
    [message] = await fleet.service.registry.journal.messages(limit=1)
    assert "with [redacted] it failed" in (message.error or "")
    assert MODEL_KEY not in json.dumps(log())


async def test_a_kill_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """What a message used is there as soon as its answer is, or the message runs once more, and uses it once more."""
    handler = {
        "spender": """
async def on_message(message, ctx):
    mark("starts")
    ctx.usage(10, 5, model="m")
    return f"spent {ctx.budget().spent_tokens}"
"""
    }
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, handler, budget_tokens=10_000) as supervisor:
        identity = await supervisor.add(1, "spender")
        user = await sandbox.user()
        conversation = await user.open(identity)
        answered = 0
        for number in range(3):
            await supervisor.start()
            await supervisor.online()
            for turn in range(5):
                said = await user.say(conversation, f"{number}.{turn}")
                [*_, last] = await user.wait_for_reply(conversation, after=said)
                answered += 1
            starts = len(supervisor.marks("starts"))
            assert last.content == f"spent {15 * starts}", "today's sum goes on after a restart"
            live = json.loads(await supervisor.command("usage", "--json"))["total"]
            assert live["requests"] >= answered, "what is answered is shown while the supervisor runs"
            await supervisor.kill()
            rows = json.loads(await supervisor.command("usage", "--json"))["usage"]
            assert [(row["agent_id"], row["model"]) for row in rows] == [(identity, "m")]
            assert answered <= rows[0]["requests"] <= starts
            assert rows[0]["total_tokens"] == 15 * rows[0]["requests"]
