"""The alerts: each fires and stays silent where it should, says what to do, and reads what the supervisor exports."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from supervisor.telemetry.metrics import Metrics
from tests.support.prometheus_tools import (
    RULES,
    TESTS,
    Selector,
    alerts,
    cases,
    groups,
    recordings,
    selectors,
    series_of,
)

ROOT = RULES.parents[1]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
#: What Prometheus itself adds.
_TARGET = frozenset({"job", "instance"})
_EXPORTED = {name: labels for metric in Metrics().describe() for name, labels in series_of(metric).items()}
_SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "supervisor").rglob("*.py")))


def run(promtool: str, *arguments: object) -> str:
    """What promtool says; fails with that where it is not content."""
    ran = subprocess.run(
        [promtool, *map(str, arguments)], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=110
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_promtool_finds_nothing_wrong_with_the_rules(promtool: str) -> None:
    assert re.search(r"SUCCESS: \d+ rules found", run(promtool, "check", "rules", RULES))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent(promtool: str, path: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", path)


def test_each_alert_has_a_case_that_fires_and_one_that_stays_silent() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for case in cases():
        for one in case["alert_rule_test"]:
            (fires if one["exp_alerts"] else silent).add(one["alertname"])
    assert fires == silent == set(alerts())


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_groups_are_evaluated_in_their_order(path: Path) -> None:
    # In any other order an alert sees what was recorded an interval ago, or not: a test that now and then fails.
    order = yaml.safe_load(path.read_text())["group_eval_order"]
    assert order == [group["name"] for group in groups()]


@pytest.mark.parametrize(("name", "alert"), alerts().items(), ids=alerts())
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str, alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+m", alert["for"])
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    notes = alert["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert "First: " in notes["description"]
    assert notes["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_an_entry_for_each_alert_and_no_other() -> None:
    entries = re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE)
    assert sorted(entries) == sorted(alerts())
    for entry in re.split(r"^### ", RUNBOOK, flags=re.MULTILINE)[1:]:
        for part in ("People:", "Look", "mend", "Silence:"):
            assert part.lower() in entry.lower(), f"{entry.splitlines()[0]} lacks {part}"


def _read_by_rules() -> Iterator[tuple[str, Selector]]:
    for where, expression in [*recordings().items(), *((name, rule["expr"]) for name, rule in alerts().items())]:
        for selector in selectors(expression):
            yield where, selector


def test_expressions_read_only_what_is_exported_by_labels_that_are_there() -> None:
    read = list(_read_by_rules())
    assert {selector.name for _, selector in read} > {"up", "supervisor_ready", "process_open_fds"}
    for where, selector in read:
        if selector.name not in recordings() and selector.name != "up":
            assert selector.name in _EXPORTED, where
            assert {label for label, _ in selector.matchers} <= _EXPORTED[selector.name], where


def test_only_two_alerts_name_a_job() -> None:
    naming = {where for where, selector in _read_by_rules() if "job" in dict(selector.matchers)}
    assert naming == {"SupervisorDown", "SupervisorAbsent"}
    # The text that a deployment replaces.
    assert RULES.read_text().split("groups:")[1].count('job="aiwm-supervisor"') == 2


def test_values_that_expressions_ask_for_are_words_of_the_code() -> None:
    words = {
        (label, word)
        for _, selector in _read_by_rules()
        for label, values in selector.matchers
        if label not in {"job", "error_type"}
        for word in values.split("|")
    }
    assert ("outcome", "timeout") in words
    for label, word in words:
        spoken = word.replace("_", " ")
        assert f'"{word}"' in _SOURCE or f'"{spoken}"' in _SOURCE, f'{label}="{word}"'


def test_cases_feed_series_as_the_supervisor_exports_them() -> None:
    for case in cases():
        for series in case["input_series"]:
            [selector] = selectors(series["series"])
            labels = {label for label, _ in selector.matchers}
            if selector.name != "up":
                assert labels == _EXPORTED[selector.name] | _TARGET, series["series"]


def test_the_runbooks_queries_read_what_is_exported() -> None:
    known = set(_EXPORTED) | {metric.name for metric in Metrics().describe()} | set(recordings())
    labels = {label for metric in Metrics().describe() for label in metric.labels}
    named = set(re.findall(r"(?<![\w:])(?:\w+:)?(?:supervisor|gen_ai|process)_[\w:]+", RUNBOOK))
    assert len(named) > 15
    assert named <= known | labels


def test_the_runbooks_queries_are_promql(promtool: str, tmp_path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", RUNBOOK, flags=re.MULTILINE | re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    queries = [span for span in spans if re.search(r"\b(?:supervisor|gen_ai|process)_\w+", span)]
    assert len(queries) > 20
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbook", "rules": rules}]}))
    run(promtool, "check", "rules", file)
