"""What the chart renders is sound: for Helm's linter, Kubernetes' schemas, and those who watch over security."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from supervisor import __version__
from tests.support.command import InProcess
from tests.support.helm_chart import CHART, CI, NAMESPACE, PROJECT, Rendered, agent, ci_values, render, rendered_ci

CASES = ["defaults", *(path.name.removesuffix("-values.yaml") for path in CI)]
#: The oldest that the chart takes and the newest that the validator knows well.
KUBERNETES = ["1.27", "1.34"]
OPERATOR_KINDS = {"ServiceMonitor", "PrometheusRule", "AlertmanagerConfig", "HTTPRoute"}
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
LINT = YamlLintConfig(
    """
    extends: default
    rules:
      document-start: disable
      line-length: disable
      comments-indentation: disable
      braces: {max-spaces-inside: 1}
      indentation: {spaces: 2, indent-sequences: whatever}
      empty-lines: {max: 2, max-start: 1, max-end: 1}
      quoted-strings: disable
      truthy: {check-keys: true}
    """
)


def values(case: str) -> dict[str, Any]:
    return {} if case == "defaults" else ci_values(case)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rendered(case: str) -> Rendered:
    return render() if case == "defaults" else rendered_ci(case)


def test_there_are_cases_beside_the_defaults() -> None:
    assert len(CASES) >= 5


def test_helms_linter_finds_nothing(case: str) -> None:
    report = helm_python.lint(CHART, values(case), strict=True, namespace=NAMESPACE, kube_version="v1.30.0")
    found = [message for message in report["messages"] if "icon is recommended" not in message["error"]]
    assert (found, report["errors"]) == ([], [])


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_fits_kubernetes_schemas(rendered: Rendered, version: str) -> None:
    objects = [made for made in rendered.objects if made["kind"] not in OPERATOR_KINDS]
    assert {rendered.workload["kind"], "Service", "ConfigMap", "Pod"} <= {made["kind"] for made in objects}
    for made in objects:
        kubernetes_validate.validate(made, version, strict=True)


def test_the_validator_would_notice() -> None:
    broken = render().stateful_set  # a rendering of its own
    broken["spec"]["template"]["spec"]["containers"][0]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(broken, KUBERNETES[0], strict=True)


def test_rendered_yaml_is_clean(rendered: Rendered) -> None:
    for path, text in rendered.texts.items():
        # Dashboards are JSON, and what the operator adds is taken as it is.
        if path.endswith(".yaml") and path not in ("dashboards.yaml", "extra.yaml") and text.strip():
            assert [f"{path}:{found}" for found in linter.run(text.strip("\n") + "\n", LINT)] == []


@pytest.mark.parametrize("path", [CHART / "values.yaml", CHART / "Chart.yaml", *CI], ids=lambda path: path.name)
def test_the_charts_own_yaml_is_clean(path: Path) -> None:
    assert [str(found) for found in linter.run(path.read_text(), LINT)] == []


def test_every_pod_is_restricted(rendered: Rendered) -> None:
    pods = [rendered.pod, rendered.one("Pod")["spec"]]
    jobs = [*rendered.all("Job"), *(made["spec"]["jobTemplate"] for made in rendered.all("CronJob"))]
    assert jobs
    for pod in [*pods, *(job["spec"]["template"]["spec"] for job in jobs)]:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == RESTRICTED, container["name"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume]
    for container in [rendered.supervisor, pods[1]["containers"][0]]:
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
    assert {"name": "tmp", "mountPath": "/tmp"} in rendered.supervisor["volumeMounts"]
    assert {"name": "tmp", "emptyDir": {}} in rendered.pod["volumes"]


def test_every_object_says_whose_it_is(rendered: Rendered, case: str) -> None:
    for made in rendered.objects:
        if "extra" in made["metadata"]["name"] or made["metadata"]["name"].endswith("-text"):
            continue
        labels = made["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "prod"
        assert labels["app.kubernetes.io/version"] == __version__
        assert labels["helm.sh/chart"] == f"aiwm-supervisor-{__version__}"
        assert labels.get("team") == values(case).get("commonLabels", {}).get("team")
        assert made["metadata"]["namespace"] in (NAMESPACE, "monitoring")


def test_probes_are_apart() -> None:
    container = render().supervisor
    paths = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert [probe["path"] for probe in paths] == ["/livez", "/livez", "/readyz"]
    assert {probe["port"] for probe in paths} == {container["ports"][0]["name"]}
    assert container["ports"][0]["containerPort"] == 8640
    # A registry that has to be migrated first is not killed in the middle of it.
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 300


def test_services_reach_the_supervisor_and_nothing_else() -> None:
    made = render({"backup": {"enabled": True}})
    labels = made.stateful_set["spec"]["template"]["metadata"]["labels"]
    services = made.all("Service")
    assert made.stateful_set["spec"]["serviceName"] in [service["metadata"]["name"] for service in services]
    cron = made.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    for service in services:
        selector = service["spec"]["selector"].items()
        assert selector <= labels.items()
        for other in (made.one("Pod"), made.one("Job")["spec"]["template"], cron):
            assert not selector <= other["metadata"]["labels"].items()


def test_secrets_are_referred_to_and_never_rendered() -> None:
    made = rendered_ci("full")
    assert made.all("Secret") == []
    env = {entry["name"]: entry for entry in made.supervisor["env"]}
    assert env["SUPERVISOR_ADMIN_TOKEN"]["valueFrom"]["secretKeyRef"] == {
        "name": "supervisor-tokens",
        "key": "admin-token",
    }
    assert env["SUPERVISOR_METRICS_TOKEN"]["valueFrom"]["secretKeyRef"]["key"] == "metrics-token"
    assert env["SUPERVISOR_ADMIN_READ_TOKEN"]["valueFrom"]["secretKeyRef"]["key"] == "admin-read-token"
    assert env["SUPERVISOR_SECRET_KEYS"]["valueFrom"]["secretKeyRef"] == {"name": "supervisor-keys", "key": "fernet"}
    proxy = {entry["name"]: entry for entry in rendered_ci("existing").supervisor["env"]}
    assert proxy["SUPERVISOR_PROXY"]["valueFrom"]["secretKeyRef"] == {"name": "proxy", "key": "proxy"}
    headers = {"name": "collector", "key": "otlp-headers"}
    assert proxy["SUPERVISOR_OTLP_HEADERS"]["valueFrom"]["secretKeyRef"] == headers


def test_a_token_is_made_where_none_is_given() -> None:
    made = render()
    (token,) = made.one("Secret")["data"].values()
    assert len(base64.b64decode(token)) == 40
    reference = made.supervisor["env"][0]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": made.one("Secret")["metadata"]["name"], "key": "admin-token"}
    assert base64.b64decode(token).decode() not in made.notes
    assert render().one("Secret")["data"] != made.one("Secret")["data"]


def test_the_supervisor_watches_what_agents_declares() -> None:
    made = rendered_ci("full")
    mounts = {mount["mountPath"]: mount["name"] for mount in made.supervisor["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in made.pod["volumes"]}
    folder, _, name = made.settings["SUPERVISOR_AGENTS_FILE"].rpartition("/")
    # The whole folder: a single file of a ConfigMap would never change in the pod.
    assert volumes[mounts[folder]]["configMap"]["name"] == "chat-agents"
    assert name in made.one("ConfigMap", "chat-agents")["data"]
    assert made.settings["SUPERVISOR_AGENTS_PRUNE"] == "true"
    assert render().settings["SUPERVISOR_AGENTS_PRUNE"] == "false"
    own = render({"config": {"AGENTS_FILE": "/mnt/fleet.yaml"}})
    assert own.settings["SUPERVISOR_AGENTS_FILE"] == "/mnt/fleet.yaml"


def test_one_missing_secret_of_an_agent_keeps_no_other_agent_from_running() -> None:
    made = render({"agents": [agent(1), agent(2), agent(3, secretRef={"name": "other"})]})
    volumes = {volume["name"]: volume["secret"] for volume in made.pod["volumes"] if "secret" in volume}
    mounted = {mount["mountPath"]: volumes.get(mount["name"]) for mount in made.supervisor["volumeMounts"]}
    # The kubelet gives the files to the pod's group, and nobody else reads them.
    for name in ("agents", "other"):
        secret = {"secretName": name, "defaultMode": 0o440, "optional": True}
        assert mounted[f"/run/secrets/agents/{name}"] == secret
    secrets = [found["secret"] for found in json.loads(made.fleet)["agents"]]
    folder = "file:/run/secrets/agents"
    assert secrets == [f"{folder}/agents/key-1", f"{folder}/agents/key-2", f"{folder}/other/secret"]
    assert made.pod["securityContext"]["fsGroup"]
    elsewhere = {"id": f"{1:024x}", "handler": "echo", "secret": "file:/mnt/vault/x"}
    assert json.loads(render({"agents": [elsewhere]}).fleet) == {"agents": [elsewhere]}


def test_an_upgrade_first_starts_the_new_image_beside_the_fleet() -> None:
    made = rendered_ci("full")
    job = made.one("Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    (check,) = pod["containers"]
    assert (check["image"], check["args"]) == (made.supervisor["image"], ["config", "--check"])
    # What is there before the upgrade is all that it may need: of the release itself it names nothing.
    given = {entry["name"]: entry for entry in check["env"]}
    owned = {"SUPERVISOR_REGISTRY_URL", "SUPERVISOR_AGENTS_FILE", "SUPERVISOR_AGENTS_PRUNE", "SUPERVISOR_AGENTS_DIR"}
    assert made.settings.keys() - owned <= given.keys()
    assert "chat-" not in json.dumps(pod)
    assert {mount["name"] for mount in check["volumeMounts"]} == {"tmp", "vault"}
    defaults = render().one("Job")["spec"]["template"]["spec"]
    assert "secretKeyRef" not in json.dumps(defaults)
    assert render({"upgradeCheck": {"enabled": False}}).all("Job") == []
    assert rendered_ci("existing").one("Job")["spec"]["template"]["spec"]["serviceAccountName"] == "chat"


@pytest.mark.parametrize(
    ("case", "code", "said"),
    [({}, 0, ""), ({"CA_FILE": "/nonexistent.pem"}, 1, "CA_FILE"), ({"PRICES": "{"}, 1, "PRICES")],
    ids=["well", "authorities", "settings"],
)
def test_the_check_before_an_upgrade_ends_as_the_start_would(
    tmp_path: Path, case: dict[str, Any], code: int, said: str
) -> None:
    (check,) = render({"config": case}).one("Job")["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in check["env"]}
    done = InProcess(tmp_path, environment)(*check["args"])
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_backups_are_made_where_the_registry_is() -> None:
    assert render().all("CronJob") == []
    made = rendered_ci("full")
    job = made.one("CronJob")["spec"]
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    (backup,) = pod["containers"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("17 3 * * *", "Forbid")
    assert backup["args"] == ["db", "backup", "/backups/", "--keep", "30"]
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if v["name"] != "tmp"}
    template = made.stateful_set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert claims == {"data": f"{template}-{made.stateful_set['metadata']['name']}-0", "backups": "chat-backups"}
    mounts = {mount["mountPath"]: mount["name"] for mount in backup["volumeMounts"]}
    assert mounts.items() >= {("/backups", "backups"), ("/var/lib/aiwm-supervisor", "data")}
    (near,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert near["labelSelector"]["matchLabels"] == made.stateful_set["spec"]["selector"]["matchLabels"]
    beside = render({"backup": {"enabled": True}})
    assert "/var/lib/aiwm-supervisor/backups/" in str(beside.one("CronJob"))
    assert "do not outlive it" in beside.notes
    assert "do not outlive it" not in made.notes


def test_a_gateway_reaches_the_service() -> None:
    assert render().all("HTTPRoute") == []
    made = rendered_ci("full")
    route = made.one("HTTPRoute")["spec"]
    assert route["parentRefs"] == [{"name": "public", "namespace": "gateways"}]
    (rule,) = route["rules"]
    (backend,) = rule["backendRefs"]
    assert backend == {"name": "chat", "port": made.one("Service", "chat")["spec"]["ports"][0]["port"]}
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]


def test_options_of_service_pods_and_claim_are_passed_on() -> None:
    made = rendered_ci("full")
    service = made.one("Service", "chat")["spec"]
    given = ci_values("full")["service"]
    for name in ("externalTrafficPolicy", "ipFamilyPolicy", "ipFamilies", "loadBalancerSourceRanges", "clusterIP"):
        assert service[name] == given[name], name
    assert service["ports"][0]["nodePort"] == 30640
    assert made.one("Service", "chat")["metadata"]["labels"]["scrape"] == "no"
    cron = made.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for pod in (made.pod, made.one("Pod")["spec"], made.one("Job")["spec"]["template"]["spec"], cron):
        assert pod["dnsPolicy"] == "None"
        assert pod["dnsConfig"] == {"nameservers": ["10.0.0.10"]}
        assert pod["hostAliases"] == [{"ip": "10.0.0.5", "hostnames": ["aiwm.example.com"]}]
    (claim,) = made.stateful_set["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["labels"]["backup"] == "yes"
    assert {name: claim["spec"][name] for name in ("storageClassName", "volumeName", "selector", "dataSource")} == {
        "storageClassName": "",
        "volumeName": "chat-volume",
        "selector": {"matchLabels": {"for": "chat"}},
        "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "before"},
    }
    spec = render().stateful_set["spec"]["volumeClaimTemplates"][0]["spec"]
    assert spec.keys() == {"accessModes", "resources"}
    assert made.supervisor["livenessProbe"]["terminationGracePeriodSeconds"] == 30


def test_annotations_of_all_objects_are_on_all_objects() -> None:
    made = rendered_ci("full")
    for found in made.objects:
        if found["metadata"]["name"] not in ("chat-extra", "prod-text"):
            assert found["metadata"]["annotations"]["example.com/owner"] == "chat-team", found["kind"]
    assert made.stateful_set["metadata"]["annotations"]["example.com/reload"] == "no"
    assert "example.com/owner" not in json.dumps(made.stateful_set["spec"])


@pytest.mark.parametrize(
    ("policy", "warned"), [({}, True), ({"ingressFrom": [{"podSelector": {}}]}, False), ({"enabled": False}, False)]
)
def test_notes_warn_of_a_prometheus_that_is_shut_out(policy: dict[str, Any], warned: bool) -> None:
    given = {"serviceMonitor": {"enabled": True}, "networkPolicy": {"enabled": True, **policy}}
    assert ("is shut out, and finds its target down" in render(given).notes) is warned
    assert "shut out" not in render({"networkPolicy": {"enabled": True}}).notes


def test_storage_is_kept_by_default_and_chosen_otherwise() -> None:
    spec = render().stateful_set["spec"]
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["data"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert render().settings["SUPERVISOR_REGISTRY_URL"].startswith("sqlite+aiosqlite:////var/lib/aiwm-supervisor/")

    existing = rendered_ci("existing")
    assert "volumeClaimTemplates" not in existing.stateful_set["spec"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "chat-registry"}} in existing.pod["volumes"]
    ephemeral = rendered_ci("ephemeral")
    assert {"name": "data", "emptyDir": {"sizeLimit": "500Mi"}} in ephemeral.pod["volumes"]
    assert "WARNING" in ephemeral.notes


def test_the_network_policy_opens_the_ports_that_are_needed() -> None:
    assert render().all("NetworkPolicy") == []
    policy = rendered_ci("full").one("NetworkPolicy")["spec"]
    dns, platform, extra = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert [port["port"] for port in platform["ports"]] == [443, 8443, 3128, 4318]
    assert extra["ports"] == [{"port": 8000}]
    (ingress,) = policy["ingress"]
    assert [sorted(peer) for peer in ingress["from"]] == [["namespaceSelector"], ["podSelector"]]
    sandbox = rendered_ci("ephemeral").one("NetworkPolicy")["spec"]
    assert [port["port"] for port in sandbox["egress"][1]["ports"]] == [443, 8641]
    assert sandbox["ingress"][0]["from"] == [{"podSelector": {}}]


@pytest.mark.parametrize(
    ("policy", "warned"),
    [
        ({}, True),
        ({"egressPorts": []}, True),
        ({"egressPorts": [443, 3128]}, False),
        ({"extraEgress": [{"ports": [{"port": 3128}]}]}, False),
        ({"enabled": False}, False),
    ],
    ids=str,
)
def test_notes_warn_of_a_proxy_whose_port_nobody_opens(policy: dict[str, Any], warned: bool) -> None:
    given = {"proxy": {"existingSecret": "of-the-proxy"}, "networkPolicy": {"enabled": True, **policy}}
    assert ("of-the-proxy, where the chart cannot read it" in render(given).notes) is warned
    assert "cannot read it" not in render({"networkPolicy": {"enabled": True}}).notes


def test_prometheus_finds_metrics_and_alerts_where_they_are_wanted() -> None:
    assert render().all("ServiceMonitor") == render().all("PrometheusRule") == []
    made = rendered_ci("full")
    monitor = made.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "15s")
    assert endpoint["authorization"]["credentials"] == {"name": "supervisor-tokens", "key": "metrics-token"}
    selected = [
        port["name"]
        for service in made.all("Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        for port in service["spec"]["ports"]
    ]
    assert selected.count(endpoint["port"]) == 1
    original = (PROJECT / "prometheus/alerts.yaml").read_text()
    plain = render({"prometheusRule": {"enabled": True}}).one("PrometheusRule")
    assert plain["spec"] == yaml.safe_load(original)
    linked = original.replace("docs/runbook.md#", "https://docs.example.com/chat/runbook#")
    assert made.one("PrometheusRule")["spec"] == yaml.safe_load(linked) != plain["spec"]
    # Where an alert names its scrape job, that is the one under which this monitor's target goes.
    jobs = set(re.findall(r'job="([^"]+)"', original))
    pod = ["__meta_kubernetes_namespace", "__meta_kubernetes_pod_name"]
    assert endpoint["relabelings"] == [
        {"targetLabel": "job", "replacement": jobs.pop()},
        # The same after a rollout: what looks back (changes(), offset) would find nothing under a new pod's address.
        {"sourceLabels": pod, "separator": "/", "targetLabel": "instance"},
        *ci_values("full")["serviceMonitor"]["relabelings"],
    ]
    assert not jobs


def test_alerts_are_changed_and_left_out_by_values(promtool: str, tmp_path: Path) -> None:
    thresholds = yaml.safe_load((PROJECT / "prometheus/thresholds.yaml").read_text())
    changes: dict[str, Any] = {name: {"threshold": 0.125, "severity": "page", "for": "7m"} for name in thresholds}
    changes["SupervisorAbsent"] = {"enabled": False}
    made = render({"prometheusRule": {"enabled": True, "alerts": changes}}).one("PrometheusRule")["spec"]
    before = {rule["alert"]: rule for rule in _alerts(yaml.safe_load((PROJECT / "prometheus/alerts.yaml").read_text()))}
    after = {rule["alert"]: rule for rule in _alerts(made)}
    assert before.keys() - after.keys() == {"SupervisorAbsent"}
    for name, part in thresholds.items():
        figure = re.sub(r"[0-9.]+", "0.125", part)
        assert (after[name]["expr"], before[name]["expr"].count(part) > 0) == (
            before[name]["expr"].replace(part, figure),
            True,
        ), name
        assert (after[name]["labels"]["severity"], after[name]["for"]) == ("page", "7m")
    same = before.keys() - changes.keys()
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(made))
    command = [promtool, "check", "rules", str(tmp_path / "rules.yaml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    # What none of them is left of is no group at all.
    journal = {name: {"enabled": False} for name, rule in before.items() if "ournal" in name or "Registry" in name}
    names = [
        group["name"]
        for group in render({"prometheusRule": {"enabled": True, "alerts": journal}}).one("PrometheusRule")["spec"][
            "groups"
        ]
    ]
    assert "aiwm-supervisor.journal" not in names
    assert "aiwm-supervisor.agents" in names


def _alerts(rules: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


def test_causes_silence_their_consequences() -> None:
    assert rendered_ci("full").all("AlertmanagerConfig") == []
    made = render({"prometheusRule": {"enabled": True, "inhibition": {"enabled": True, "labels": {"to": "pager"}}}})
    config = made.one("AlertmanagerConfig")
    assert config["metadata"]["labels"]["to"] == "pager"
    known = {rule["alert"] for rule in _alerts(made.one("PrometheusRule")["spec"])}
    for rule in config["spec"]["inhibitRules"]:
        assert rule["equal"][:2] == ["job", "instance"]
        for match in rule["sourceMatch"] + rule["targetMatch"]:
            if match["name"] == "alertname" and match["value"] != "Supervisor.+":
                assert set(match["value"].split("|")) <= known


def test_each_dashboard_is_a_config_map_for_grafanas_sidecar() -> None:
    assert "grafana_dashboard" not in "".join(render().texts.values())
    made = rendered_ci("full")
    boards = [made for made in made.all("ConfigMap") if made["metadata"]["name"].endswith("-dashboard")]
    assert all(board["metadata"]["labels"]["grafana_dashboard"] == "1" for board in boards)
    contents = {name: json.loads(text) for board in boards for name, text in board["data"].items()}
    originals = sorted((PROJECT / "grafana").glob("*.json"))
    # Of all releases of a cluster in one folder.
    assert contents == {f"{NAMESPACE}-chat-{path.name}": json.loads(path.read_text()) for path in originals}
    assert len(boards) == len(originals) >= 3
    for board in boards:
        assert board["metadata"]["annotations"]["grafana_folder"] == "Chat"
        assert board["metadata"]["namespace"] == "monitoring"
        assert len(board["metadata"]["name"]) <= 63


def test_dashboards_of_two_releases_stand_beside_each_other() -> None:
    def boards(config: dict[str, str] | None = None, **dashboards: str) -> dict[str, Any]:
        made = render({"config": config or {}, "dashboards": {"enabled": True, **dashboards}})
        maps = [found["data"] for found in made.all("ConfigMap") if found["metadata"]["name"].endswith("-dashboard")]
        return {name: json.loads(text) for data in maps for name, text in data.items()}

    first, second = boards(), boards(prefix="staging", currency="CHF")
    uids = {board["uid"] for board in first.values()} | {board["uid"] for board in second.values()}
    assert len(uids) == 2 * len(first)
    assert not {board["title"] for board in first.values()} & {board["title"] for board in second.values()}
    written = json.dumps(second)
    assert "aiwm-fleet" not in written
    assert "/d/staging-fleet" in written
    units = {
        panel["fieldConfig"]["defaults"].get("unit")
        for board in second.values()
        for panel in board["panels"]
        if "fieldConfig" in panel
    }
    assert "currency:CHF " in units
    assert "currencyUSD" not in written
    assert "currencyUSD" in json.dumps(first)
    assert boards({"CURRENCY": "chf"}, prefix="staging") == second
    assert boards({"CURRENCY": "USD"}) == first


def test_the_pod_is_one_for_the_image() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text()

    def said(instruction: str) -> str:
        return str(re.findall(rf"^{instruction} (.+)$", dockerfile, re.MULTILINE)[-1])

    made = render()
    context = made.pod["securityContext"]
    assert said("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert said("VOLUME") in [mount["mountPath"] for mount in made.supervisor["volumeMounts"]]
    assert int(said("EXPOSE")) == made.supervisor["ports"][0]["containerPort"]
    # The containers give this only its arguments.
    assert json.loads(said("ENTRYPOINT")) == ["supervisor"]
    assert made.supervisor["args"] == json.loads(said("CMD"))


def test_programs_of_the_command_handler_are_reaped() -> None:
    assert "shareProcessNamespace" not in render().pod
    assert render({"config": {"ALLOW_COMMANDS": True}}).pod["shareProcessNamespace"] is True


def test_what_people_add_is_there() -> None:
    made = rendered_ci("full")
    pod, container = made.pod, made.supervisor
    assert container["image"] == (
        "registry.example.com:5000/chat/aiwm-supervisor:0.1.0@sha256:"
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    )
    assert pod["imagePullSecrets"] == [{"name": "registry-login"}]
    assert made.settings["SUPERVISOR_OTLP_ENDPOINT"] == "http://otel-collector:4318"
    assert "AGENT_SIGNING_KEY" in [entry["name"] for entry in container["env"]]
    assert {"secretRef": {"name": "model-keys"}} in container["envFrom"]
    assert "vault" in [volume["name"] for volume in pod["volumes"]]
    assert "/mnt/vault" in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert [init["name"] for init in pod["initContainers"]] == ["wait"]
    assert [made["name"] for made in pod["containers"]] == ["supervisor", "beside"]
    for key in ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName"):
        assert pod[key] == ci_values("full")[key]
    template = made.stateful_set["spec"]["template"]["metadata"]
    assert template["labels"]["tier"] == "chat"
    assert template["annotations"]["example.com/note"] == "yes"
    assert made.one("ConfigMap", "chat-extra")["data"] == {"release": "prod"}
    assert made.one("ConfigMap", "prod-text")["data"] == {"text": "yes"}
    ingress = made.one("Ingress")["spec"]
    assert [rule["host"] for rule in ingress["rules"]] == ["chat.example.com", "console.example.com"]
    assert ingress["rules"][0]["http"]["paths"][0]["path"] == "/"
    assert made.one("ServiceAccount")["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]


def test_handlers_come_from_a_config_map_or_a_volume() -> None:
    made = rendered_ci("full")
    assert made.settings["SUPERVISOR_AGENTS_DIR"] == "/etc/aiwm-supervisor/handlers"
    code = made.one("ConfigMap", "chat-handlers")["data"]
    assert code == ci_values("full")["handlers"]["files"]
    for text in code.values():
        compile(text, "handler", "exec")
    mounts = {mount["mountPath"]: mount for mount in made.supervisor["volumeMounts"]}
    assert mounts["/etc/aiwm-supervisor/handlers"]["readOnly"] is True
    assert {"name": "handlers", "configMap": {"name": "chat-handlers"}} in rendered_ci("existing").pod["volumes"]
    claim = {"claimName": "handlers", "readOnly": True}
    assert {"name": "handlers", "persistentVolumeClaim": claim} in rendered_ci("ephemeral").pod["volumes"]
    assert "SUPERVISOR_AGENTS_DIR" not in render().settings
