"""Counters and histograms as plain numbers, which the client library writes down when somebody scrapes.

The library's own take a lock and some twenty calls each time. Here counting is an addition; what several threads count
is guarded by whoever counts it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

_Labels = Mapping[str, str]


class Counter:
    """How often something happened, or how much of it: ``total`` is added to, and never less."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0.0

    def samples(self, name: str, labels: _Labels) -> Iterator[Sample]:
        """Its one sample."""
        yield Sample(f"{name}_total", dict(labels), self.total)


class Histogram:
    """How values are distributed over buckets.

    Args:
        bounds: the highest value of each bucket, ascending; what is above all of them is counted too.
    """

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        #: The last exemplar of each bucket that has one, by its place.
        self._exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float) -> None:
        """Count a value; a negative one as none: wall clocks step back."""
        if value > 0.0:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value
        else:
            self._counts[0] += 1

    def exemplify(self, value: float, trace_id: str, at: float) -> None:
        """Have the trace of an observed value stand for its bucket, until the next one that falls into it.

        Args:
            at: when that was, in seconds since the epoch.
        """
        value = max(0.0, value)
        self._exemplars[bisect_left(self._bounds, value)] = Exemplar({"trace_id": trace_id}, value, at)

    def samples(self, name: str, labels: _Labels) -> Iterator[Sample]:
        """A sample for each bucket with all that is below it, how many values there were, and their sum."""
        reached = list(accumulate(self._counts))
        for place, (bound, count) in enumerate(zip((*self._bounds, float("inf")), reached, strict=True)):
            of_bucket = {**labels, "le": _written(bound)}
            yield Sample(f"{name}_bucket", of_bucket, float(count), exemplar=self._exemplars.get(place))
        yield Sample(f"{name}_count", dict(labels), float(reached[-1]))
        yield Sample(f"{name}_sum", dict(labels), self._sum)


def _written(bound: float) -> str:
    """A bound as the library writes it."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]
