"""An upgrade keeps names, volume and token, drains, and restarts the pod exactly when what it reads has changed."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest

from supervisor import __version__
from tests.support.helm_chart import CHART, NAMESPACE, RELEASE, Rendered, agent, chart, render, rendered_ci
from tests.support.kubernetes_api import KubernetesApi, kubernetes_api

FULL_NAME = f"{RELEASE}-aiwm-supervisor"
#: No pod runs on the test's API server: nobody would end the check before an upgrade.
UNCHECKED: dict[str, Any] = {"upgradeCheck": {"enabled": False}}
ADMIN_SECRET = f"{FULL_NAME}-admin"


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with kubernetes_api(NAMESPACE) as running:
        yield running


@pytest.fixture
def helm(api: KubernetesApi) -> Iterator[helm_python.Config]:
    with helm_python.Config(kubeconfig_content=api.kubeconfig, namespace=NAMESPACE, storage_driver="memory") as made:
        yield made


def admin_token(api: KubernetesApi) -> str:
    secret = api.get("Secret", ADMIN_SECRET)
    return base64.b64decode(secret["data"]["admin-token"]).decode()


def pod_template(api: KubernetesApi) -> dict[str, Any]:
    template: dict[str, Any] = api.get("StatefulSet", FULL_NAME)["spec"]["template"]
    return template


def test_an_upgrade_keeps_the_token_and_an_idle_one_restarts_nothing(
    api: KubernetesApi, helm: helm_python.Config
) -> None:
    helm.install(chart(), RELEASE, UNCHECKED, namespace=NAMESPACE)
    token, template = admin_token(api), pod_template(api)
    assert len(token) == 40
    helm.upgrade(chart(), RELEASE, UNCHECKED, namespace=NAMESPACE)
    assert (admin_token(api), pod_template(api)) == (token, template)
    helm.upgrade(chart(), RELEASE, UNCHECKED | {"config": {"CONCURRENCY": 5}}, namespace=NAMESPACE)
    assert admin_token(api) == token
    assert pod_template(api) != template
    assert api.get("ConfigMap", f"{FULL_NAME}-settings")["data"]["SUPERVISOR_CONCURRENCY"] == "5"


def test_everything_that_may_change_can_be_changed_in_place(api: KubernetesApi, helm: helm_python.Config) -> None:
    helm.install(chart(), RELEASE, UNCHECKED, namespace=NAMESPACE)
    values = full_values()
    helm.upgrade(chart(), RELEASE, values, namespace=NAMESPACE)
    assert pod_template(api)["spec"]["terminationGracePeriodSeconds"] == 120
    # The server would have said so: the size of the volume cannot be changed so.
    with pytest.raises(helm_python.HelmError, match="volumeClaimTemplates"):
        helm.upgrade(chart(), RELEASE, UNCHECKED | {"persistence": {"size": "9Gi"}}, namespace=NAMESPACE)


def full_values() -> dict[str, Any]:
    """All of ci/full-values.yaml but names, storage and what the test's API server has no kinds for."""
    values = helm_python.values_from_yaml((CHART / "ci/full-values.yaml").read_text())
    for name in ("fullnameOverride", "persistence", "extraObjects", "ingress", "networkPolicy", "httpRoute", "backup"):
        del values[name]
    values |= UNCHECKED
    for name in ("serviceMonitor", "prometheusRule", "dashboards"):
        values[name]["enabled"] = False
    return values


