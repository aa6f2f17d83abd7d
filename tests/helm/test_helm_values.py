"""The chart's README, its schema, its values, the supervisor's settings and the copies agree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import helm_python
import pytest
import yaml
from pydantic import SecretStr

from supervisor.service import service
from supervisor.settings import Settings, load_settings
from tests.support.helm_chart import (
    CHART,
    NAMESPACE,
    PROJECT,
    RELEASE,
    agent,
    ci_values,
    readme_values,
    refusal,
    render,
    rendered_ci,
)

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
NAMES = [name.upper() for name in Settings.model_fields]
#: What the chart sets itself.
OWNED = {"REGISTRY_URL", "ADMIN_HOST", "ADMIN_PORT", "AGENTS_PRUNE"}


def secret_settings() -> set[str]:
    """The settings that pydantic masks."""
    fields = Settings.model_fields.items()
    return {name.upper() for name, field in fields if SecretStr in _types(field.annotation)}


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _types(inner)


def leaves(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Every value by its path; a map whose keys are the operator's own is one value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = schema["properties"][name]
        if isinstance(value, dict) and inner.get("additionalProperties") is False:
            found |= leaves(value, inner, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = value
    return found


def described(schema: dict[str, Any], path: str = "") -> dict[str, str]:
    """What the schema says of each value."""
    found: dict[str, str] = {}
    for name, inner in schema["properties"].items():
        if inner.get("additionalProperties") is False and "properties" in inner:
            found |= described(inner, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = inner["description"]
    return found


def test_every_value_is_in_the_schema_and_in_readme() -> None:
    defaults = leaves(VALUES, SCHEMA)
    descriptions = described(SCHEMA)
    # Helm adds `global` by itself.
    assert defaults.keys() == descriptions.keys() - {"global"}
    table = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| (.+) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert {path: json.loads(default) for path, default, _ in table} == defaults
    assert {path: text.replace("\\|", "|") for path, _, text in table} == {p: descriptions[p] for p in defaults}
    assert len(table) == len(defaults)


def test_nothing_unknown_is_let_through_anywhere() -> None:
    paths = {".".join(path.split(".")[:-1]) for path in leaves(VALUES, SCHEMA)}
    for path in paths:
        values: dict[str, Any] = {}
        inner = values
        for part in filter(None, path.split(".")):
            inner = inner.setdefault(part, {})
        inner["unheardOf"] = 1
        assert "unheardOf" in refusal(values), path


def test_copies_schema_and_readme_are_in_line_with_what_they_are_made_from() -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / "helm/sync.py", "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_copies_are_the_originals() -> None:
    copies = {path.name: path.read_bytes() for path in (CHART / "files").glob("*/*")}
    rules = [PROJECT / "prometheus" / name for name in ("alerts.yaml", "thresholds.yaml")]
    originals = [*(PROJECT / "grafana").glob("*.json"), *rules]
    assert copies == {path.name: path.read_bytes() for path in originals}


def test_the_schema_knows_the_settings_and_no_others() -> None:
    config = SCHEMA["properties"]["config"]
    assert config["propertyNames"]["enum"] == sorted(NAMES)
    assert config["properties"].keys() == set(NAMES)
    for name, field in Settings.model_fields.items():
        assert config["properties"][name.upper()]["description"] == field.description


def test_the_secrets_among_the_settings_are_all_refused() -> None:
    assert len(secret_settings()) >= 3
    for name in secret_settings():
        said = refusal({"config": {name: "x"}})
        assert f"config.{name} is a secret" in said, name


def defaults_as_yaml() -> dict[str, Any]:
    """The settings' defaults as YAML would hold them, without those that config refuses or that are unset."""
    dumped = Settings.model_construct().model_dump(mode="json")
    wanted = {name.upper(): value for name, value in dumped.items() if value not in (None, [], {})}
    return {name: value for name, value in wanted.items() if name not in OWNED | secret_settings()}


def test_every_default_may_be_given_and_reaches_the_supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = defaults_as_yaml() | {"AGENTS_DIR": "/handlers", "JOURNAL_ENCRYPTION": False}
    made = render({"config": given}).settings
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SUPERVISOR_ADMIN_TOKEN", "from-a-secret")
    # /run/secrets as it is in the pod, with other people's folders beside ours.
    for folder in ("agents", "kubernetes.io/serviceaccount"):
        (tmp_path / folder).mkdir(parents=True)
    settings = load_settings(env_file=None, run_secrets=tmp_path)
    default = Settings.model_construct()
    expected = {"secret_dirs": (Path("/run/secrets/agents"), Path("/run/secrets")), "agents_dir": Path("/handlers")}
    for name in Settings.model_fields:
        if name.upper() in given:
            assert getattr(settings, name) == expected.get(name, getattr(default, name)), name


