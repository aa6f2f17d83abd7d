"""The figures: names and labels of the contract, bounded series, and nothing left of an agent that is gone."""

from __future__ import annotations

import asyncio
import gc
import math
import re
import tracemalloc
from collections import Counter as Tally
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from prometheus_client.registry import Collector

from supervisor.core.states import AgentState
from supervisor.core.status import InboxCounts, Reading
from supervisor.handler import Usage
from supervisor.telemetry.metrics import MAX_LABEL_CHARS, Metrics
from supervisor.telemetry.metrics.replicas import ReplicaFigures
from tests.support.clock import ManualClock
from tests.support.metrics_contract import CONTRACT


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = metrics.render("")[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_plain(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def label_values(metrics: Metrics, name: str, label: str) -> set[str]:
    return {dict(labels)[label] for found, labels in samples(metrics) if found == name}


def busy_metrics() -> Metrics:
    metrics = Metrics()
    metrics.agent_state("a1", None, AgentState.ONLINE)
    metrics.auth_expiry("a1", 2e9)
    metrics.connection_attempt("online")
    metrics.disconnected("transport error")
    metrics.auth_refreshed("ok")
    metrics.received("echo")
    metrics.queued("echo", 0.01)
    metrics.handled("echo", "done", 0.2)
    metrics.answered("echo", 0.3, 0.09)
    metrics.dropped("duplicate", 2)
    metrics.unknown("message_type")
    metrics.sent("acked", 0.02)
    metrics.tokens("a1", "echo", Usage(12, 30, "gpt-4o", 4))
    metrics.committed(0.001, 3)
    metrics.loop_lag(0.002)
    metrics.bind_agents({"a1": Reading(InboxCounts(2, 1, 4), 2.5, 3, 1, True)}.get, ManualClock())
    with metrics.model_call("gpt-4o", "openai", ManualClock()):
        pass
    metrics.bind_budgets(lambda: (0.5, {"a1": 0.25}))
    return metrics


def test_all_metrics_can_be_listed_without_a_supervisor() -> None:
    listed = {each.name: each for each in Metrics().describe()}
    kinds = {name: "gauge" if each.kind == "info" else each.kind for name, each in listed.items()}
    assert {name: (kinds[name], set(each.labels)) for name, each in listed.items()} == CONTRACT
    for each in listed.values():
        assert each.help.endswith("."), each
        assert each.unit or each.kind == "info", each
        # Whoever reads the help learns the unit; a count of messages speaks of messages.
        assert each.unit.rstrip("s")[:5] in each.help.lower() or each.kind == "info", each


def test_agents_are_named_and_those_that_need_somebody_are_told_one_by_one() -> None:
    metrics = Metrics(agent_limit=3)
    readings = {f"a{n}": Reading(InboxCounts(), None, 0, 0, n in (1, 4)) for n in range(1, 6)}
    named = {"a1": ('Front "desk"', "echo"), "a2": ("", "own:Handler"), "a3": ("x" * 100, "echo")}
    metrics.bind_agents(readings.get, ManualClock(), named.get)
    states = (AgentState.ONLINE, AgentState.REJECTED, AgentState.BACKOFF, AgentState.FAULTED, AgentState.REJECTED)
    for number, state in enumerate(states, start=1):
        metrics.agent_state(f"a{number}", None, state)
    shown = [dict(labels) for name, labels in samples(metrics) if name == "supervisor_agent_info"]
    assert [(one["agent"], one["name"], one["handler"]) for one in shown] == [
        ("a1", 'Front "desk"', "echo"),
        ("a2", "", "own:Handler"),
        ("a3", "x" * 64, "echo"),
    ]
    series = [dict(labels) for name, labels in samples(metrics) if name == "supervisor_agent_trouble"]
    found = {(one["agent"], one["trouble"]) for one in series}
    own = {("a1", "failing"), ("a2", "rejected")}
    assert found == own | {("_other", trouble) for trouble in ("rejected", "faulted", "failing")}
    assert value(metrics, "supervisor_agent_trouble", agent="_other", trouble="failing") == 1
    metrics.agent_state("a2", AgentState.REJECTED, AgentState.ONLINE)
    metrics.agent_removed("a1")
    left = {dict(labels)["agent"] for name, labels in samples(metrics) if name == "supervisor_agent_trouble"}
    assert left == {"_other"}


def test_the_registrys_disk_is_read_at_each_scrape() -> None:
    metrics = Metrics()
    names = [f"supervisor_registry_{name}bytes" for name in ("", "free_", "disk_")]
    assert [value(metrics, name) for name in names] == [0, 0, 0]
    metrics.bind_registry(lambda: (1, 2, 3))
    assert [value(metrics, name) for name in names] == [1, 2, 3]
    metrics.bind_registry(lambda: None)
    assert [value(metrics, name) for name in names] == [0, 0, 0]


def test_no_series_tells_when_another_was_made() -> None:
    assert not [name for name, _ in samples(busy_metrics()) if name.endswith("_created")]


def test_no_histogram_names_an_agent() -> None:
    for name, labels in samples(busy_metrics()):
        assert not (name.endswith("_bucket") and "agent" in dict(labels)), name


def test_openmetrics_is_given_to_those_who_ask_and_text_to_all_others() -> None:
    metrics = busy_metrics()
    for accept in ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2", "application/openmetrics-text"):
        body, content_type = metrics.render(accept)
        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        assert body.count(b"# EOF") == 1
        families = list(parse_openmetrics(body.decode()))  # type: ignore[no-untyped-call]
        assert "supervisor_messages_received" in {family.name for family in families}
    for accept in ("", "*/*", "text/plain;version=banana", "\x00,;=;"):
        assert metrics.render(accept)[1].startswith("text/plain; version=0.0.4")


def test_the_slices_are_the_answer() -> None:
    metrics = busy_metrics()
    pieces, _ = metrics.slices("")
    sliced = b"".join(pieces)
    volatile = re.compile(rb"process_.*")
    assert volatile.sub(b"", sliced) == volatile.sub(b"", metrics.render("")[0])


def test_states_are_all_present_and_follow_the_agents() -> None:
    metrics = Metrics()
    assert {value(metrics, "supervisor_agents", state=state) for state in AgentState} == {0.0}
    metrics.agent_state("a1", None, AgentState.AUTHENTICATING)
    metrics.agent_state("a2", None, AgentState.AUTHENTICATING)
    metrics.agent_state("a1", AgentState.AUTHENTICATING, AgentState.ONLINE)
    assert value(metrics, "supervisor_agents", state="authenticating") == 1
    assert value(metrics, "supervisor_agents", state="online") == 1
    assert value(metrics, "supervisor_agent_up", agent="a1") == 1
    assert value(metrics, "supervisor_agent_up", agent="a2") == 0


async def test_the_longest_way_to_be_online_counts_from_its_beginning_over_all_attempts(clock: ManualClock) -> None:
    metrics = Metrics()
    metrics.bind_agents(lambda _agent: None, clock)

    def oldest() -> float | None:
        return value(metrics, "supervisor_agents_connecting_oldest_seconds")

    async def goes(agent: str, *states: AgentState | None) -> None:
        for state in states:
            metrics.agent_state(agent, None, state)
            await clock.advance(10)

    state = AgentState
    assert oldest() == 0
    await goes("never", state.AUTHENTICATING, state.CONNECTING, state.REGISTERING, state.BACKOFF, state.AUTHENTICATING)
    assert oldest() == 50
    await goes("a2", state.AUTHENTICATING, state.ONLINE)
    assert oldest() == 70
    # One that comes and goes begins anew each time, and never is the oldest.
    await goes("a2", state.BACKOFF, state.CONNECTING, state.ONLINE, state.BACKOFF)
    assert oldest() == 110
    await goes("never", state.ONLINE)
    assert oldest() == 20
    for end in (state.PAUSED, state.REJECTED, state.FAULTED, state.DRAINING, state.STOPPED, state.ONLINE, None):
        await goes("a2", end)
        assert oldest() == 0, end
        await goes("a2", state.AUTHENTICATING)
        assert oldest() == 10
    metrics.agent_removed("a2")
    assert oldest() == 0


def test_an_agent_that_is_gone_leaves_no_series() -> None:
    metrics = busy_metrics()
    assert "a1" in metrics.render("")[0].decode()
    metrics.agent_state("a1", AgentState.ONLINE, None)
    metrics.agent_removed("a1")
    assert 'agent="a1"' not in metrics.render("")[0].decode()
    assert value(metrics, "supervisor_agents", state="online") == 0
    # What comes late does not bring it back.
    metrics.auth_expiry("a1", 2e9)
    metrics.tokens("a1", "echo", Usage(1, 1))
    assert 'agent="a1"' not in metrics.render("")[0].decode()
    assert value(metrics, "supervisor_agent_llm_tokens_total", agent="_other", type="input") is None
    assert value(metrics, "supervisor_llm_tokens_total", handler="echo", model="unknown", type="input") == 1


def test_agents_past_the_limit_share_a_series() -> None:
    metrics = Metrics(agent_limit=2)
    for number in range(5):
        metrics.agent_state(f"a{number}", None, AgentState.ONLINE if number != 3 else AgentState.BACKOFF)
        metrics.auth_expiry(f"a{number}", 1000.0 + number)
        metrics.tokens(f"a{number}", "echo", Usage(10, 1))
    counts = {f"a{number}": Reading(InboxCounts(number, 1, 0), None, 0, 0, False) for number in range(5)}
    metrics.bind_agents(counts.get, ManualClock())
    assert label_values(metrics, "supervisor_agent_up", "agent") == {"a0", "a1", "_other"}
    assert value(metrics, "supervisor_agent_up", agent="_other") == 2
    assert value(metrics, "supervisor_agent_auth_expiry_timestamp_seconds", agent="_other") == 1002
    assert value(metrics, "supervisor_agent_llm_tokens_total", agent="_other", type="input") == 30
    assert value(metrics, "supervisor_agent_inbox_messages", agent="_other") == 2 + 3 + 4 + 3
    assert value(metrics, "supervisor_agents", state="online") == 4


def test_a_place_that_becomes_free_goes_to_the_next_new_agent() -> None:
    metrics = Metrics(agent_limit=1)
    metrics.agent_state("a0", None, AgentState.ONLINE)
    metrics.agent_state("a1", None, AgentState.ONLINE)
    metrics.agent_removed("a0")
    metrics.agent_state("a2", None, AgentState.ONLINE)
    assert label_values(metrics, "supervisor_agent_up", "agent") == {"a2", "_other"}


def test_agents_are_read_when_somebody_looks(clock: ManualClock) -> None:
    metrics = Metrics(agent_limit=1)
    for agent in ("a1", "a2", "gone"):
        metrics.agent_state(agent, None, AgentState.ONLINE)
    read = {
        "a1": Reading(InboxCounts(1, 0, 0), clock.now() - 12.5, 0, 0, False),
        "a2": Reading(InboxCounts(4, 2, 1), clock.now() - 10.0, 3, 1, True),
    }
    metrics.bind_agents(read.get, clock)
    for state, count in (("available", 5), ("running", 2), ("dead", 1)):
        assert value(metrics, "supervisor_inbox_messages", state=state) == count
    for state, count in (("pending", 3), ("sent", 1)):
        assert value(metrics, "supervisor_outbox_messages", state=state) == count
    assert value(metrics, "supervisor_agent_inbox_messages", agent="a1") == 1
    assert value(metrics, "supervisor_agent_inbox_messages", agent="_other") == 6
    assert value(metrics, "supervisor_inbox_oldest_seconds") == 12.5
    assert value(metrics, "supervisor_agents_failing") == 1
    read["a1"] = Reading(InboxCounts(0, 3, 0), None, 0, 0, True)
    assert value(metrics, "supervisor_agent_inbox_messages", agent="a1") == 3
    assert value(metrics, "supervisor_inbox_oldest_seconds") == 10.0
    assert value(metrics, "supervisor_agents_failing") == 2


@pytest.mark.parametrize(
    ("verb", "name", "label"),
    [
        ("disconnected", "supervisor_disconnects_total", "reason"),
        ("dropped", "supervisor_messages_dropped_total", "reason"),
        ("connection_attempt", "supervisor_connection_attempts_total", "outcome"),
        ("sent", "supervisor_sends_total", "outcome"),
        ("received", "supervisor_messages_received_total", "handler"),
    ],
)
def test_words_from_outside_cannot_make_series_without_end(verb: str, name: str, label: str) -> None:
    metrics = Metrics()
    for number in range(3000):
        getattr(metrics, verb)(f"error {number}: " + "x" * 500)
    values = label_values(metrics, name, label)
    assert len(values) <= 101
    assert "_other" in values
    assert max(map(len, values)) <= MAX_LABEL_CHARS
    total = sum(count for (found, _), count in samples(metrics).items() if found == name)
    assert total == 3000


def test_models_cannot_make_series_without_end() -> None:
    metrics = Metrics()
    for number in range(500):
        metrics.tokens("a", "echo", Usage(1, 1, f"model-{number}"))
    assert len(label_values(metrics, "supervisor_llm_tokens_total", "model")) == 51
    assert len(label_values(metrics, "gen_ai_client_token_usage_count", "gen_ai_request_model")) == 51


def test_odd_words_become_fit_labels() -> None:
    metrics = Metrics()
    for reason in ('a"b\nc\\', "", "   ", "transport error", "Größe"):
        metrics.disconnected(reason)
    found = label_values(metrics, "supervisor_disconnects_total", "reason")
    assert found - label_values(Metrics(), "supervisor_disconnects_total", "reason") == {"a_b_c", "unknown", "Gr_e"}
    assert value(metrics, "supervisor_disconnects_total", reason="transport_error") == 1


def test_usage_is_counted_by_type_and_what_makes_no_sense_is_left_out() -> None:
    metrics = Metrics()
    metrics.agent_state("a1", None, AgentState.ONLINE)
    metrics.tokens("a1", "echo", Usage(100, 20, "m", 40, reasoning_tokens=15))
    metrics.tokens("a1", "echo", Usage(-5, 0, "m"))
    metrics.tokens("a1", "echo", Usage(math.nan, math.inf, "m"))  # type: ignore[arg-type]
    metrics.tokens("a1", "echo", Usage("many", None, "m"))  # type: ignore[arg-type]
    assert value(metrics, "supervisor_llm_tokens_total", handler="echo", model="m", type="input") == 100
    assert value(metrics, "supervisor_llm_tokens_total", handler="echo", model="m", type="output") == 20
    assert value(metrics, "supervisor_llm_tokens_total", handler="echo", model="m", type="cached") == 40
    assert value(metrics, "supervisor_agent_llm_tokens_total", agent="a1", type="input") == 100
    # Apart: sums of the tokens over their types count them as output already.
    assert value(metrics, "supervisor_llm_reasoning_tokens_total", handler="echo", model="m") == 15
    assert label_values(metrics, "supervisor_llm_tokens_total", "type") == {"input", "output", "cached"}
    assert value(metrics, "supervisor_llm_estimated_total", handler="echo", model="m") is None
    metrics.tokens("a1", "echo", Usage(1, 1, "m", estimated=True))
    assert value(metrics, "supervisor_llm_estimated_total", handler="echo", model="m") == 1
    labels = {"gen_ai_request_model": "m", "gen_ai_provider_name": "unknown", "gen_ai_operation_name": "chat"}
    assert value(metrics, "gen_ai_client_token_usage_count", gen_ai_token_type="input", **labels) == 2


def duration(metrics: Metrics, what: str, model: str, error_type: str = "", provider: str = "p") -> float | None:
    labels = {"gen_ai_request_model": model, "gen_ai_provider_name": provider, "gen_ai_operation_name": "chat"}
    return value(metrics, f"gen_ai_client_operation_duration_seconds_{what}", error_type=error_type, **labels)


async def test_a_model_call_is_timed_under_the_model_that_answered(clock: ManualClock) -> None:
    metrics = Metrics()
    with metrics.model_call("asked", "p", clock) as call:
        await clock.advance(1.5)
        call.model = "answered"
    assert (duration(metrics, "count", "answered"), duration(metrics, "sum", "answered")) == (1, 1.5)
    assert duration(metrics, "count", "asked") is None


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, TimeoutError])
def test_a_model_call_that_fails_is_counted_under_its_error(error: type[BaseException], clock: ManualClock) -> None:
    metrics = Metrics()
    with pytest.raises(error), metrics.model_call("m", "p", clock):
        raise error
    assert duration(metrics, "count", "m", error.__name__) == 1
    assert duration(metrics, "count", "m") is None


