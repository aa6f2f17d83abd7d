"""What a metric is made of: its description, the values that its labels may take, and its kept children."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

#: Stands for whatever is past a limit: further agents, handlers, models, reasons.
OTHER: Final = "_other"
MAX_LABEL_CHARS: Final = 64
#: From ``echo``, which answers within a few milliseconds, to a model that thinks for minutes; a handler is timed out
#: after 300 s by default.
WORK_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
#: From a commit to a fast disk to one that hangs.
FAST_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
#: Combinations of labels of one metric, whatever each label alone may be: a histogram has twenty series of each.
MAX_COUNTERS: Final = 2000
MAX_HISTOGRAMS: Final = 300
_UNFIT = re.compile(r"[^A-Za-z0-9_.:/@+-]+")

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]
_Instrument = TypeVar("_Instrument", Counter, Histogram)


@dataclass(frozen=True, slots=True)
class Description:
    """One metric as it is written down.

    Args:
        name: as it is queried: a counter's ends in ``_total``, an info's in ``_info``; a histogram's has ``_bucket``,
            ``_sum`` and ``_count`` behind it.
        unit: what a value counts: ``seconds``, ``bytes``, ``messages``; ``ratio`` is a part of one.
    """

    name: str
    kind: Kind
    help: str
    unit: str
    labels: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The name as OpenMetrics has it, without the suffix of its kind."""
        return self.name.removesuffix("_total" if self.kind == "counter" else "_info")

    @property
    def unit_suffix(self) -> str:
        """The unit where the name ends in it, as OpenMetrics wants it in its metadata; else nothing."""
        return self.unit if self.family.endswith(f"_{self.unit}") else ""


class Vocabulary:
    """The values that one label may take: the known ones and the first ``limit`` others, cleaned; then :data:`OTHER`.

    Args:
        limit: 0: only the known ones.
    """

    def __init__(self, limit: int, *known: str) -> None:
        self._limit = limit + len(known)
        self._known = set(known)
        self._closed = limit == 0

    def fit(self, value: str) -> str:
        """The value as the label has it."""
        if value in self._known:
            return value
        word = _UNFIT.sub("_", value[: MAX_LABEL_CHARS * 2]).strip("_")[:MAX_LABEL_CHARS] or "unknown"
        if word not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(word)
        return word

    def past_limit(self, fitted: str) -> str:
        """The value that stands for ``fitted`` where the metric has all the series that it may have."""
        return fitted if self._closed else OTHER


class Family(Generic[_Instrument]):
    """A metric with labels and its kept children: a dict look-up is four times as fast as ``.labels()``."""

    def __init__(self, metric: _Instrument, limit: int, vocabularies: tuple[Vocabulary, ...]) -> None:
        self._metric: _Instrument = metric
        self._limit = limit
        self._vocabularies = vocabularies
        self._children: dict[tuple[str, ...], _Instrument] = {}
        self._used: set[tuple[str, ...]] = set()

    def child(self, *values: str) -> _Instrument:
        """The series of these labels, in the order of the metric's; it is there, at 0, from the first call on."""
        found = self._children.get(values)
        return found if found is not None else self._new_child(tuple(map(str, values)))

    def _new_child(self, values: tuple[str, ...]) -> _Instrument:
        fitted = tuple(words.fit(value) for words, value in zip(self._vocabularies, values, strict=True))
        if fitted not in self._used and len(self._used) >= self._limit:
            fitted = tuple(words.past_limit(value) for words, value in zip(self._vocabularies, fitted, strict=True))
        self._used.add(fitted)
        child: _Instrument = self._metric.labels(*fitted)
        # A value that had to be cleaned is not cached: their number has no bound.
        if fitted == values:
            self._children[values] = child
        return child


class Workshop:
    """Makes instruments in one registry and keeps their descriptions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.descriptions: list[Description] = []

    def _describe(self, name: str, kind: Kind, text: str, unit: str, labels: Iterable[str] = ()) -> Description:
        description = Description(name, kind, text, unit, tuple(labels))
        self.descriptions.append(description)
        return description

    def counter(self, name: str, text: str, unit: str) -> Counter:
        """A counter without labels."""
        made = self._describe(name, "counter", text, unit)
        return Counter(made.family, text, unit=made.unit_suffix, registry=self._registry)

    def counters(self, name: str, text: str, unit: str, **labels: Vocabulary) -> Family[Counter]:
        """A counter with labels."""
        made = self._describe(name, "counter", text, unit, labels)
        metric = Counter(made.family, text, made.labels, unit=made.unit_suffix, registry=self._registry)
        return Family(metric, MAX_COUNTERS, tuple(labels.values()))

    def histogram(self, name: str, text: str, unit: str, buckets: Iterable[float]) -> Histogram:
        """A histogram without labels."""
        made = self._describe(name, "histogram", text, unit)
        return Histogram(name, text, unit=made.unit_suffix, buckets=tuple(buckets), registry=self._registry)

    def histograms(
        self, name: str, text: str, unit: str, buckets: Iterable[float], **labels: Vocabulary
    ) -> Family[Histogram]:
        """A histogram with labels."""
        made = self._describe(name, "histogram", text, unit, labels)
        metric = Histogram(
            name, text, made.labels, unit=made.unit_suffix, buckets=tuple(buckets), registry=self._registry
        )
        return Family(metric, MAX_HISTOGRAMS, tuple(labels.values()))

    def reading(self, name: str, text: str, unit: str) -> Callable[[Callable[[], float]], None]:
        """A gauge that is read whenever somebody scrapes, 0 until then; returns what binds it to its source."""
        made = self._describe(name, "gauge", text, unit)
        gauge = Gauge(name, text, unit=made.unit_suffix, registry=self._registry)
        return gauge.set_function

    def info(self, name: str, text: str, **labels: str) -> None:
        """A gauge that is always 1; what it says is in its labels."""
        made = self._describe(name, "info", text, "", labels)
        Info(made.family, text, registry=self._registry).info(labels)
