"""What a query brought, and what a panel makes of it: names, last values, joined tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and (time, value) of each sample."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]

    @property
    def finite(self) -> list[float]:
        """The values that are numbers."""
        return [value for _, value in self.samples if math.isfinite(value)]

    @property
    def last(self) -> float | None:
        """The last value that is a number."""
        return self.finite[-1] if self.finite else None


#: What the queries of a dashboard brought, by the panel's id and the query's refId.
Answers = Mapping[tuple[int, str], Sequence[Series]]


@dataclass(frozen=True)
class Line:
    """A series as a panel shows it."""

    name: str
    series: Series


def lines(panel: Mapping[str, Any], answers: Answers) -> list[Line]:
    """The series of a panel under the names of their legends."""
    return [
        Line(_name(target.get("legendFormat", ""), series), series)
        for target in panel.get("targets", ())
        for series in answers[panel["id"], target["refId"]]
        if series.finite
    ]


def _name(form: str, series: Series) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: series.labels.get(match[1], ""), form)


def options(panel: Mapping[str, Any]) -> Mapping[str, Any]:
    """The panel's settings for its fields."""
    defaults: Mapping[str, Any] = panel["fieldConfig"]["defaults"]
    return defaults


def override(panel: Mapping[str, Any], name: str, what: str) -> Any:
    """What the panel sets differently for one name; None if nothing."""
    for one in panel["fieldConfig"].get("overrides", ()):
        if one["matcher"] == {"id": "byName", "options": name}:
            for prop in one["properties"]:
                if prop["id"] == what:
                    return prop["value"]
    return None


def is_named(panel: Mapping[str, Any], line: Line) -> bool:
    """Whether the legend has the series: a panel may leave out those that are zero throughout."""
    if any(line.series.finite):
        return True
    return not any(
        one["matcher"]["id"] == "byValue"
        and one["matcher"]["options"]["reducer"] == "allIsZero"
        and any(prop["id"] == "custom.hideFrom" and prop["value"]["legend"] for prop in one["properties"])
        for one in panel["fieldConfig"].get("overrides", ())
    )


def table(panel: Mapping[str, Any], answers: Answers) -> tuple[list[str], list[dict[str, str | float]]]:
    """Names of the columns and the rows of a table: merged by labels, then organised, as its transformations say."""
    targets = panel["targets"]
    rows: list[dict[str, str | float]] = []
    for target in targets:
        field = f"Value #{target['refId']}" if targets[1:] else "Value"
        for series in answers[panel["id"], target["refId"]]:
            if series.last is not None:
                _merge(rows, dict(series.labels), field, series.last)
    [organised] = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
    fields = sorted(organised["includeByName"], key=lambda name: organised["indexByName"][name])
    names = {field: organised["renameByName"].get(field, field) for field in fields}
    renamed = [{names[field]: row[field] for field in fields if field in row} for row in rows]
    return list(dict.fromkeys(names.values())), renamed


def _merge(rows: list[dict[str, str | float]], labels: Mapping[str, str], field: str, value: float) -> None:
    for row in rows:
        if field not in row and all(row.get(name, own) == own for name, own in labels.items()):
            row.update(labels)
            row[field] = value
            return
    rows.append({**labels, field: value})


def differences(found: Iterable[Line]) -> tuple[list[float], dict[float, list[float]]]:
    """A histogram's cumulative buckets as a heat map has them: bounds, and by time the counts between them."""
    buckets = sorted((float(line.series.labels["le"]), line.series) for line in found)
    bounds = [bound for bound, _ in buckets]
    columns: dict[float, list[float]] = {}
    for index, (_, series) in enumerate(buckets):
        for at, value in series.samples:
            columns.setdefault(at, [0.0] * len(bounds))[index] = value
    for at, counts in columns.items():
        columns[at] = [max(0.0, now - before) for now, before in zip(counts, [0.0, *counts], strict=False)]
    return bounds, columns