def test_the_buckets_of_model_calls_are_those_of_opentelemetry(clock: ManualClock) -> None:
    metrics = Metrics()
    with metrics.model_call("m", "p", clock):
        pass
    bounds = label_values(metrics, "gen_ai_client_operation_duration_seconds_bucket", "le")
    assert sorted(map(float, bounds))[:-1] == pytest.approx([0.01 * 2**power for power in range(14)])


def test_model_calls_cannot_make_series_without_end(clock: ManualClock) -> None:
    metrics = Metrics()
    for number in range(200):
        kind = type(f"Error{number}", (Exception,), {})
        with pytest.raises(kind), metrics.model_call(f"m{number}", f"p{number}", clock):
            raise kind
    name = "gen_ai_client_operation_duration_seconds_count"
    counted = {label: len(label_values(metrics, name, label)) for label in ("gen_ai_request_model", "error_type")}
    assert counted == {"gen_ai_request_model": 51, "error_type": 41}
    assert len(label_values(metrics, name, "gen_ai_provider_name")) == 21


def test_budgets_are_shown_of_the_fleet_and_of_so_many_agents() -> None:
    metrics = Metrics(agent_limit=2)
    for number in range(4):
        metrics.agent_state(f"a{number}", None, AgentState.ONLINE)
    metrics.bind_budgets(lambda: (None, {"a0": 0.1, "a2": 0.9, "a3": 1.5, "gone": 3.0}))
    assert value(metrics, "supervisor_budget_used_ratio", scope="fleet") is None
    assert value(metrics, "supervisor_budget_used_ratio", scope="agent") == 3.0
    shown = {
        label: value(metrics, "supervisor_agent_budget_used_ratio", agent=label) for label in ("a0", "a1", "_other")
    }
    assert shown == {"a0": 0.1, "a1": None, "_other": 1.5}


