"""What a metric is made of: its description, the values that its labels may take, and its series."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Gauge, Info, Metric
from prometheus_client.registry import Collector

from supervisor.telemetry.metrics.instruments import Counter, Histogram

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
Instrument: TypeAlias = Counter | Histogram
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


class Family(dict[str | tuple[str, ...], _Instrument]):
    """A metric with labels: ``family[label]``, or ``family[label, label]``, is the instrument of a series.

    It is there, at 0, from the first look on; each further one is a dict's, without a call.
    """

    def __init__(self, make: Callable[[], _Instrument], limit: int, vocabularies: tuple[Vocabulary, ...]) -> None:
        super().__init__()
        self._make: Callable[[], _Instrument] = make
        self._limit = limit
        self._vocabularies = vocabularies
        #: Each series by its labels, in the order of the metric's.
        self.series: dict[tuple[str, ...], _Instrument] = {}

    def __missing__(self, key: str | tuple[str, ...]) -> _Instrument:
        values = tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)
        fitted = tuple(words.fit(value) for words, value in zip(self._vocabularies, values, strict=True))
        if fitted not in self.series and len(self.series) >= self._limit:
            fitted = tuple(words.past_limit(value) for words, value in zip(self._vocabularies, fitted, strict=True))
        found = self.series.get(fitted)
        if found is None:
            found = self.series[fitted] = self._make()
        # A value that had to be cleaned is not kept: their number has no bound.
        if fitted == values:
            self[values if isinstance(key, tuple) else values[0]] = found
        return found

    def begin(self, *labels: str) -> None:
        """Have a series there, at 0, before anything of it is counted."""
        self[labels if len(labels) > 1 else labels[0]]


class _Reader(Collector):
    """One metric as the client library collects it."""

    def __init__(self, description: Description, series: Mapping[tuple[str, ...], Instrument]) -> None:
        self._description = description
        self._series = series

    def collect(self) -> Iterator[Metric]:
        made = self._description
        metric = Metric(made.family, made.help, made.kind, made.unit_suffix)
        for values, instrument in list(self._series.items()):
            metric.samples += instrument.samples(made.family, dict(zip(made.labels, values, strict=True)))
        yield metric


class _Readings(Collector):
    """A gauge whose series are read whenever somebody scrapes."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self.read: Callable[[], Mapping[tuple[str, ...], float]] = dict

    def collect(self) -> Iterator[Metric]:
        made = self._description
        metric = Metric(made.family, made.help, made.kind, made.unit_suffix)
        for values, figure in self.read().items():
            metric.add_sample(made.family, dict(zip(made.labels, values, strict=True)), figure)
        yield metric


class Workshop:
    """Makes instruments in one registry and keeps their descriptions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.descriptions: list[Description] = []

    def _describe(self, name: str, kind: Kind, text: str, unit: str, labels: Iterable[str] = ()) -> Description:
        description = Description(name, kind, text, unit, tuple(labels))
        self.descriptions.append(description)
        return description

    def _read(self, description: Description, series: Mapping[tuple[str, ...], Instrument]) -> None:
        self._registry.register(_Reader(description, series))

    def counter(self, name: str, text: str, unit: str) -> Counter:
        """A counter without labels."""
        made = Counter()
        self._read(self._describe(name, "counter", text, unit), {(): made})
        return made

    def counters(self, name: str, text: str, unit: str, **labels: Vocabulary) -> Family[Counter]:
        """A counter with labels."""
        made = Family(Counter, MAX_COUNTERS, tuple(labels.values()))
        self._read(self._describe(name, "counter", text, unit, labels), made.series)
        return made

    def histogram(self, name: str, text: str, unit: str, buckets: Iterable[float]) -> Histogram:
        """A histogram without labels."""
        made = Histogram(tuple(buckets))
        self._read(self._describe(name, "histogram", text, unit), {(): made})
        return made

    def histograms(
        self, name: str, text: str, unit: str, buckets: Iterable[float], **labels: Vocabulary
    ) -> Family[Histogram]:
        """A histogram with labels."""
        made = Family(partial(Histogram, tuple(buckets)), MAX_HISTOGRAMS, tuple(labels.values()))
        self._read(self._describe(name, "histogram", text, unit, labels), made.series)
        return made

    def reading(self, name: str, text: str, unit: str) -> Callable[[Callable[[], float]], None]:
        """A gauge that is read whenever somebody scrapes, 0 until then; returns what binds it to its source."""
        made = self._describe(name, "gauge", text, unit)
        gauge = Gauge(name, text, unit=made.unit_suffix, registry=self._registry)
        return gauge.set_function

    def readings(
        self, name: str, text: str, unit: str, *labels: str
    ) -> Callable[[Callable[[], Mapping[tuple[str, ...], float]]], None]:
        """The same with labels, or without a series for a while: the source gives each series by its labels."""
        gauge = _Readings(self._describe(name, "gauge", text, unit, labels))
        self._registry.register(gauge)

        def bind(read: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
            gauge.read = read

        return bind

    def info(self, name: str, text: str, **labels: str) -> None:
        """A gauge that is always 1; what it says is in its labels."""
        made = self._describe(name, "info", text, "", labels)
        Info(made.family, text, registry=self._registry).info(labels)
