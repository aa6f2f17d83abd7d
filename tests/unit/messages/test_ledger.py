"""The ledger: today's spending, what it costs, and budgets that warn, end and begin anew at midnight UTC."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from supervisor.core.days import day_of, days_before
from supervisor.core.records import UsageRecord
from supervisor.handler import Usage
from supervisor.messages.budgets import Limits
from supervisor.messages.ledger import MAX_MODELS, Ledger, cost_of
from supervisor.messages.notices import NOTICES
from supervisor.settings import Price
from supervisor.telemetry.metrics import OTHER
from supervisor.telemetry.usage import MAX_TOKENS, cleaned
from tests.support.clock import ManualClock
from tests.support.logging import fail
from tests.support.observing import captured_logs, named

#: The test clock starts at 2027-01-15 08:00 UTC.
TODAY, TOMORROW = "2027-01-15", "2027-01-16"
TO_MIDNIGHT_SECONDS = 16 * 3600
DAY_SECONDS = 86_400
PRICES = {"m": Price(input=2.0, output=10.0), "c": Price(input=2.0, output=10.0, cached=0.5)}


class Books:
    """A ledger, what it wrote and what it told."""

    def __init__(self, clock: ManualClock, **fleet: Any) -> None:
        self.written: list[UsageRecord] = []
        self.alerts: list[tuple[str, str]] = []
        self.ledger = Ledger(
            clock,
            prices=PRICES,
            fleet=Limits(**fleet),
            write=self.written.append,
            on_alert=lambda scope, level: self.alerts.append((scope, level)),
        )

    def spend(self, agent: str, tokens: int, model: str = "m") -> None:
        """Use so many input tokens."""
        self.ledger.record(agent, Usage(tokens, 0, model))


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("m", Usage(1_000_000, 0), 2.0),
        ("m", Usage(0, 1_000_000), 10.0),
        ("m", Usage(1_000_000, 0, cached_tokens=400_000), 2.0),
        ("c", Usage(1_000_000, 100_000, cached_tokens=400_000), 0.6 * 2 + 0.4 * 0.5 + 1.0),
        ("c", Usage(1_000_000, 0, cached_tokens=1_000_000), 0.5),
    ],
)
def test_cached_tokens_are_part_of_the_prompt_and_have_a_price_where_one_is_given(
    model: str, usage: Usage, cost: float
) -> None:
    assert cost_of(usage, PRICES[model]) == pytest.approx(cost)


def test_a_model_without_a_price_costs_nothing_and_is_told_apart(clock: ManualClock) -> None:
    books = Books(clock)
    books.spend("a", 1_000_000, "unheard-of")
    books.spend("a", 1_000_000)
    priced = [(record.model, record.cost, record.unpriced_requests) for record in books.written]
    assert priced == [("unheard-of", 0.0, 1), ("m", 2.0, 0)]


@pytest.mark.parametrize("bad", [-5, math.nan, math.inf, -math.inf, "many", None])
def test_figures_that_are_none_count_as_nothing(bad: Any) -> None:
    assert cleaned(Usage(bad, bad, "m", bad, "p", bad)) == Usage(0, 0, "m", 0, "p", 0)
    assert cleaned(Usage(7, bad, "m", 3)) == Usage(7, 0, "m", 3)


def test_figures_are_kept_within_reason() -> None:
    assert cleaned(Usage(10**30, 2.9, "m", 10**30)) == Usage(MAX_TOKENS, 2, "m", MAX_TOKENS)  # type: ignore[arg-type]
    assert cleaned(Usage(10, 0, "m", 11)).cached_tokens == 10, "cached tokens are part of the prompt's"
    assert cleaned(Usage(0, 10, reasoning_tokens=11)).reasoning_tokens == 10, "they are part of the completion's"
    assert cleaned(Usage(1, 1, estimated=True)).estimated is True
    assert cleaned(Usage(1, 1, " \x00\ud800 ")).model == "unknown"
    assert len(cleaned(Usage(1, 1, "m" * 10_000)).model) < 200
    assert cleaned(Usage(1, 1, provider=" \x00\ud800 ")).provider == "unknown"
    assert len(cleaned(Usage(1, 1, provider="p" * 10_000)).provider) < 200


def test_an_agent_that_makes_models_up_gets_a_bounded_number_of_rows(clock: ManualClock) -> None:
    books = Books(clock)
    for number in range(MAX_MODELS + 20):
        books.spend("a", 1, f"model-{number}")
    books.spend("a", 1, "model-0")
    books.spend("b", 1, "model-60")
    models = [record.model for record in books.written]
    assert len(set(models[:-2])) == MAX_MODELS + 1
    assert models[-3:] == [OTHER, "model-0", "model-60"]


def test_a_budget_of_money_that_cannot_see_a_model_says_so_once(clock: ManualClock) -> None:
    with captured_logs() as log:
        books = Books(clock)
        books.spend("a", 1, "unheard-of")
        assert log == [], "nobody counts money"
        books.ledger.limit("a", Limits(cost=1.0))
        for model in ("unheard-of", "m", "unheard-of"):
            books.spend("a", 1, model)
    assert [(line["event"], line["model"]) for line in log] == [("model_without_price", "unheard-of")]


async def test_spending_begins_anew_at_midnight_utc(clock: ManualClock) -> None:
    books = Books(clock, tokens=100)
    books.ledger.limit("a", Limits(tokens=50))
    await clock.advance(TO_MIDNIGHT_SECONDS - 1)
    books.spend("a", 60)
    assert books.ledger.budget("a").exhausted
    await clock.advance(1)
    budget = books.ledger.budget("a")
    assert (budget.exhausted, budget.notice, budget.spent_tokens, budget.limit_tokens) == (False, "", 0, 50)
    books.spend("a", 10)
    assert books.ledger.budget("a").spent_tokens == 10
    assert [(record.day, record.input_tokens) for record in books.written] == [(TODAY, 60), (TOMORROW, 10)]


async def test_a_clock_that_steps_back_over_midnight_forgets_nothing(clock: ManualClock) -> None:
    books = Books(clock, tokens=100)
    await clock.advance(TO_MIDNIGHT_SECONDS - 1)
    books.spend("a", 40)
    await clock.advance(2)
    books.spend("a", 7)
    clock.set_back(2)
    assert books.ledger.budget("a").spent_tokens == 40
    clock.set_back(-2)
    assert books.ledger.budget("a").spent_tokens == 7


async def test_no_more_days_are_kept_than_a_clock_may_step_back(clock: ManualClock) -> None:
    books = Books(clock, tokens=100)
    for _ in range(30):
        books.spend("a", 1)
        await clock.advance(DAY_SECONDS)
    books.spend("a", 1)
    clock.set_back(DAY_SECONDS)
    assert books.ledger.budget("a").spent_tokens == 1
    clock.set_back(DAY_SECONDS)
    assert books.ledger.budget("a").spent_tokens == 0


def test_days_are_those_of_utc(clock: ManualClock) -> None:
    assert day_of(clock.now()) == TODAY
    assert day_of(clock.now() + TO_MIDNIGHT_SECONDS - 1) == TODAY
    assert day_of(clock.now() + TO_MIDNIGHT_SECONDS) == TOMORROW
    assert days_before(clock.now(), 0) == TODAY
    assert days_before(clock.now(), 15) == "2026-12-31"


def test_without_limits_nothing_is_ever_exhausted(clock: ManualClock) -> None:
    books = Books(clock)
    books.spend("a", MAX_TOKENS)
    budget = books.ledger.budget("a")
    assert not budget.exhausted
    assert (budget.spent_tokens, budget.limit_tokens, budget.limit_cost) == (MAX_TOKENS, None, None)
    assert (books.alerts, books.ledger.used_ratios()) == ([], (None, {}))


def test_the_budget_that_is_nearer_to_its_end_is_shown(clock: ManualClock) -> None:
    books = Books(clock, tokens=1000)
    books.ledger.limit("a", Limits(tokens=100))
    books.spend("a", 10)
    assert books.ledger.budget("a").limit_tokens == 100
    assert books.ledger.budget("b").limit_tokens == 1000, "it has none of its own"
    books.spend("b", 900)
    nearest = books.ledger.budget("a")
    assert (nearest.limit_tokens, nearest.spent_tokens) == (1000, 910)


def test_what_calls_under_way_may_cost_is_held_against_the_budgets_until_their_end(clock: ManualClock) -> None:
    books = Books(clock, cost=1.0)
    books.ledger.limit("a", Limits(tokens=1000))
    books.spend("a", 300)
    with books.ledger.expecting("a", Usage(500, 100, "m")):
        assert not books.ledger.budget("a").pending
        with books.ledger.expecting("a", Usage(100, 0, "m")):
            budget = books.ledger.budget("a")
            assert (budget.pending, budget.exhausted, budget.spent_tokens, budget.notice) == (True, False, 300, "")
            assert not books.ledger.budget("b").pending, "the fleet has no budget of tokens"
            # An expectation is no spending: nobody is told of it.
            assert books.alerts == []
        assert not books.ledger.budget("a").pending
        with books.ledger.expecting("b", Usage(0, 100_000, "m")):
            assert books.ledger.budget("c").pending, "it may be the rest of the fleet's money"
        assert not books.ledger.budget("c").pending
    with pytest.raises(ValueError, match="broke"), books.ledger.expecting("a", Usage(10_000, 0, "none")):
        fail("broke")
    assert not books.ledger.budget("a").pending
    books.spend("a", 700)
    assert books.ledger.budget("a").exhausted


def test_money_and_tokens_bound_both(clock: ManualClock) -> None:
    books = Books(clock, tokens=10_000_000, cost=3.0)
    books.spend("a", 1_000_000)
    assert not books.ledger.budget("a").exhausted
    books.spend("a", 500_000)
    budget = books.ledger.budget("a")
    assert (budget.exhausted, budget.spent_cost) == (True, 3.0)
    assert "tomorrow" in budget.notice
    assert budget.notice in NOTICES, "where a platform's history has it, no model is shown it"


def test_a_budget_that_is_used_up_is_said_of_whom_it_bounds(clock: ManualClock) -> None:
    books = Books(clock, cost=3.0)
    books.ledger.limit("a", Limits(tokens=1_000))
    books.spend("a", 999)
    assert books.ledger.used_up("a") == ""
    books.spend("a", 1_141)
    assert books.ledger.used_up("a") == "its budget of today is used up (2,140 of 1,000 tokens), until 00:00 UTC"
    books.spend("b", 1_500_000)
    assert books.ledger.used_up("b") == "the fleet's budget of today is used up (cost 3.00 of 3.00), until 00:00 UTC"
    assert books.ledger.used_up("calls-no-model") == "", "it answers as before"


def test_output_counts_and_cached_input_counts_once(clock: ManualClock) -> None:
    books = Books(clock, tokens=100)
    books.ledger.record("a", Usage(60, 30, "m", 50))
    assert books.ledger.budget("a").spent_tokens == 90


def test_people_are_told_once_a_day_at_80_percent_and_once_at_the_end(clock: ManualClock) -> None:
    books = Books(clock)
    books.ledger.limit("a", Limits(tokens=100))
    with captured_logs() as log:
        for _ in range(12):
            books.spend("a", 10)
    assert books.alerts == [("agent", "warning"), ("agent", "exhausted")]
    [nearly] = named(log, "budget_nearly_used")
    assert (nearly["agent"], nearly["spent_tokens"], nearly["limit_tokens"]) == ("a", 80, 100)
    [exhausted] = named(log, "budget_exhausted")
    assert exhausted["spent_tokens"] == 100
    assert "limit_cost" not in exhausted


async def test_the_next_day_they_are_told_again(clock: ManualClock) -> None:
    books = Books(clock, tokens=100)
    books.spend("a", 85)
    await clock.advance(DAY_SECONDS)
    books.spend("a", 85)
    assert books.alerts == [("fleet", "warning")] * 2


def test_one_report_that_takes_all_is_told_as_the_end_only(clock: ManualClock) -> None:
    books = Books(clock, tokens=100)
    books.spend("a", 500)
    assert books.alerts == [("fleet", "exhausted")]


def test_a_raised_limit_works_at_once_and_is_told_of_in_its_turn(clock: ManualClock) -> None:
    books = Books(clock)
    books.ledger.limit("a", Limits(tokens=100))
    books.spend("a", 100)
    assert books.ledger.budget("a").exhausted
    books.ledger.limit("a", Limits(tokens=200))
    assert not books.ledger.budget("a").exhausted
    books.spend("a", 70)
    books.ledger.limit("a", Limits())
    assert not books.ledger.budget("a").exhausted
    assert books.alerts == [("agent", "exhausted"), ("agent", "warning")]


def test_a_limit_that_is_lowered_below_what_was_spent_is_told_at_once(clock: ManualClock) -> None:
    books = Books(clock)
    books.spend("a", 50)
    books.ledger.limit("a", Limits(tokens=50))
    assert books.alerts == [("agent", "exhausted")]


def test_what_the_registry_holds_of_today_counts(clock: ManualClock) -> None:
    books = Books(clock, tokens=100)
    books.ledger.load(
        [
            UsageRecord("a", "m", TODAY, requests=2, input_tokens=30, output_tokens=10, cost=0.5),
            UsageRecord("gone", "m", TODAY, requests=1, input_tokens=50),
        ]
    )
    assert books.written == [], "it is written already"
    assert books.alerts == [("fleet", "warning")]
    books.ledger.limit("a", Limits(tokens=50))
    budget = books.ledger.budget("a")
    assert (budget.spent_tokens, budget.limit_tokens) == (90, 100)
    books.spend("a", 10)
    assert books.ledger.budget("a").exhausted


def test_an_agent_that_is_removed_has_spent_what_it_has(clock: ManualClock) -> None:
    books = Books(clock, tokens=1000)
    books.ledger.limit("a", Limits(tokens=100))
    books.spend("a", 90)
    assert books.ledger.used_ratios() == (0.09, {"a": 0.9})
    books.ledger.forget("a")
    assert books.ledger.used_ratios() == (0.09, {})
    books.ledger.limit("a", Limits(tokens=100))
    assert books.ledger.budget("a").spent_tokens == 90


def test_threads_may_report_at_once(clock: ManualClock) -> None:
    books = Books(clock, tokens=10_000)
    books.ledger.limit("a", Limits(tokens=8_000))

    def work() -> None:
        for _ in range(1000):
            books.spend("a", 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert books.ledger.budget("a").spent_tokens == 8_000
    assert sorted(books.alerts) == [("agent", "exhausted"), ("agent", "warning"), ("fleet", "warning")], "each once"


def test_what_others_recorded_counts_once_and_never_takes_back_what_is_known_here(clock: ManualClock) -> None:
    books = Books(clock, tokens=1000)
    books.spend("mine", 300)
    # Of this one's own the registry may lag behind; what ran elsewhere is known from there alone.
    books.ledger.load(
        [UsageRecord("mine", "m", TODAY, input_tokens=100), UsageRecord("theirs", "m", TODAY, input_tokens=400)]
    )
    assert books.ledger.budget("mine").spent_tokens == 700
    books.ledger.load(
        [UsageRecord("mine", "m", TODAY, input_tokens=300), UsageRecord("theirs", "m", TODAY, input_tokens=450)]
    )
    assert books.ledger.budget("mine").spent_tokens == 750
    # One that ran elsewhere until now comes here with what it used.
    books.spend("theirs", 250)
    assert books.ledger.budget("theirs").exhausted
    assert not Books(clock).ledger.bounded
    assert books.ledger.bounded
