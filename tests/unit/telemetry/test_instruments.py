"""Plain counters and histograms: a scrape reads as if the client library had counted."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from supervisor.handler import Usage
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.metrics.families import FAST_SECONDS, MAX_HISTOGRAMS, WORK_SECONDS, Vocabulary, Workshop
from supervisor.telemetry.metrics.instruments import Histogram

#: From none over each bound and its neighbours to what is above all, and clocks that step back.
VALUES = [-1.0, -0.0, 0, 0.0, 1e-9, *(bound * by for bound in WORK_SECONDS for by in (0.999, 1, 1.001)), 1e9]
TEXTS: dict[str, Callable[[CollectorRegistry], bytes]] = {
    "plain": generate_latest,
    "openmetrics": openmetrics.generate_latest,
}


@pytest.fixture(autouse=True)
def _no_created_series() -> None:
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("text", TEXTS)
def test_a_scrape_is_the_same_as_the_librarys(text: str) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    make = Workshop(ours)
    words = Vocabulary(10, 'a"b')
    plain = make.counter("plain_total", "Of one kind.", "things")
    kinds = make.counters("kinds_total", "Of \\ many\nkinds.", "kinds", kind=words, of=Vocabulary(0, "x", "y"))
    never = make.counters("never_total", "Of nothing.", "things", kind=words)
    wait = make.histogram("wait_seconds", "Waited, in seconds.", "seconds", FAST_SECONDS)
    work = make.histograms("work_seconds", "Worked, in seconds.", "seconds", WORK_SECONDS, kind=words)
    assert never == {}

    their_plain = prometheus_client.Counter("plain", "Of one kind.", registry=theirs)
    their_kinds = prometheus_client.Counter("kinds", "Of \\ many\nkinds.", ["kind", "of"], registry=theirs)
    prometheus_client.Counter("never", "Of nothing.", ["kind"], registry=theirs)
    their_wait = prometheus_client.Histogram(
        "wait_seconds", "Waited, in seconds.", unit="seconds", buckets=FAST_SECONDS, registry=theirs
    )
    their_work = prometheus_client.Histogram(
        "work_seconds", "Worked, in seconds.", ["kind"], unit="seconds", buckets=WORK_SECONDS, registry=theirs
    )

    plain.total += 3
    their_plain.inc(3)
    for kind, of, count in (('a"b', "y", 1), ("z", "x", 2.5), ('a"b', "y", 1e16)):
        kinds[kind, of].total += count
        their_kinds.labels(kind, of).inc(count)
    kinds.begin("later", "x")
    their_kinds.labels("later", "x")
    for value in VALUES:
        wait.observe(value)
        their_wait.observe(max(0.0, value))
        work["z"].observe(value)
        their_work.labels("z").observe(max(0.0, value))

    assert TEXTS[text](ours).decode() == TEXTS[text](theirs).decode()


def test_any_values_fill_the_buckets_as_the_librarys() -> None:
    draw = random.Random(7)
    for _ in range(50):
        bounds = tuple(sorted({draw.choice((draw.random(), draw.randrange(100))) for _ in range(draw.randint(1, 12))}))
        registry = CollectorRegistry()
        ours, theirs = Histogram(bounds), prometheus_client.Histogram("h", "H.", buckets=bounds, registry=registry)
        for _ in range(200):
            value = draw.choice((draw.choice(bounds), draw.expovariate(1), 0.0))
            ours.observe(value)
            theirs.observe(value)
        [family] = registry.collect()
        assert list(ours.samples("h", {})) == family.samples


def test_the_last_trace_of_each_bucket_stands_for_it_in_openmetrics() -> None:
    registry = CollectorRegistry()
    work = Workshop(registry).histograms("work_seconds", "Worked.", "seconds", (1, 5), kind=Vocabulary(1))["a"]
    for value, trace_id in ((0.5, "t1"), (0.7, "t2"), (-3.0, ""), (5, "t3"), (9, "t4")):
        work.observe(value)
        if trace_id:
            work.exemplify(value, trace_id, at=1000.5)
    work.exemplify(-1, "t5", at=1001)
    modern, plain = openmetrics.generate_latest(registry).decode(), generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    [family] = text_string_to_metric_families(modern)  # type: ignore[no-untyped-call]
    found = {one.labels["le"]: one.exemplar for one in family.samples if one.exemplar}
    assert {le: (one.labels, one.value, float(one.timestamp)) for le, one in found.items()} == {
        "1.0": ({"trace_id": "t5"}, 0.0, 1001),
        "5.0": ({"trace_id": "t3"}, 5, 1000.5),
        "+Inf": ({"trace_id": "t4"}, 9, 1000.5),
    }
    assert "trace_id" not in plain
    assert 'work_seconds_bucket{kind="a",le="1.0"} 3.0\n' in plain


def test_a_series_that_is_there_is_found_without_a_call() -> None:
    family = Workshop(CollectorRegistry()).counters("kinds_total", "Of kinds.", "kinds", kind=Vocabulary(2))
    calls: list[str] = []

    def count(frame: Any, event: str, _argument: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    family["known"].total += 1
    sys.setprofile(count)
    try:
        family["known"].total += 1
    finally:
        sys.setprofile(None)
    assert calls == []
    assert family["known"].total == 2


def test_words_that_had_to_be_cleaned_are_not_remembered() -> None:
    family = Workshop(CollectorRegistry()).counters("kinds_total", "Of kinds.", "kinds", kind=Vocabulary(1, "known"))
    for number in range(100):
        family[f"odd word {number}"].total += 1
    family["known"].total += 1
    assert set(family) == {"known"}
    assert {labels: one.total for labels, one in family.series.items()} == {
        ("odd_word_0",): 1,
        ("_other",): 99,
        ("known",): 1,
    }


def test_mixes_of_known_words_are_bounded_too() -> None:
    first, second = Vocabulary(0, *(f"a{number}" for number in range(30))), Vocabulary(30)
    family = Workshop(CollectorRegistry()).histograms("h_seconds", "H.", "seconds", (1,), first=first, second=second)
    for one in range(30):
        for two in range(30):
            family[f"a{one}", f"w{two}"].observe(0.5)
    assert len(family.series) <= MAX_HISTOGRAMS + 30


@contextmanager
def impatient_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_nothing_that_threads_report_is_lost() -> None:
    metrics, usage = Metrics(), Usage(2, 3, "m", 1)

    def report() -> None:
        for _ in range(2000):
            metrics.tokens("a1", "h", usage)
            metrics.watchdog("loop_stalled")

    with impatient_threads():
        threads = [threading.Thread(target=report) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    text = metrics.render("")[0].decode()
    assert 'supervisor_llm_tokens_total{handler="h",model="m",type="output"} 24000.0' in text
    assert 'supervisor_watchdog_total{watchdog="loop_stalled"} 8000.0' in text
