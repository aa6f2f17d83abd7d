"""Writes metrics down in slices of some hundred series, so that the event loop can run in between.

A family of the client library goes through the library's own encoders, a slice of its samples at a time. Those with one
series an agent are written here: a line each, a fifth of the library's time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from supervisor.telemetry.metrics.families import Description

#: Series in a slice: about a millisecond's work.
SLICE: Final = 500
#: One series: its labels as they are written, empty without, and its value.
Row: TypeAlias = tuple[str, float]
_END: Final = b"# EOF\n"


class _One:
    """A registry of one family, as the encoders want it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def label(name: str, value: str) -> str:
    """One label as it is written; whatever the value holds stays inside its quotes."""
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'{name}="{escaped}"'


def in_slices(metric: Metric, *, modern: bool) -> Iterator[bytes]:
    """A family of the client library; ``modern``: as OpenMetrics."""
    samples = metric.samples
    for first in range(0, max(len(samples), 1), SLICE):
        part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
        part.samples = samples[first : first + SLICE]
        if modern:
            text: bytes = openmetrics.generate_latest(_One(part)).removesuffix(_END)  # type: ignore[no-untyped-call]
        else:
            text = generate_latest(_One(part))
        yield text if first == 0 else _without_head(text)


def _without_head(text: bytes) -> bytes:
    """Only the first slice of a family says what it is."""
    while text.startswith(b"# "):
        text = text[text.index(b"\n") + 1 :]
    return text


def written(description: Description, rows: Iterable[Row | None], *, modern: bool) -> Iterator[bytes]:
    """A family of ours, ``rows`` being read as it is written; ``modern``: as OpenMetrics.

    A row that is None is nothing to write but was work: it counts for the slice.
    """
    yield _head(description, modern=modern)
    left, name = iter(rows), description.name
    while chunk := list(islice(left, SLICE)):
        lines = [
            f"{name}{{{labels}}} {_number(value)}\n" if labels else f"{name} {_number(value)}\n"
            for labels, value in filter(None, chunk)
        ]
        yield "".join(lines).encode("utf-8", "replace")


def _number(value: float) -> str:
    number = float(value)
    if math.isfinite(number):
        return repr(number)
    return "NaN" if math.isnan(number) else f"{'+' if number > 0 else '-'}Inf"


def _head(description: Description, *, modern: bool) -> bytes:
    name = description.family if modern else description.name
    text = description.help.replace("\\", "\\\\").replace("\n", "\\n")
    # Prometheus' own format has no infos.
    kind = "gauge" if description.kind == "info" and not modern else description.kind
    lines = [f"# HELP {name} {text}\n", f"# TYPE {name} {kind}\n"]
    if modern and description.unit_suffix:
        lines.append(f"# UNIT {name} {description.unit_suffix}\n")
    return "".join(lines).encode()


def end(*, modern: bool) -> bytes:
    """What ends the whole answer."""
    return _END if modern else b""
