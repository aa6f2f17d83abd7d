"""The chart over PostgreSQL: any number of supervisors, schema and agents by Jobs, and the way there from a volume."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from supervisor.sandbox import Sandbox
from tests.support import postgres
from tests.support.command import SECONDS, Command, InProcess
from tests.support.helm_chart import CHART, NAMESPACE, PROJECT, RELEASE, agent, ci_values, render, rendered_ci
from tests.support.helm_pod import Pod
from tests.support.kubernetes_api import KubernetesApi, kubernetes_api
from tests.support.postgres_way import way_to

FULL_NAME = f"{RELEASE}-aiwm-supervisor"
DATABASE = {"registryUrl": {"existingSecret": "database"}}
RELEASES = sorted((PROJECT / "tests/fixtures").glob("*/made/values.json"))


def environment(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in container["env"]}


def test_supervisors_are_replaced_one_by_one_and_nothing_of_them_is_on_a_volume() -> None:
    made = rendered_ci("postgres")
    assert made.all("StatefulSet") == made.all("HorizontalPodAutoscaler") == []
    spec = made.one("Deployment")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert made.pod["terminationGracePeriodSeconds"] == 30 + 15
    assert not [volume for volume in made.pod["volumes"] if "persistentVolumeClaim" in volume]
    mounted = {mount["mountPath"] for mount in made.supervisor["volumeMounts"]}
    assert mounted == {"/tmp", "/run/secrets/agents/agents", "/etc/database"}
    assert made.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spread = made.pod["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}
    assert all(one["labelSelector"] == spec["selector"] for one in spread)


def test_the_url_comes_from_its_secret_and_each_pod_tells_its_own_address() -> None:
    made = rendered_ci("postgres")
    given = environment(made.supervisor)
    secret = {"name": "chat-database", "key": "url"}
    assert given["SUPERVISOR_REGISTRY_URL"]["valueFrom"]["secretKeyRef"] == secret
    assert "SUPERVISOR_REGISTRY_URL" not in made.settings
    assert given["SUPERVISOR_ADVERTISE_URL"]["value"] == "http://$(POD_IP):8640"
    # Kubernetes puts in what stands before it.
    assert list(given).index("POD_IP") < list(given).index("SUPERVISOR_ADVERTISE_URL")
    plain = rendered_ci("autoscaling")
    assert plain.settings["SUPERVISOR_REGISTRY_URL"] == ci_values("autoscaling")["registryUrl"]["url"]
    assert environment(plain.supervisor)["SUPERVISOR_ADVERTISE_URL"]["value"] == "http://[$(POD_IP)]:8640"
    assert made.checksums["checksum/secrets"] != render().checksums["checksum/secrets"]


def test_as_many_as_there_is_work_for() -> None:
    made = rendered_ci("autoscaling")
    assert "replicas" not in made.one("Deployment")["spec"]
    assert made.one("Deployment")["metadata"]["annotations"] == {"example.com/reload": "no"}
    spec = made.one("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == made.one("Deployment")["metadata"]["name"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 8)
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600
    assert made.one("PodDisruptionBudget")
    assert made.pod["topologySpreadConstraints"] == ci_values("autoscaling")["topologySpreadConstraints"]


def test_the_network_policy_opens_the_way_to_the_database_and_among_supervisors() -> None:
    policy = rendered_ci("postgres").one("NetworkPolicy")["spec"]
    selector = {"podSelector": policy["podSelector"]}
    _, out, among = policy["egress"]
    assert [port["port"] for port in out["ports"]] == [443, 5432]
    assert among == {"ports": [{"port": 8640, "protocol": "TCP"}], "to": [selector]}
    assert selector in policy["ingress"][0]["from"]
    hosts = rendered_ci("autoscaling").one("NetworkPolicy")["spec"]["egress"][1]
    assert [port["port"] for port in hosts["ports"]] == [443, 5433, 5434]


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("postgresql://db/chat", [443, 5432]),
        ("postgresql+asyncpg://me@db:6432/chat?sslmode=require", [443, 6432]),
        ("postgres://[fd00::1:2]:6543/chat", [443, 6543]),
    ],
)
def test_ports_are_those_of_the_url(url: str, ports: list[int]) -> None:
    made = render({"registryUrl": {"url": url}, "networkPolicy": {"enabled": True}})
    assert [port["port"] for port in made.one("NetworkPolicy")["spec"]["egress"][1]["ports"]] == ports


def test_the_schema_is_brought_up_to_date_before_anything_that_runs_is_changed() -> None:
    made = rendered_ci("postgres")
    job = made.job("migration")
    notes = job["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
    check = made.job("check")["metadata"]["annotations"]["helm.sh/hook-weight"]
    assert int(notes["helm.sh/hook-weight"]) > int(check), "what cannot start migrates nothing"
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["db", "upgrade"]
    given = environment(container)
    assert given["SUPERVISOR_REGISTRY_POOLER"]["value"] == "transaction"
    assert given["SUPERVISOR_REGISTRY_URL"]["valueFrom"]["secretKeyRef"]["name"] == "chat-database"
    # What is there before the release is all that it may need.
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/etc/database"}
    assert FULL_NAME not in json.dumps(pod)


def test_declared_agents_are_imported_once_whatever_number_of_supervisors_runs() -> None:
    made = rendered_ci("postgres")
    assert "SUPERVISOR_AGENTS_FILE" not in made.settings
    job = made.job("import")
    assert "post-upgrade" in job["metadata"]["annotations"]["helm.sh/hook"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--keep-going", "--prune"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert not made.one("Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    # One more agent changes nothing of the pods.
    values = ci_values("postgres")
    more = render({**values, "agents": {**values["agents"], f"{2:024x}": agent(2)}})
    assert more.fleet != made.fleet
    assert more.workload == made.workload
    assert [found["metadata"]["name"] for found in render(DATABASE).all("Job")] == [
        f"{FULL_NAME}-migration",
        f"{FULL_NAME}-check",
    ]


def test_on_a_volume_all_is_as_it_was() -> None:
    made = render({"agents": [agent()]})
    kinds = {found["kind"] for found in made.objects}
    assert not kinds & {"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    assert [found["metadata"]["name"] for found in made.all("Job")] == [f"{FULL_NAME}-check"]
    assert "SUPERVISOR_ADVERTISE_URL" not in environment(made.supervisor)
    assert "topologySpreadConstraints" not in made.pod
    assert "statefulset/" in made.notes


def test_notes_name_what_there_is() -> None:
    notes = rendered_ci("postgres").notes
    assert f"rollout status deployment/{FULL_NAME}" in notes
    assert "statefulset" not in notes.lower()
    assert "Registry and journal are in PostgreSQL" in notes
    assert "by each install and upgrade" in notes


async def test_the_jobs_make_the_registry_that_the_supervisor_runs(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        sandbox.add_agent(f"{1:024x}", "s3cr3t-1")
        config = {"API_URL": sandbox.api_url, "WS_URL": sandbox.ws_url}
        with postgres.empty_database() as url:
            # In the pod the server's socket would be elsewhere.
            async with way_to(url) as way:
                secrets = {"agents": {"key-1": "s3cr3t-1"}, "database": {"registry-url": way.url}}
                pod = Pod(tmp_path, secrets)
                pod.deploy(render(DATABASE | {"config": config, "agents": [agent()]}))
                await run_jobs_and_supervisor(pod, sandbox)
        assert not list(tmp_path.rglob("*.db"))


async def run_jobs_and_supervisor(pod: Pod, sandbox: Sandbox) -> None:
    for name, said in (("migration", "(current)"), ("import", "Added 1")):
        done = await asyncio.to_thread(InProcess(pod.home, pod.environment(name)), *pod.args(name))
        assert (done.returncode, said in done.stdout) == (0, True), done.stderr
    command = Command(pod.home, pod.environment("supervisor"))
    try:
        command.start(*pod.args("supervisor"))
        await sandbox.wait_online(timeout=SECONDS)
    finally:
        # The way to the database is in this loop.
        await asyncio.to_thread(command.close)


@contextmanager
def cluster() -> Iterator[tuple[KubernetesApi, helm_python.Config]]:
    with (
        kubernetes_api(NAMESPACE) as api,
        helm_python.Config(kubeconfig_content=api.kubeconfig, namespace=NAMESPACE, storage_driver="memory") as helm,
    ):
        yield api, helm


def test_a_database_takes_over_from_a_volume_that_nobody_uses_and_that_stays() -> None:
    unchecked: dict[str, Any] = {"upgradeCheck": {"enabled": False}}
    gone = {"persistence": {"retention": {"whenDeleted": "Delete"}}}
    with cluster() as (api, helm):

        def refused() -> str:
            with pytest.raises(helm_python.HelmError) as caught:
                helm.upgrade(CHART, RELEASE, unchecked | DATABASE, namespace=NAMESPACE)
            return str(caught.value)

        helm.install(CHART, RELEASE, unchecked | gone, namespace=NAMESPACE)
        assert "volume would go with the StatefulSet" in refused()
        helm.upgrade(CHART, RELEASE, unchecked, namespace=NAMESPACE)
        assert "still runs, and both would answer: upgrade with replicas 0" in (said := refused())
        assert "volume would go" not in said
        assert api.get("StatefulSet", FULL_NAME)["spec"]["replicas"] == 1
        helm.upgrade(CHART, RELEASE, unchecked | {"replicas": 0}, namespace=NAMESPACE)
        # Rendered, and stopped by the Job for which this server has no kind.
        assert "these values cannot work" not in refused()


def test_the_readme_says_how_to_bring_a_volume_into_a_database() -> None:
    (text,) = re.findall(r"<<'END'\n(.*?)^END$", (CHART / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    job = yaml.safe_load(text)
    kubernetes_validate.validate(job, "1.34", strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    before = render(name="prod")
    claim = before.stateful_set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if volume["name"] == "data"]
    assert claims == [f"{claim}-{before.stateful_set['metadata']['name']}-0"]
    given = environment(container)
    assert container["args"] == ["db", "copy", "--to", "env:NEW_REGISTRY_URL"]
    assert given["NEW_REGISTRY_URL"]["valueFrom"]["secretKeyRef"]["key"] == "registry-url"
    assert pod["securityContext"] == {key: before.pod["securityContext"][key] for key in pod["securityContext"]}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/var/lib/aiwm-supervisor", "/tmp"}


@pytest.mark.parametrize("made", RELEASES, ids=[path.parts[-3] for path in RELEASES])
def test_values_that_an_older_version_left_are_enough(made: Path, tmp_path: Path) -> None:
    """As ``helm upgrade --reuse-values`` has them: the defaults are those of the release before."""
    older = shutil.copytree(CHART, tmp_path / CHART.name)
    (older / "values.yaml").write_text(yaml.safe_dump(json.loads(made.read_text())))
    with cluster() as (api, helm):
        # Nobody would end the check before an upgrade.
        values = {"upgradeCheck": {"enabled": False}, "replicas": 0}
        helm.install(older, RELEASE, values, namespace=NAMESPACE)
        helm.upgrade(CHART, RELEASE, {}, namespace=NAMESPACE, reuse_values=True)
        assert api.get("StatefulSet", FULL_NAME)["spec"]["replicas"] == 0
    values = DATABASE | {"agents": [agent()], "adminToken": {"existingSecret": "tokens"}}
    with helm_python.Chart.load(older) as chart:
        reused = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    assert sorted(reused.values()) == sorted(render(values).texts.values())


def test_every_template_begins_with_the_values_that_older_versions_lack() -> None:
    templates = [path for path in (CHART / "templates").rglob("*.*") if path.suffix != ".tpl"]
    assert len(templates) > 20
    for path in templates:
        assert path.read_text().startswith('{{- include "aiwm-supervisor.newerValues" . '), path.name