def test_settings_in_all_their_forms_reach_the_supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in rendered_ci("full").settings.items():
        monkeypatch.setenv(name, value)
    for name in ("ADMIN_TOKEN", "SECRET_KEYS"):
        monkeypatch.setenv(f"SUPERVISOR_{name}", "x")
    settings = load_settings(env_file=None, run_secrets=tmp_path)
    assert (settings.concurrency, settings.inbox_limit, settings.memory_limit) == (128, 10_000_000, 512 * 1024 * 1024)
    assert (settings.drain_seconds, settings.journal_encryption) == (90, True)
    assert settings.allowed_hosts == ("other.example.com", "third.example.com")
    assert settings.secret_dirs == (Path("/run/secrets/agents"), Path("/mnt/vault"))
    assert settings.prices["gpt-4o"].cached == 0.00000125
    assert settings.log_format == "json"


@pytest.mark.parametrize("given", ["/mnt/a,/mnt/b", ["/mnt/a", "/mnt/b"], '["/mnt/a", "/mnt/b"]'])
def test_folders_of_secrets_are_added_to_the_charts_own(given: object) -> None:
    assert render({"config": {"SECRET_DIRS": given}}).settings["SUPERVISOR_SECRET_DIRS"] == (
        "/run/secrets/agents,/mnt/a,/mnt/b"
    )


@pytest.mark.parametrize(
    ("drain", "seconds"),
    [(None, 60), (20, 20), (0.5, 1), ("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400), (" 7 s", 7)],
)
def test_a_stop_has_the_time_that_the_drain_needs(drain: object, seconds: int) -> None:
    config = {} if drain is None else {"DRAIN_SECONDS": drain}
    if drain is not None:
        # The chart reads durations as the supervisor does.
        read = Settings(drain_seconds=drain, _env_file=None).drain_seconds
        assert seconds - 1 < read <= seconds
    assert render({"config": config}).pod["terminationGracePeriodSeconds"] == seconds + 15
    least = seconds + int(service.CLOSE_SECONDS)
    exact = render({"config": config, "terminationGracePeriodSeconds": least})
    assert exact.pod["terminationGracePeriodSeconds"] == least
    assert "a stop may take" in refusal({"config": config, "terminationGracePeriodSeconds": least - 1})


def test_readmes_examples_are_rendered_as_they_stand() -> None:
    made = [render(values) for values in readme_values()]
    assert "with 2 declared agents" in made[0].notes
    assert [entry["name"] for entry in made[0].supervisor["env"]][1] == "AGENT_OPENAI_KEY"
    assert len(made[1].one("NetworkPolicy")["spec"]["ingress"][0]["from"]) == 3


def test_notes_name_what_there_is() -> None:
    made = render({"agents": [agent()], "service": {"port": 80}})
    notes = made.notes
    assert f"exec statefulset/{made.stateful_set['metadata']['name']} -c {made.supervisor['name']}" in notes
    assert "without a restart" in notes
    assert f"get secret {made.one('Secret')['metadata']['name']} " in notes
    assert f"port-forward service/{made.stateful_set['metadata']['name']} 8640:80" in notes
    claim = made.stateful_set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert f"{claim}-{made.stateful_set['metadata']['name']}-0" in notes
    assert "agents --help" in render().notes
    assert "https://chat.example.com/" in rendered_ci("full").notes
    assert "agents that are not declared are removed" in rendered_ci("full").notes
    insecure = render({"ingress": {"enabled": True, "hosts": [{"host": "h"}]}}).notes
    assert "http://h/" in insecure
    assert "WARNING: the ingress has no TLS" in insecure


def test_a_package_of_the_chart_is_whole(tmp_path: Path) -> None:
    archive = helm_python.package(CHART, destination=tmp_path)
    values = ci_values("full")
    with helm_python.Chart.load(archive) as packed:
        made = packed.render(values, name=RELEASE, namespace=NAMESPACE)
        assert not [file["name"] for file in packed.files if file["name"].startswith("ci/")]
    assert {path.partition("/templates/")[2]: text for path, text in made.items()} == rendered_ci("full").texts


def test_the_chart_is_of_the_supervisors_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
    assert chart["name"] == project["name"]
    assert render().supervisor["image"] == f"aiwm-supervisor:{project['version']}"
