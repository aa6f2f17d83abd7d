"""The dashboards are what their code says, and keep the rules of Grafana's dashboard linter."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.build import FOLDER, dashboards, encode
from grafana.promql import WITH_HANDLER
from tests.support.dashboards import NAMES, Moment, closed, load, marks, panels, targets
from tests.support.metrics_contract import CONTRACT
from tests.support.prometheus import prometheus_tool
from tests.support.prometheus_tools import recordings

UIDS = {"fleet": "aiwm-fleet", "agent": "aiwm-agent", "tokens": "aiwm-tokens"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: A metric in an expression: a name of ours, or of the process, that is not a label in braces.
METRIC = re.compile(r"\b((?:supervisor|gen_ai|process)_\w+|up)\b(\{[^}]*\})?")
#: What Prometheus itself says of a scrape.
SCRAPED = {"up": set[str]()}
#: The labels of each metric of the contract, and all of them: some look like metrics.
LABELS_OF = {metric: labels for metric, (_, labels) in CONTRACT.items()} | SCRAPED
LABELS = {label for labels in LABELS_OF.values() for label in labels}
SUFFIXES = ("_bucket", "_sum", "_count")
MOMENT = Moment(1_800_000_000.0, 1_800_003_600.0, 15.0, {"agent": "a" * 24})
ROOT = FOLDER.parent


@pytest.fixture(params=NAMES)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def family(metric: str) -> str:
    """The metric as the contract names it: a histogram's series end in suffixes."""
    for suffix in SUFFIXES:
        if metric not in CONTRACT and metric.endswith(suffix):
            return metric.removesuffix(suffix)
    return metric


def selectors(expression: str) -> list[tuple[str, str]]:
    """The metrics of an expression, each with its matchers."""
    found = [(match[1], match[2] or "") for match in METRIC.finditer(expression)]
    return [(name, matchers) for name, matchers in found if matchers or name not in LABELS]