def test_alerts_of_budgets_are_there_before_the_first() -> None:
    metrics = Metrics()
    assert value(metrics, "supervisor_budget_alerts_total", scope="agent", level="exhausted") == 0
    metrics.budget_alert("fleet", "warning")
    assert value(metrics, "supervisor_budget_alerts_total", scope="fleet", level="warning") == 1


def test_the_memory_is_read_when_somebody_looks() -> None:
    metrics = Metrics()
    assert value(metrics, "supervisor_memory_bytes") == 0
    held = [7]
    metrics.bind_memory(lambda: held[0], 2_000_000)
    held[0] = 1_000_000
    assert value(metrics, "supervisor_memory_bytes") == 1_000_000
    assert value(metrics, "supervisor_memory_limit_bytes") == 2_000_000


def test_a_clock_that_steps_back_does_no_harm() -> None:
    metrics = Metrics()
    metrics.answered("echo", -3600.0, -1.0)
    metrics.queued("echo", -1.0)
    assert value(metrics, "supervisor_message_latency_seconds_sum", handler="echo") == 0
    assert value(metrics, "supervisor_message_queue_seconds_bucket", handler="echo", le="0.005") == 1


def test_an_unacknowledged_send_has_no_ack_time() -> None:
    metrics = Metrics()
    metrics.sent("timeout")
    assert value(metrics, "supervisor_sends_total", outcome="timeout") == 1
    assert value(metrics, "supervisor_send_ack_seconds_count") == 0


