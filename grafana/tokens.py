"""Tokens and cost: what language models are used for, by whom, at what price, and how they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.agent import BUDGET, FLEET_SCOPE
from grafana.blocks import Column, Target, bars, figure, graph, heat, listing
from grafana.colors import TYPES
from grafana.frame import AGENT_LINK, TOKENS, assemble
from grafana.promql import TARGET, buckets, called, increase, named, or_zero, quantile, rate, ratio, series, summed

AGENT_SCOPE: Final = 'scope="agent"'
USED: Final = 'type!="cached"'
INPUT: Final = 'type="input"'
CACHED: Final = 'type="cached"'
TOKENS_TOTAL, COST_TOTAL = "supervisor_llm_tokens_total", "supervisor_llm_cost_total"
CALLS, USAGE = "gen_ai_client_operation_duration_seconds", "gen_ai_client_token_usage"
MODEL, PROVIDER, KIND = "gen_ai_request_model", "gen_ai_provider_name", "gen_ai_token_type"
FAILED_CALL: Final = 'error_type!=""'
TODAY: Final = "now/d"
#: Projections look at the pace of so long.
PACE: Final = "30m"
TOP: Final = 8
#: Decimals of money in a list where little and much stand below each other.
MILLS: Final = 3


def build() -> Dashboard:
    """Make the dashboard."""
    return assemble(
        TOKENS,
        "AIWM supervisor / Tokens and cost",
        "What language models are used for, by whom, at what price, and how they do. Money is in the currency of "
        "PRICES; "
        "budgets count UTC days, so the dashboard shows UTC.",
        {
            "Today and in this range": [*_summary(), *_shares()],
            "Tokens": [*_tokens(), *_per_answer()],
            "Cost": _cost(),
            "Budgets": _budgets(),
            "Model calls: rate, errors, duration": _calls(),
        },
        timezone="utc",
        since="now-6h",
    )


def _summary() -> Sequence[Any]:
    """What was used and spent, and what today will have cost."""
    today = or_zero(increase(COST_TOTAL))
    pace = or_zero(rate(COST_TOTAL))
    return [
        figure(
            "Tokens in range",
            "Input and output, within the shown range.",
            "short",
            Target(increase(TOKENS_TOTAL, USED)),
            instant=True,
            none="none",
        ),
        figure(
            "Cost in range",
            "Spent within the shown range. Models without a price in PRICES cost nothing here; `supervisor usage` "
            "names them.",
            "currencyUSD",
            Target(increase(COST_TOTAL)),
            instant=True,
            none="none",
        ),
        figure(
            "Cost today",
            "Since midnight UTC, whatever the shown range.",
            "currencyUSD",
            Target(today),
            instant=True,
        ).time_from(TODAY),
        figure(
            "Projected today",
            "What today will have cost at its end: so far, and the pace of the last 30 minutes for the rest of the "
            "UTC day.",
            "currencyUSD",
            Target(f"{today} + {pace} * (86400 - time() % 86400)"),
            instant=True,
        )
        .time_from(TODAY)
        .interval(PACE),
    ]


def _shares() -> Sequence[Any]:
    """How much of budgets and caches is used, and how many calls fail."""
    cached = increase(TOKENS_TOTAL, CACHED)
    given = increase(TOKENS_TOTAL, INPUT)
    return [
        figure(
            "Fleet budget used",
            "The part of BUDGET_TOKENS or BUDGET_COST of today that is used, whichever is more.",
            "percentunit",
            Target(f"max({series('supervisor_budget_used_ratio', FLEET_SCOPE)})"),
            steps=BUDGET,
            decimals=1,
            none="no budget",
        ),
        figure(
            "Fullest budget",
            "The agent that is nearest to the end of its own budget of today.",
            "percentunit",
            Target(f"max({series('supervisor_budget_used_ratio', AGENT_SCOPE)})"),
            steps=BUDGET,
            decimals=1,
            none="no budget",
        ),
        figure(
            "Cached input",
            "The share of input that providers took from their caches, within the shown range: cheaper and faster.",
            "percentunit",
            Target(ratio(or_zero(cached), given)),
            steps=((None, "text"), (0.2, "green")),
            decimals=1,
            instant=True,
        ),
        figure(
            "Failing calls",
            "The share of model calls that failed.",
            "percentunit",
            Target(ratio(or_zero(rate(f"{CALLS}_count", FAILED_CALL)), rate(f"{CALLS}_count"))),
            steps=((None, "green"), (0.02, "yellow"), (0.1, "red")),
            decimals=1,
        ),
    ]


def _tokens() -> Sequence[Any]:
    """Tokens over time, by what they are counted by."""

    def per_minute(label: str, *matchers: str) -> str:
        return f"{rate(TOKENS_TOTAL, *matchers, by=label)} * 60"

    cached = f"({rate(TOKENS_TOTAL, CACHED, by='model')} or 0 * {rate(TOKENS_TOTAL, INPUT, by='model')})"
    return [
        graph(
            "Tokens per minute, by type",
            "Input, output, and the cached ones, which are part of the input.",
            "short",
            Target(per_minute("type"), "{{type}}"),
            colors=TYPES,
        ),
        graph(
            "Tokens per minute, by model",
            "Input and output together.",
            "short",
            Target(per_minute("model", USED), "{{model}}"),
            stacked=True,
        ),
        graph(
            "Tokens per minute, by handler",
            "Input and output together.",
            "short",
            Target(per_minute("handler", USED), "{{handler}}"),
            stacked=True,
        ),
        graph(
            "Cached share of input, by model",
            "How much of the input came from the provider's cache.",
            "percentunit",
            Target(ratio(cached, rate(TOKENS_TOTAL, INPUT, by="model")), "{{model}}"),
            top=1.0,
            decimals=0,
        ),
    ]


def _per_answer() -> Sequence[Any]:
    """Tokens of one answer."""
    return [
        graph(
            "Tokens of an answer",
            "What half and 95 of 100 answers stay below, input and output apart. Input that grows steadily is the "
            "memory "
            "of conversations; buckets grow fourfold, so between them this is an estimate.",
            "short",
            Target(quantile(0.5, USAGE, by=KIND), f"{{{{{KIND}}}}} p50"),
            Target(quantile(0.95, USAGE, by=KIND), f"{{{{{KIND}}}}} p95"),
        ),
        heat(
            "Tokens of an answer: input",
            "How many answers took how much input.",
            "short",
            Target(buckets(USAGE, 'gen_ai_token_type="input"')),
        ),
    ]


def _cost() -> Sequence[Any]:
    handled = rate("supervisor_messages_handled_total", 'outcome="done"', by="handler")
    return [
        graph(
            "Cost rate: what an hour costs, by model",
            "What an hour at the present pace costs; what was spent is in the first row.",
            "currencyUSD",
            Target(f"{rate(COST_TOTAL, by='model')} * 3600", "{{model}} /h"),
            stacked=True,
            decimals=2,
        ),
        graph(
            "Cost rate: what an hour costs, by handler",
            "What an hour at the present pace costs; what was spent is in the first row.",
            "currencyUSD",
            Target(f"{rate(COST_TOTAL, by='handler')} * 3600", "{{handler}} /h"),
            stacked=True,
            decimals=2,
        ),
        graph(
            "Cost of 1,000 answers, by handler",
            "What a thousand answered messages cost; it shows a dearer model or longer conversations, whatever the "
            "traffic.",
            "currencyUSD",
            Target(f"1000 * {ratio(rate(COST_TOTAL, by='handler'), handled)}", "{{handler}}"),
            decimals=2,
        ),
        bars(
            "Dearest agents in range",
            f"The {TOP} agents that cost most within the shown range; those past METRICS_AGENT_LIMIT together as "
            "_other.",
            "currencyUSD",
            Target(f"sort_desc({_dearest()})", "{{who}}"),
            steps=((None, "orange"),),
            width=10,
            decimals=MILLS,
        ),
        listing(
            "Models in range",
            "What each model was used for within the shown range.",
            Column("Model", label="model"),
            Column("Handler", label="handler"),
            Column("Input", expr=increase(TOKENS_TOTAL, INPUT, by="model, handler"), unit="short"),
            Column("Output", expr=increase(TOKENS_TOTAL, 'type="output"', by="model, handler"), unit="short"),
            Column("Cached", expr=increase(TOKENS_TOTAL, CACHED, by="model, handler"), unit="short"),
            Column("Cost", expr=increase(COST_TOTAL, by="model, handler"), unit="currencyUSD", decimals=MILLS),
            width=14,
        ),
    ]


def _dearest() -> str:
    # One that has moved has cost something at each supervisor that ran it.
    cost = called(increase("supervisor_agent_llm_cost_total", by=f"{TARGET}, agent"))
    return f"topk({TOP}, {summed(cost, 'agent, who')})"


def _budgets() -> Sequence[Any]:
    fullest = f"topk({TOP}, {series('supervisor_agent_budget_used_ratio')})"
    return [
        graph(
            "Budget used",
            "The part of today's budgets (UTC) that is used: the fleet's, and the highest of the agents' own. It "
            "falls to "
            "zero at midnight UTC.",
            "percentunit",
            Target(f"max by (scope) ({series('supervisor_budget_used_ratio')})", "{{scope}}"),
            limit=0.8,
            top=1.0,
            decimals=0,
        ),
        listing(
            "Agents nearest to their budget",
            "By the part of their own budget of today that is used. A click opens the agent.",
            Column("Agent", label="agent", link=AGENT_LINK),
            Column("Name", label="name"),
            Column("Instance", label="instance"),
            Column("Used", expr=named(fullest), unit="percentunit", steps=BUDGET, decimals=1),
            none="No agent has a budget",
        ),
        graph(
            "Budgets nearly or wholly used",
            "How often a budget passed 80 % (warning) or 100 % (exhausted).",
            "short",
            Target(
                f"sum by (scope, level) (increase({series('supervisor_budget_alerts_total')}[$__rate_interval]))",
                "{{scope}} {{level}}",
            ),
            colors={"agent exhausted": "orange", "fleet exhausted": "red"},
            rare=True,
        ),
    ]


def _calls() -> Sequence[Any]:
    provider, failed = f"{{{{{PROVIDER}}}}}", rate(f"{CALLS}_count", FAILED_CALL, by=f"{PROVIDER}, error_type")
    return [
        graph(
            "Model calls",
            "By provider; one answer may take several, with tools and retries.",
            "reqps",
            Target(rate(f"{CALLS}_count", by=PROVIDER), provider),
            width=6,
            stacked=True,
        ),
        graph(
            "Failing share",
            "The share of calls that failed, by provider.",
            "percentunit",
            Target(_failing_by_provider(), provider),
            width=6,
            limit=0.1,
            top=0.2,
            decimals=0,
        ),
        graph(
            "Failed calls, per minute",
            "By provider and error. The assistant tries again and falls back to other models before it apologises.",
            "short",
            Target(f"{failed} * 60", f"{provider} {{{{error_type}}}}"),
            width=12,
            rare=True,
        ),
        graph(
            "Duration of calls, by provider",
            "What half and 95 of 100 calls stay below.",
            "s",
            Target(quantile(0.5, CALLS, by=PROVIDER), f"{provider} p50"),
            Target(quantile(0.95, CALLS, by=PROVIDER), f"{provider} p95"),
        ),
        graph(
            "Duration of calls, by model (p95)",
            "95 of 100 calls took no longer.",
            "s",
            Target(quantile(0.95, CALLS, by=MODEL), f"{{{{{MODEL}}}}}", exemplars=True),
        ),
        heat("Duration of calls", "How many calls took how long.", "s", Target(buckets(CALLS))),
    ]


def _failing_by_provider() -> str:
    every = rate(f"{CALLS}_count", by=PROVIDER)
    return ratio(f"({rate(f'{CALLS}_count', FAILED_CALL, by=PROVIDER)} or 0 * {every})", every)
