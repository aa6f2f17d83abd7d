"""The checks in their order, and what each of them cannot know."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy import requirements
from deploy.container_check import image, room, static
from deploy.container_check.dockerfile import Stage, read
from deploy.container_check.image import StepError
from deploy.container_check.replay import Replay, ReplayError
from deploy.container_check.report import Report

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ["fast", "llm", "otel"]
#: Several scrapes at the interval of prometheus/prometheus.yml.
SCRAPED_SECONDS = 90.0


def main() -> int:
    """Run the checks that the options ask for; the exit code."""
    parser = argparse.ArgumentParser(prog="deploy/check-container", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="without a network: dependencies are borrowed from this Python's environment, and Prometheus is left out",
    )
    quick: bool = parser.parse_args().quick
    report = Report()
    compose = static.check(ROOT, report)
    stage = read(ROOT / "Dockerfile")[-1]
    with tempfile.TemporaryDirectory(prefix="check-container-") as folder:
        _build_and_replay(report, compose, stage, Path(folder), quick=quick)
    _engine(report, quick=quick)
    report.not_checked("Grafana", "no Grafana runs here; its files are checked, and its dashboards by the tests")
    report.not_checked("images", f"{', '.join(_pulled(compose))} and the base image were not pulled")
    return report.close()


def _pulled(compose: dict[str, Any]) -> list[str]:
    return [service["image"] for service in compose["services"].values() if "build" not in service]


def _build_and_replay(report: Report, compose: dict[str, Any], stage: Stage, folder: Path, *, quick: bool) -> None:
    wheel: list[Path] = []
    step(report, "the wheel can be built", lambda: wheel.append(image.build_wheel(ROOT, folder / "dist")))
    if not wheel:
        return
    report.result("the wheel holds the package, the bundled agents and their pages", image.contents(wheel[0], ROOT))
    what = "the image's steps, and compose.yaml played as processes"
    if why := room.missing():
        report.not_checked(what, why)
        return
    (folder / "room").mkdir()
    made = room.Room(folder / "room", Path(sys.executable), [*compose["services"]])
    wanted = None if quick else _requirements(folder / "requirements")
    if not step(
        report,
        f"the wheel is installed with {'borrowed' if quick else 'pinned'} dependencies, without the source tree",
        lambda: image.install(made, wheel[0], wanted, ROOT / "constraints.txt"),
    ):
        return
    with made, Replay(ROOT, compose, stage, made) as replay:
        _replay(report, replay, quick=quick)


def _requirements(folder: Path) -> Path:
    folder.mkdir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    file = folder / "requirements.txt"
    file.write_text("\n".join(requirements.requirements(project, EXTRAS)))
    return file


def _replay(report: Report, replay: Replay, *, quick: bool) -> None:
    samples = len(static.load_compose(ROOT / "deploy/compose/agents.yaml")["agents"])

    def starts() -> None:
        replay.up("supervisor")
        replay.healthy("supervisor")

    if not step(report, "sandbox, import and supervisor come up in compose.yaml's order and are healthy", starts):
        return
    step(report, "all sample agents are online", lambda: _metric(replay, "supervisor_agent_up", samples))
    step(report, "people talk and are answered", lambda: _metric(replay, "supervisor_messages_handled_total", 3))
    step(report, "the API refuses who has no token, and the token is the one that was made", lambda: _token(replay))
    step(report, "nothing but the volume and /tmp can be written to", lambda: _read_only(replay))
    if quick:
        report.not_checked("Prometheus against the supervisor", "left out with --quick")
    elif shutil.which("prometheus") is None:
        report.not_checked("Prometheus against the supervisor", "there is none: apt-get install prometheus")
    else:
        step(report, "Prometheus finds the supervisor and stores its figures", lambda: _scraped(replay))
    step(report, "SIGTERM drains the supervisor and ends it with 0", lambda: _stops(replay, "supervisor"))
    step(report, "SIGTERM ends the sandbox with 0", lambda: _stops(replay, "sandbox"))


def step(report: Report, what: str, work: Callable[[], object]) -> bool:
    """Do something that raises when it goes wrong, and tell of it; whether it went well."""
    try:
        work()
    except (StepError, ReplayError, subprocess.TimeoutExpired) as error:
        return report.result(what, [str(error)])
    return report.result(what, [])


#: What asks a URL inside, with one header, and prints the answer.
_ASK = """
import sys, urllib.request
asked = urllib.request.Request(sys.argv[1], headers={sys.argv[2]: sys.argv[3]})
print(urllib.request.urlopen(asked).read().decode())
"""


def _get(replay: Replay, url: str, *header: str) -> str:
    done = replay.inside("supervisor", ["python", "-c", _ASK, url, *(header or ("Accept", "*/*"))])
    return done.stdout if done.returncode == 0 else ""


def _metric(replay: Replay, name: str, least: float) -> None:
    """Wait until the series of a metric add up to ``least``, as another service sees them."""

    def enough() -> bool:
        lines = [line for line in _get(replay, "http://supervisor:8640/metrics").splitlines() if line.startswith(name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines) >= least

    replay.until(enough, f"{name} to reach {least:g}")


def _token(replay: Replay) -> None:
    url = "http://supervisor:8640/api/v1/status"
    if _get(replay, url):
        raise ReplayError("the API answered without a token")
    token = replay.inside("supervisor", ["cat", "/run/secrets/supervisor_admin_token"]).stdout.strip()
    if '"online"' not in _get(replay, url, "Authorization", f"Bearer {token}"):
        raise ReplayError("the API does not take the token")
    if (said := replay.inside("supervisor", ["supervisor", "status"])).returncode:
        raise ReplayError(f"supervisor status, inside: {said.stderr.strip()}")


def _read_only(replay: Replay) -> None:
    for place in ("/", "/app", "/opt/aiwm-supervisor", "/run/secrets", "/usr"):
        if replay.inside("supervisor", ["touch", f"{place}/probe"]).returncode == 0:
            raise ReplayError(f"{place} can be written to")
    for place in ("/tmp", "/var/lib/aiwm-supervisor"):
        if replay.inside("supervisor", ["touch", f"{place}/probe"]).returncode:
            raise ReplayError(f"{place} cannot be written to")


def _scraped(replay: Replay) -> None:
    replay.up("prometheus")
    url = "http://prometheus:9090/api/v1/query?query=sum(supervisor_agent_up)"
    replay.until(lambda: '"value":' in _get(replay, url), "Prometheus to have figures", SCRAPED_SECONDS)


def _stops(replay: Replay, name: str) -> None:
    if code := replay.stop(name):
        raise ReplayError(f"it ended with {code}")


def _engine(report: Report, *, quick: bool) -> None:
    """Build for real where an engine answers."""
    what = "a build by a container engine"
    if quick:
        report.not_checked(what, "left out with --quick")
        return
    for engine in ("docker", "podman"):
        if shutil.which(engine) and not subprocess.run([engine, "info"], capture_output=True, check=False).returncode:
            break
    else:
        report.not_checked(what, "no engine answers here")
        return
    tag = "aiwm-supervisor:check"
    step(report, f"{engine} builds the image", lambda: image.run([engine, "build", "--tag", tag, str(ROOT)], 1800))
    asked = [engine, "run", "--rm", "--read-only", "--network=none", "--tmpfs=/tmp", tag, "demo", "--ask", "hello"]
    step(report, "and it answers, read-only and without a network", lambda: image.run(asked))