def test_two_supervisors_in_one_process_keep_their_figures_apart() -> None:
    one, two = Metrics(), Metrics()
    one.received("echo")
    assert value(two, "supervisor_messages_received_total", handler="echo") is None


def test_cost_is_counted_by_model_and_agent_and_nonsense_is_left_out() -> None:
    metrics = Metrics(agent_limit=1)
    for agent in ("a1", "a2", "a3"):
        metrics.agent_state(agent, None, AgentState.ONLINE)
        metrics.cost(agent, "echo", "m", 0.25)
    for amount in (math.nan, math.inf, -1.0):
        metrics.cost("a1", "echo", "m", amount)
    metrics.cost("gone", "echo", "m", 1.0)
    assert value(metrics, "supervisor_llm_cost_total", handler="echo", model="m") == 1.75
    assert value(metrics, "supervisor_agent_llm_cost_total", agent="a1") == 0.25
    assert value(metrics, "supervisor_agent_llm_cost_total", agent="_other") == 0.5


def test_a_handler_is_there_before_its_first_message() -> None:
    metrics = Metrics()
    metrics.handler_known("echo")
    for outcome in ("done", "dead", "timeout", "retried", "lost"):
        assert value(metrics, "supervisor_messages_handled_total", handler="echo", outcome=outcome) == 0
    for what in ("queue", "send", "latency"):
        assert value(metrics, f"supervisor_message_{what}_seconds_count", handler="echo") == 0


