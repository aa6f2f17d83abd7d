"""What an agent's models use: in the ledger, in the figures, and bounded by its budget."""

from __future__ import annotations

import pytest

from supervisor.core.records import UsageRecord
from supervisor.handler import Usage
from supervisor.messages.budgets import Limits
from supervisor.messages.ledger import Ledger
from supervisor.messages.scope import Scope
from supervisor.messages.spending import Spending
from supervisor.settings import Price
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT
from tests.support.messaging import counted


class Page:
    """One agent's page of a ledger, and what is written of it."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.written: list[UsageRecord] = []
        prices = {"m": Price(input=2.0, output=10.0)}
        self.ledger = Ledger(scope.clock, prices=prices, fleet=Limits(), write=self.written.append)
        self.spending = Spending(scope, self.ledger, lambda: "assistant")

    def shown(self, name: str, label: str) -> dict[str, float]:
        return counted(self.scope.metrics, name, label)


@pytest.fixture
def page(scope: Scope) -> Page:
    return Page(scope)


def test_a_call_is_counted_written_and_paid(page: Page) -> None:
    page.spending.count(Usage(1_000_000, 100_000, "m"))
    [record] = page.written
    assert (record.agent_id, record.model, record.input_tokens, record.output_tokens) == (
        AGENT,
        "m",
        1_000_000,
        100_000,
    )
    assert page.shown("supervisor_llm_tokens_total", "type") == {"input": 1_000_000, "output": 100_000}
    assert page.shown("supervisor_llm_cost_total", "model") == {"m": 3.0}


def test_a_model_without_a_price_costs_nothing_that_is_known(page: Page) -> None:
    page.spending.count(Usage(10, 5, "other"))
    assert page.shown("supervisor_llm_tokens_total", "type") == {"input": 10, "output": 5}
    assert page.shown("supervisor_llm_cost_total", "model") == {}


def test_whatever_a_handler_reports_the_sums_stay_sums(page: Page) -> None:
    page.spending.count(Usage(-5, 10**30, "m\r\n"))
    [record] = page.written
    assert record.input_tokens == 0
    assert 0 < record.output_tokens < 2**63


def test_its_budget_is_what_the_ledger_leaves_it(page: Page) -> None:
    assert not page.spending.budget().exhausted
    page.ledger.limit(AGENT, Limits(tokens=10))
    page.spending.count(Usage(10, 5, "m"))
    assert page.spending.budget().exhausted


async def test_a_call_is_measured_by_the_agents_clock(page: Page, clock: ManualClock) -> None:
    with page.spending.model_call("m", "own"):
        await clock.advance(2.5)
    name = "gen_ai_client_operation_duration_seconds_sum"
    assert page.shown(name, "gen_ai_provider_name") == {"own": 2.5}