def test_a_secret_that_somebody_changed_restarts_the_pod_at_the_next_upgrade(
    api: KubernetesApi, helm: helm_python.Config
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tokens", "namespace": NAMESPACE}}
    api.put(secret | {"data": {"admin-token": base64.b64encode(b"first").decode(), "other": "eA=="}})
    values = UNCHECKED | {"adminToken": {"existingSecret": "tokens"}}
    helm.install(chart(), RELEASE, values, namespace=NAMESPACE)
    first = pod_template(api)
    api.put(secret | {"data": {"admin-token": base64.b64encode(b"first").decode(), "other": "eQ=="}})
    helm.upgrade(chart(), RELEASE, values, namespace=NAMESPACE)
    assert pod_template(api) == first
    api.put(secret | {"data": {"admin-token": base64.b64encode(b"second").decode()}})
    helm.upgrade(chart(), RELEASE, values, namespace=NAMESPACE)
    assert pod_template(api) != first
    assert "second" not in str(pod_template(api))


@pytest.mark.parametrize(
    "declared",
    [
        [agent(2)],
        [agent(2), agent(3, name="New", settings={"concurrency": 2})],
        {f"{4:024x}": {"handler": "echo", "secretRef": {"name": "agents", "key": "another"}}},
        [agent(2), {"id": f"{5:024x}", "handler": "echo", "secret": "env:AGENT_SECRET"}],
    ],
    ids=["changed", "added", "map", "elsewhere"],
)
def test_what_agents_are_declared_restarts_nothing(declared: Any) -> None:
    """Unless a Kubernetes secret comes that no agent has named before: it has to be mounted."""
    before = render({"agents": [agent()]})
    after = render({"agents": declared})
    assert after.fleet != before.fleet
    assert after.stateful_set == before.stateful_set
    assert json.loads(render().fleet) == {"agents": []}
    assert render({"agents": [agent(secretRef={"name": "new"})]}).pod != before.pod


def identity(made: Rendered) -> dict[str, Any]:
    """What Kubernetes ties a release's objects and volume to."""
    spec = {key: value for key, value in made.stateful_set["spec"].items() if key not in ("replicas", "template")}
    return {"names": sorted((o["kind"], o["metadata"]["name"]) for o in made.objects if o["kind"] != "Pod"), **spec}


def test_names_selector_and_volume_stay_over_versions_of_the_chart(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "newer")
    described = tmp_path / "newer/Chart.yaml"
    described.write_text(described.read_text().replace(__version__, "7.8.9"))
    values = {"config": {"CONCURRENCY": 9}, "commonLabels": {"a": "b"}, "podLabels": {"c": "d"}, "agents": [agent()]}
    with helm_python.Chart.load(tmp_path / "newer") as newer:
        texts = newer.render(values, name=RELEASE, namespace=NAMESPACE, is_upgrade=True)
    now = Rendered({path.partition("/templates/")[2]: text for path, text in texts.items()})
    assert now.supervisor["image"].endswith(":7.8.9")
    assert identity(now) == identity(render({"agents": [agent(2)]}))


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({}, {"config": {"CONCURRENCY": 3}}, {"settings"}),
        ({"handlers": {"files": {"a.py": "x"}}}, {"handlers": {"files": {"a.py": "y"}}}, {"handlers"}),
        ({}, {"handlers": {"files": {"a.py": "y"}}}, {"handlers", "settings"}),
        ({}, {"metricsToken": {"existingSecret": "tokens"}}, {"secrets"}),
        ({}, {"service": {"port": 80}, "dashboards": {"enabled": True}}, set()),
    ],
)
def test_checksums_change_with_what_the_pod_reads(
    before: dict[str, Any], after: dict[str, Any], changed: set[str]
) -> None:
    was, now = render(before).checksums, render(after).checksums
    differing = {name for name in was | now if was.get(name) != now.get(name)}
    assert differing == {f"checksum/{name}" for name in changed}


def test_the_same_values_render_the_same_pod() -> None:
    again = render(helm_python.values_from_yaml((CHART / "ci/full-values.yaml").read_text()))
    assert again.stateful_set == rendered_ci("full").stateful_set


def test_names_that_yaml_takes_for_something_else_stay_names() -> None:
    values = {
        "fullnameOverride": "on",
        "adminToken": {"key": "1"},
        "agents": [agent(secretRef={"name": "1e5", "key": "no"})],
    }
    made = render(values, name="123", namespace="n")
    names = [found for made in made.objects for found in (made["metadata"]["name"], made["metadata"]["namespace"])]
    assert all(isinstance(name, str) for name in names)
    assert set(made.one("Secret")["data"]) == {"1"}
    assert {name for name in names if name != "n"} >= {"on", "on-admin", "on-agents", "on-headless"}


def test_long_names_leave_room_for_what_kubernetes_adds() -> None:
    made = render({}, name="r" * 53)
    for found in made.objects:
        assert len(found["metadata"]["name"]) <= 63
    assert len(made.stateful_set["metadata"]["name"]) <= 52