def test_no_mix_of_labels_makes_series_without_end(clock: ManualClock) -> None:
    metrics = Metrics()
    for number in range(60):
        for model in range(50):
            metrics.tokens("a", f"h{number}", Usage(1, 1, f"m{model}", provider=f"p{number}"))
    shown = samples(metrics)
    found = Tally(name for name, _ in shown)
    assert found["supervisor_llm_tokens_total"] <= 2000 + 2
    assert found["gen_ai_client_token_usage_count"] <= 300 + 2
    total = sum(count for (name, _), count in shown.items() if name == "supervisor_llm_tokens_total")
    assert total == 60 * 50 * 2
    rest = {"handler": "_other", "model": "_other", "type": "input"}
    assert shown["supervisor_llm_tokens_total", frozenset(rest.items())] == 3000 - 1000


@pytest.mark.parametrize("words", [0, None, b"x", 1e308, ["a"], "\ud800", "x" * 100_000])
def test_no_word_of_a_handlers_is_too_odd(words: Any, clock: ManualClock) -> None:
    metrics = Metrics()
    with metrics.model_call(words, words, clock) as call:
        call.model = words
    metrics.tokens("a", "echo", Usage(1, 1, str(words), provider=str(words)))
    for accept in ("", "application/openmetrics-text"):
        assert metrics.render(accept)[0].isascii()


