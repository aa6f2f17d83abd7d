"""Dashboards as Grafana plays them: variables and intervals filled in, queries sent, answers kept by panel."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafana.picture import Series
from tests.support.prometheus import Prometheus

FOLDER = Path(__file__).parents[2] / "grafana"
NAMES = ("fleet", "agent", "tokens")
#: Grafana asks for about one point a pixel; so many fit on a panel of a third of the screen.
POINTS = 600
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Results of a dashboard: by panel id and refId.
Results = dict[tuple[int, str], list[Series]]


def load(name: str) -> dict[str, Any]:
    """A dashboard as its file has it."""
    read: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return read


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something, those of closed rows too; rows are left out."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"] + closed(dashboard)


def closed(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels of closed rows, which show what only some deployments have."""
    return [panel for row in dashboard["panels"] if row["type"] == "row" for panel in row.get("panels", ())]


def targets(dashboard: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each panel with each of its queries."""
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            yield panel, target


def marks(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and expression of each annotation."""
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def seconds(text: str) -> float:
    """A duration as Grafana writes it: ``30m``."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


@dataclass(frozen=True)
class Moment:
    """What a dashboard shows, and how finely.

    Args:
        start, end: the shown range, seconds since the epoch.
        scrape_seconds: what the data source is told of Prometheus' interval.
        chosen: values of variables; those that are not here are All.
    """

    start: float
    end: float
    scrape_seconds: float
    chosen: Mapping[str, str]

    def of(self, panel: Mapping[str, Any]) -> Moment:
        """The same for a panel with a range of its own."""
        if panel.get("timeFrom") is None:
            return self
        assert panel["timeFrom"] == "now/d", "only today is known here"
        # Just after midnight there would be no range at all.
        midnight = min(self.end - self.end % 86400, self.start)
        return Moment(midnight, self.end, self.scrape_seconds, self.chosen)

    def interval(self, panel: Mapping[str, Any]) -> float:
        """Seconds between two points: ``$__interval``."""
        least = seconds(panel["interval"]) if panel.get("interval") else self.scrape_seconds
        return max(least, (self.end - self.start) / POINTS)

    def fill(self, expression: str, interval: float) -> str:
        """An expression as Prometheus gets it."""
        rate = max(interval + self.scrape_seconds, 4 * self.scrape_seconds)
        range_seconds = math.ceil(self.end - self.start)
        values = {
            "__rate_interval": f"{round(rate * 1000)}ms",
            "__interval": f"{round(interval * 1000)}ms",
            "__range": f"{range_seconds}s",
            "__range_s": str(range_seconds),
            **dict.fromkeys(("cluster", "namespace"), ".*"),
            **dict.fromkeys(("job", "instance", "handler"), ".+"),
            **self.chosen,
        }

        def value(match: re.Match[str]) -> str:
            return values[match[1] or match[2]]

        return re.sub(r"\$(?:([A-Za-z_]\w*)|\{(\w+)\})", value, expression)


async def play(dashboard: Mapping[str, Any], moment: Moment, server: Prometheus) -> Results:
    """Send every query of a dashboard, as Grafana does when it is opened."""
    results: Results = {}
    for panel, target in targets(dashboard):
        own = moment.of(panel)
        interval = own.interval(panel)
        expression = own.fill(target["expr"], interval)
        if target.get("instant"):
            found = await server.query(expression, own.end)
        else:
            found = await server.query_range(expression, own.start, own.end, interval)
        results[panel["id"], target["refId"]] = found
    return results


def empty(dashboard: Mapping[str, Any], results: Results) -> list[str]:
    """The queries that brought no number, by panel and refId; of panels that are open."""
    hidden = {panel["id"] for panel in closed(dashboard)}
    return [
        f"{dashboard['title']}: {panel['title']} ({target['refId']}): {target['expr']}"
        for panel, target in targets(dashboard)
        if panel["id"] not in hidden and not any(series.finite for series in results[panel["id"], target["refId"]])
    ]


def now() -> float:
    """The end of a range that ends now."""
    return time.time()
