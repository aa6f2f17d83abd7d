"""Every panel and every alert has data from a supervisor that works, under a Prometheus that watches it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from grafana.picture import draw
from tests.support.busy_fleet import FAULTED, REJECTED, SHOWN, busy_fleet
from tests.support.dashboards import NAMES, Moment, Results, empty, load, marks, now, panels, play, targets
from tests.support.paths import ROOT
from tests.support.prometheus import Prometheus, QueryError
from tests.support.stack import agent_id

ALERTS = ROOT / "prometheus" / "alerts.yaml"
IMAGES = ROOT / "docs" / "images"
#: Also how long a scrape may take, which on a busy machine is more than a second.
SCRAPE_SECONDS = 3.0
#: Everything that the fleet is made to suffer, as Prometheus sees it: two samples that differ make a rate.
SUFFERED = (
    'increase(supervisor_messages_handled_total{outcome="dead"}[1m])',
    'increase(supervisor_messages_handled_total{outcome="retried"}[1m])',
    'increase(supervisor_sends_total{outcome="refused"}[1m])',
    'increase(supervisor_sends_total{outcome="lost"}[1m])',
    'increase(supervisor_disconnects_total{reason="server_disconnect"}[1m])',
    'increase(supervisor_connection_attempts_total{outcome!="online"}[1m])',
    'increase(supervisor_unknown_total{kind="message_type"}[1m])',
    'increase(supervisor_messages_dropped_total{reason="duplicate"}[1m])',
    'increase(supervisor_budget_alerts_total{scope="agent", level="exhausted"}[1m])',
    'increase(gen_ai_client_operation_duration_seconds_count{error_type!=""}[1m])',
    'supervisor_inbox_messages{state="dead"}',
    "supervisor_agents_failing",
    *(f'increase(supervisor_llm_cost_total{{model="{model}"}}[1m])' for model in ("gpt-4o", "claude-opus-5")),
)
#: Panels that must show more than zeros, since their trouble was made.
NOT_ZERO = {
    "fleet": {
        *("Rejected, faulted", "Failing health", "Dead letters", "Latency p95", "Sends"),
        *("Attempts to connect, per minute", "Lost connections, per minute", "Messages not accepted, per minute"),
        *("Error ratio by handler", "Model errors, per minute", "Budget used"),
    },
    "agent": {
        *("Tokens in range", "Cost in range", "Tokens per minute, by type", "Budget over time"),
        *("Fleet: error ratio", "Fleet: lost connections, per minute"),
    },
    "tokens": {
        *("Tokens in range", "Cost in range", "Cost today", "Projected today", "Cached input"),
        *("Failed calls, per minute", "Failing share"),
        *("Budgets nearly or wholly used", "Dearest agents in range", "Duration of calls"),
    },
}
#: A picture of README's is to be looked at in full, and loaded with it.
MOST_BYTES = 300 * 1024
SECONDS = 90.0


def flat(name: str, dashboard: dict[str, Any], results: Results) -> list[str]:
    """The panels that show nothing but zeros though their trouble was made."""
    values: dict[str, float] = {}
    for panel, target in targets(dashboard):
        found = [value for series in results[panel["id"], target["refId"]] for value in series.finite]
        values[panel["title"]] = max([values.get(panel["title"], 0.0), *found])
    return [f"{name}: {title}" for title in NOT_ZERO[name] if values[title] <= 0]


async def refused(expressions: list[tuple[str, str]], server: Prometheus, at: float) -> list[str]:
    """The expressions that Prometheus does not evaluate."""
    problems = []
    for name, expression in expressions:
        try:
            await server.query(expression, at)
        except QueryError as error:
            problems.append(f"{name}: {error}")
    return problems


def alerts() -> list[tuple[str, str]]:
    """Name and expression of every rule, recording ones among them."""
    if not ALERTS.exists():
        return []
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [(rule.get("alert") or rule["record"], rule["expr"]) for group in groups for rule in group["rules"]]


@pytest.mark.timeout(600)
async def test_every_panel_has_data_every_alert_is_evaluated_and_pictures_are_drawn(tmp_path: Path) -> None:
    async with busy_fleet(tmp_path, haste=4.0, interval_seconds=SCRAPE_SECONDS) as (busy, server):
        start = now()
        for suffered in SUFFERED:
            await server.until(f"sum({suffered}) > 0", bool, SECONDS)
        await server.until(f'supervisor_agent_up{{agent="{busy.keep_down()}"}} == 0', bool, SECONDS)
        moment = Moment(start, await server.last_scrape(), SCRAPE_SECONDS, {"agent": agent_id(SHOWN)})
        dashboards = {name: load(name) for name in NAMES}
        results = {name: await play(dashboard, moment, server) for name, dashboard in dashboards.items()}
        drawn = [(name, moment.fill(expression, 1.0)) for one in dashboards.values() for name, expression in marks(one)]
        problems = await refused([*drawn, *alerts()], server, moment.end)
        choice = await server.query(moment.fill(agents_asked_for(dashboards["agent"]), 1.0), moment.end)
    for name, dashboard in dashboards.items():
        problems += [*empty(dashboard, results[name]), *flat(name, dashboard, results[name])]
    assert not problems, "\n".join(problems)
    not_online = [s.labels["agent"] for s in results["fleet"][panel_id(dashboards["fleet"], "Not online"), "A"]]
    assert {agent_id(REJECTED), agent_id(FAULTED)} <= set(not_online)
    named = {one.labels["agent"]: one.labels.get("name") for one in choice}
    assert agent_id(SHOWN) in named
    assert (named[agent_id(REJECTED)], named[agent_id(FAULTED)]) == ("Refused", "Broken")
    for name, dashboard in dashboards.items():
        path = tmp_path / f"{name}.png"
        await asyncio.to_thread(draw, dashboard, results[name], (moment.start, moment.end), path, chosen=moment.chosen)
        assert path.stat().st_size < MOST_BYTES
        assert size(path) == size(IMAGES / f"grafana-{name}.png"), "draw anew: python -m tests.pictures"


def agents_asked_for(dashboard: dict[str, Any]) -> str:
    """The expression whose series are the agents that a dashboard lets choose among."""
    [variable] = [one for one in dashboard["templating"]["list"] if one["name"] == "agent"]
    asked = re.fullmatch(r"query_result\((.*)\)", variable["query"])
    assert asked
    return asked[1]


def panel_id(dashboard: dict[str, Any], title: str) -> int:
    """The id of the panel of a title."""
    [found] = [panel["id"] for panel in panels(dashboard) if panel["title"] == title]
    return int(found)


def size(path: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    with Image.open(path) as image:
        return image.size


def test_readme_shows_the_pictures_and_they_are_small() -> None:
    shown = re.findall(r"docs/images/(grafana-[\w-]+)\.png", (IMAGES.parents[1] / "README.md").read_text())
    assert set(shown) == {f"grafana-{name}" for name in (*NAMES, "fleet-top")}
    assert all((IMAGES / f"{name}.png").stat().st_size < MOST_BYTES for name in shown)