@pytest.mark.parametrize(
    "agent", ['quo"te', "new\nline", "back\\slash", "ends with \\", "Größe 🤖", "}", "\r", "\ud800"]
)
def test_an_odd_agent_id_stays_inside_its_label(agent: str) -> None:
    metrics = Metrics()
    metrics.agent_state(agent, None, AgentState.ONLINE)
    metrics.tokens(agent, "echo", Usage(1, 1))
    shown = agent.encode("utf-8", "replace").decode()
    expected = GaugeMetricFamily("supervisor_agent_up", "", labels=["agent"])
    expected.add_metric([shown], 1.0)
    for accept, library in (("", generate_latest), ("application/openmetrics-text", generate_openmetrics)):
        registry = CollectorRegistry()
        registry.register(Fixed(expected))
        [line] = [line for line in library(registry).split(b"\n") if line.startswith(b"supervisor_agent_up")]
        assert line in metrics.render(accept)[0].split(b"\n")


class Fixed(Collector):
    def __init__(self, family: Metric) -> None:
        self.family = family

    def collect(self) -> list[Metric]:
        return [self.family]


def test_an_id_of_no_measure_and_one_that_means_others_have_no_series_of_their_own() -> None:
    metrics = Metrics()
    for agent in ("x" * 10_000, "", "_other", "a1"):
        metrics.agent_state(agent, None, AgentState.ONLINE)
    assert label_values(metrics, "supervisor_agent_up", "agent") == {"_other", "a1"}
    assert value(metrics, "supervisor_agent_up", agent="_other") == 3
    metrics.agent_removed("_other")
    assert value(metrics, "supervisor_agent_up", agent="_other") == 2


def test_a_token_that_never_expires_or_is_nonsense_shows_no_time() -> None:
    metrics = Metrics()
    metrics.agent_state("a1", None, AgentState.ONLINE)
    for timestamp in (math.nan, math.inf, -math.inf):
        metrics.auth_expiry("a1", timestamp)
    assert not label_values(metrics, "supervisor_agent_auth_expiry_timestamp_seconds", "agent")


def test_what_is_read_may_be_any_number() -> None:
    metrics = Metrics()
    metrics.agent_state("a", None, AgentState.ONLINE)
    metrics.bind_agents({"a": Reading(InboxCounts(), math.nan, 0, 0, False)}.get, ManualClock())
    metrics.bind_budgets(lambda: (math.inf, {"a": -math.inf}))
    lines = metrics.render("")[0].decode().splitlines()
    assert "supervisor_inbox_oldest_seconds 0.0" in lines
    assert 'supervisor_budget_used_ratio{scope="fleet"} +Inf' in lines
    assert 'supervisor_agent_budget_used_ratio{agent="a"} -Inf' in lines
    assert 'supervisor_budget_used_ratio{scope="agent"} -Inf' in lines