def expressions(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """Every expression, with where it stands."""
    queries = [(f"{panel['title']} {target['refId']}", target["expr"]) for panel, target in targets(dashboard)]
    return [*queries, *marks(dashboard)]


def test_the_files_are_what_the_code_makes() -> None:
    made = dashboards()
    assert sorted(made) == sorted(path.name for path in FOLDER.glob("*.json"))
    for name, dashboard in made.items():
        assert encode(dashboard) == (FOLDER / name).read_text(encoding="utf-8"), "run: python -m grafana.build"


def test_grafanas_own_model_reads_each_and_loses_nothing(dashboard: dict[str, Any]) -> None:
    assert json.loads(encode(Dashboard.from_json(dashboard))) == dashboard


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_stable_uid_tags_a_shared_crosshair_and_cannot_be_edited_away(name: str) -> None:
    dashboard = load(name)
    assert dashboard["uid"] == UIDS[name]
    assert dashboard["tags"] == ["aiwm-supervisor"]
    assert dashboard["graphTooltip"] == 1
    assert dashboard["editable"] is False
    assert dashboard["description"]
    assert dashboard["refresh"] == "30s"


def test_dashboards_and_alerts_count_the_same_agents_as_those_that_are_to_be_online() -> None:
    ratio = recordings()["instance:supervisor_agents_offline:ratio"]
    [unwanted] = re.findall(r'/\s*\(sum without \(state\) \(supervisor_agents\{(state!~"[^"]+")\}\)', ratio)
    shares = [
        target["expr"]
        for name in NAMES
        for panel, target in targets(load(name))
        if "nline" in panel["title"] and "clamp_min" in target["expr"]
    ]
    assert len(shares) >= 2
    assert all(unwanted in share for share in shares), (unwanted, shares)


def test_the_data_source_is_a_variable_and_everything_uses_it(dashboard: dict[str, Any]) -> None:
    [variable] = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    assert (variable["name"], variable["query"]) == ("datasource", "prometheus")
    others = [one for one in dashboard["templating"]["list"] if one["type"] != "datasource"]
    users = [*panels(dashboard), *(target for _, target in targets(dashboard)), *others]
    users += dashboard["annotations"]["list"]
    assert [one for one in users if one["datasource"] != DATASOURCE] == []


def test_job_instance_and_handler_take_several_values_and_all(dashboard: dict[str, Any]) -> None:
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    names = ("cluster", "namespace", "job", "instance", "handler")
    assert tuple(variables)[:6] == ("datasource", *names)
    for name in names:
        variable = variables[name]
        assert variable["query"].startswith("label_values(")
        assert variable["query"].endswith(f", {name})")
        assert variable["multi"] is True
        assert variable["includeAll"] is True
        # Who has one cluster gives it no name, and outside of Kubernetes there is no namespace.
        assert variable["allValue"] == (".*" if name in ("cluster", "namespace") else ".+")
        assert variable["current"]["value"] == ["$__all"]
        assert variable["label"]
        assert variable["refresh"] == 2, "when the time range changes"
    assert 'cluster=~"$cluster"' in variables["namespace"]["query"]
    assert 'namespace=~"$namespace"' in variables["job"]["query"]
    assert 'job=~"$job"' in variables["instance"]["query"]
    assert 'instance=~"$instance"' in variables["handler"]["query"]


def test_one_agent_is_chosen_among_those_that_have_series() -> None:
    [variable] = [one for one in load("agent")["templating"]["list"] if one["name"] == "agent"]
    assert re.fullmatch(
        r"query_result\(.*supervisor_agent_info\{.* or on .*supervisor_agent_up\{.*\)", variable["query"]
    )
    assert variable["query"].count('instance=~"$instance"') == 2
    assert not variable.get("multi")
    # As Grafana writes a series: its labels in the order of their names.
    chosen = re.compile(variable["regex"].strip("/").replace("(?<", "(?P<"))
    named = chosen.search('{agent="a1",cluster="agent",handler="h",instance="i",job="j",name="Ada",namespace="n"} 1 2')
    nameless = chosen.search('supervisor_agent_info{agent="_other",instance="i",job="j",name="",namespace="n"} 3 1')
    assert [one and one.groupdict() for one in (named, nameless)] == [
        {"value": "a1", "text": "Ada"},
        {"value": "_other", "text": None},
    ]
    own = [target["expr"] for panel, target in targets(load("agent")) if "supervisor_agent_" in target["expr"]]
    assert len(own) > 8
    for expression in own:
        # What is joined by the agent needs no matcher of its own.
        found = [(name, m) for name, m in selectors(expression) if name != "supervisor_agent_info"]
        assert all('agent=~"$agent"' in m for name, m in found if name.startswith("supervisor_agent_"))


def test_every_selector_is_within_job_instance_and_handler(dashboard: dict[str, Any]) -> None:
    for place, expression in expressions(dashboard):
        found = selectors(expression)
        assert found, place
        for metric, matchers in found:
            assert family(metric) in LABELS_OF, f"{place}: {metric} is no metric of the contract"
            assert 'cluster=~"$cluster", namespace=~"$namespace", job=~"$job"' in matchers, f"{place}: {metric}"
            assert 'instance=~"$instance"' in matchers, f"{place}: {metric}"
            has_handler = "handler" in LABELS_OF[family(metric)]
            assert ('handler=~"$handler"' in matchers) is has_handler, f"{place}: {metric}"


def test_what_is_filtered_by_handler_is_what_has_one() -> None:
    assert {metric for metric, labels in LABELS_OF.items() if "handler" in labels} == WITH_HANDLER


def test_labels_in_matchers_and_groupings_exist(dashboard: dict[str, Any]) -> None:
    known = LABELS | {"cluster", "namespace", "job", "instance", "le", "who"}
    for place, expression in expressions(dashboard):
        for metric, matchers in selectors(expression):
            named = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", matchers))
            assert named <= LABELS_OF[family(metric)] | {"cluster", "namespace", "job", "instance"}, place
        for group in re.findall(r"(?:by|on|group_left) \(([\w, ]+)\)", expression):
            assert set(group.split(", ")) <= known, place


def test_counters_are_always_asked_for_their_rate(dashboard: dict[str, Any]) -> None:
    for place, expression in expressions(dashboard):
        for match in METRIC.finditer(expression):
            if match[1].endswith(("_total", *SUFFIXES)):
                before, after = expression[: match.start()], expression[match.end() :]
                assert re.search(r"\b(rate|increase)\($", before), f"{place}: {match[1]}"
                assert after.startswith(("[$__rate_interval]", "[$__range]")), f"{place}: {match[1]}"


def test_intervals_are_grafanas_own(dashboard: dict[str, Any]) -> None:
    """Rates are over ``$__rate_interval``; what is summed over the shown range is asked for once, not at each point."""
    for panel, target in targets(dashboard):
        ranges = set(re.findall(r"\[([^\]]*)\]", target["expr"]))
        assert ranges <= {"$__rate_interval", "$__range"}, panel["title"]
        assert not re.search(r"\brate\([^\[]*\[\$__range\]", target["expr"]), panel["title"]
        assert "$__range" not in ranges or target["instant"], panel["title"]


def test_every_panel_says_what_it_is_and_in_which_unit(dashboard: dict[str, Any]) -> None:
    assert len({panel["title"] for panel in panels(dashboard)}) == len(panels(dashboard)), "two have one title"
    for panel in panels(dashboard):
        assert panel["title"]
        assert len(panel["description"]) > 9, panel["title"]
        if panel["type"] != "text":
            assert panel["targets"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_thresholds_colour_figures_and_mark_limits(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        if panel["type"] == "text":
            continue
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None, panel["title"]
        assert all(low["value"] < high["value"] for low, high in pairwise(steps[1:])), panel["title"]
    if dashboard["uid"] != UIDS["tokens"]:
        judged = [panel for panel in panels(dashboard) if panel["type"] == "stat"]
        graded = [panel for panel in judged if panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]
        assert len(graded) >= 6


def test_every_series_of_a_graph_has_a_name(dashboard: dict[str, Any]) -> None:
    for panel, target in targets(dashboard):
        if panel["type"] in ("timeseries", "bargauge", "state-timeline"):
            assert target["legendFormat"], panel["title"]
            grouped = re.findall(r"^(?:sort_desc\()?(?:[\w.]+, )?.*?by \(([\w, ]+)\)", target["expr"])
            shown = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            made = re.findall(r'"(\w+)", "\$1", "\w+", "[^"]+"\)', target["expr"])
            assert set(shown) <= {*made, *(label for group in grouped for label in group.split(", "))}, panel["title"]


def test_agents_are_shown_by_their_names(dashboard: dict[str, Any]) -> None:
    for panel, target in targets(dashboard):
        legend, columns = target.get("legendFormat") or "", _columns(panel)
        assert "{{agent}}" not in legend, panel["title"]
        if "{{who}}" in legend or "agent" in columns:
            assert "group_left (name, handler) supervisor_agent_info{" in target["expr"], panel["title"]
        assert ("agent" in columns) is ("name" in columns), panel["title"]


def _columns(panel: dict[str, Any]) -> list[str]:
    """The labels that a table shows."""
    organised = [one["options"] for one in panel.get("transformations", ()) if one["id"] == "organize"]
    return [name for options in organised for name in options["includeByName"]]


def test_points_lead_from_latencies_to_traces() -> None:
    shown = {panel["title"] for name in NAMES for panel, target in targets(load(name)) if target.get("exemplar")}
    assert shown == {
        *("Latency", "Latency p95 by handler", "Where the time goes (p95)"),
        *("Fleet: latency", "Duration of calls, by model (p95)"),
    }


def test_restarts_and_deploys_are_marked(dashboard: dict[str, Any]) -> None:
    names = dict(marks(dashboard))
    assert sorted(names) == ["Deploys", "Restarts"]
    assert "process_start_time_seconds" in names["Restarts"]
    assert "supervisor_build_info" in names["Deploys"]


def test_each_links_to_the_others_and_keeps_what_was_chosen(dashboard: dict[str, Any]) -> None:
    others = {f"/d/{uid}" for uid in UIDS.values() if uid != dashboard["uid"]}
    assert {link["url"] for link in dashboard["links"]} == others
    assert all(link["includeVars"] and link["keepTime"] for link in dashboard["links"])
    written = json.dumps(dashboard)
    assert set(re.findall(r"/d/([\w-]+)", written)) <= set(UIDS.values())


def test_the_rows_of_the_fleet_are_in_the_order_of_questions() -> None:
    rows = [panel["title"] for panel in load("fleet")["panels"] if panel["type"] == "row"]
    assert rows[:-1] == ["Fleet", "Traffic: rate, errors, duration", "Tokens and cost", "Saturation", "Process"]
    assert rows[-1].startswith("Replicas ")
    first = [panel["title"] for panel in panels(load("fleet"))[:8]]
    assert first[:2] == ["Ready", "Agents online"]
    assert all(panel["type"] == "stat" for panel in panels(load("fleet"))[:8])


def test_panels_fill_the_grid_without_overlapping(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    whole = [*dashboard["panels"], *closed(dashboard)]
    for panel in whole:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    bottom = max(y for _, y in taken) + 1
    assert taken == {(x, y) for x in range(24) for y in range(bottom)}, "a hole in the grid"
    assert [panel["id"] for panel in whole] == list(range(1, len(whole) + 1))


def test_what_several_supervisors_have_is_shown_in_a_row_of_its_own() -> None:
    shown = {name for panel in closed(load("fleet")) for one in panel["targets"] for name, _ in selectors(one["expr"])}
    assert {family(name).removeprefix("supervisor_") for name in shown} == {
        *(
            "agents_owned",
            "replicas",
            "lease_age_seconds",
            "orphans",
            "registry_dead_rows",
            "registry_oldest_xmin_seconds",
        ),
        *("handovers_total", "handover_seconds", "takeovers_total", "fenced_total", "handed_in_total"),
    }


def test_every_expression_is_promql(dashboard: dict[str, Any], tmp_path: Path) -> None:
    promtool = prometheus_tool("promtool")
    rules = [
        {"record": f"panel:{number}", "expr": MOMENT.fill(expression, 15.0)}
        for number, (_, expression) in enumerate(expressions(dashboard))
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


def test_provisioning_finds_data_source_and_dashboards() -> None:
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text())
    [source] = sources["datasources"]
    assert (sources["apiVersion"], source["type"], source["access"]) == (1, "prometheus", "proxy")
    assert source["isDefault"] is True
    providers = yaml.safe_load((FOLDER / "provisioning/dashboards/aiwm-supervisor.yaml").read_text())
    [provider] = providers["providers"]
    assert (providers["apiVersion"], provider["type"]) == (1, "file")
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    assert provider["allowUiUpdates"] is False
    scraped = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


def test_the_sample_of_prometheus_is_one(tmp_path: Path) -> None:
    promtool = prometheus_tool("promtool")
    sample = ROOT / "prometheus/prometheus.yml"
    # Where the rules stand beside it they are checked too.
    syntax = [] if (sample.parent / "alerts.yaml").exists() else ["--syntax-only"]
    checked = subprocess.run(
        [promtool, "check", "config", *syntax, str(sample)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    written = yaml.safe_load(sample.read_text())
    assert [job["job_name"] for job in written["scrape_configs"]] == ["aiwm-supervisor"]
    assert written["rule_files"] == ["alerts.yaml"]