def test_large_families_are_whole_in_slices_of_some_hundred_series() -> None:
    metrics = Metrics(agent_limit=2000)
    for number in range(3000):
        metrics.agent_state(f"a{number}", None, AgentState.ONLINE)
        metrics.tokens(
            f"a{number}", f"h{number % 90}", Usage(number + 1, 1, f"m{number % 40}", provider=f"p{number % 10}")
        )
    for accept, parse in (("", parse_plain), ("application/openmetrics-text", parse_openmetrics)):
        pieces = list(metrics.slices(accept)[0])
        text = b"".join(pieces).decode()
        assert max(piece.count(b"\n") for piece in pieces) <= 500 + 3
        families = list(parse(text))
        assert len({family.name for family in families}) == len(families)
        assert text.count("supervisor_agent_up{") == 2001
        by_name = {family.name: family for family in families}
        assert sum(s.value for s in by_name["supervisor_llm_tokens"].samples) == 3000 * 3001 / 2 + 3000
        assert len(by_name["gen_ai_client_token_usage"].samples) > 1000


def test_agents_without_series_of_their_own_are_read_in_slices_too() -> None:
    metrics = Metrics(agent_limit=1)
    for number in range(5001):
        metrics.agent_state(f"a{number}", None, AgentState.ONLINE)
    read = 0

    def reading(_agent_id: str) -> Reading:
        nonlocal read
        read += 1
        return Reading(InboxCounts(1, 0, 0), None, 0, 0, False)

    metrics.bind_agents(reading, ManualClock())
    before, most = 0, 0
    for _ in metrics.slices("")[0]:
        before, most = read, max(most, read - before)
    assert (read, most) == (5001, 500)
    assert value(metrics, "supervisor_agent_inbox_messages", agent="_other") == 5000


def test_ten_thousand_agents_that_came_and_went_leave_no_memory() -> None:
    metrics = Metrics(agent_limit=5000)

    def come_and_go() -> None:
        for number in range(10_000):
            metrics.agent_state(f"{number:024x}", None, AgentState.ONLINE)
            metrics.auth_expiry(f"{number:024x}", 2e9)
            metrics.tokens(f"{number:024x}", "echo", Usage(1, 1))
            metrics.cost(f"{number:024x}", "echo", "m", 0.5)
        for number in range(10_000):
            metrics.agent_removed(f"{number:024x}")

    metrics.tokens("a", "echo", Usage(1, 1))
    metrics.cost("a", "echo", "m", 0.5)
    empty = metrics.render("")[0]
    tracemalloc.start()
    try:
        come_and_go()
        gc.collect()
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak > 1_000_000
    assert left < 20_000
    assert "agent=" not in metrics.render("")[0].decode()
    assert len(metrics.render("")[0]) == pytest.approx(len(empty), abs=200)


def test_replicas_are_shown_where_there_are_any() -> None:
    metrics = Metrics()
    names = {"supervisor_replicas", "supervisor_agents_owned", "supervisor_orphans", "supervisor_lease_age_seconds"}
    assert not names & {name for name, _ in samples(metrics)}
    looks: list[ReplicaFigures | None] = [None]
    metrics.bind_replicas(lambda: looks[-1])
    assert not names & {name for name, _ in samples(metrics)}
    looks.append(ReplicaFigures({"living": 2, "draining": 1}, 40, 3, 1.5, {"inbox_open": 700}, 12.0))
    assert value(metrics, "supervisor_replicas", state="living") == 2
    assert value(metrics, "supervisor_replicas", state="draining") == 1
    assert value(metrics, "supervisor_agents_owned") == 40
    assert value(metrics, "supervisor_orphans") == 3
    assert value(metrics, "supervisor_lease_age_seconds") == 1.5
    assert value(metrics, "supervisor_registry_dead_rows", table="inbox_open") == 700
    assert value(metrics, "supervisor_registry_oldest_xmin_seconds") == 12
