"""The chart, rendered by Helm's own engine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import helm_python
import yaml

PROJECT = Path(__file__).resolve().parents[2]
CHART = PROJECT / "helm" / "aiwm-supervisor"
NAMESPACE, RELEASE = "chat-system", "prod"
# The dashboards are long, and PyYAML's own loader is slow.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CI = sorted((CHART / "ci").glob("*-values.yaml"))


@cache
def chart() -> helm_python.Chart:
    """The chart, loaded once for all tests of a process."""
    return helm_python.Chart.load(CHART)


def ci_values(name: str) -> dict[str, Any]:
    """The values of ``ci/<name>-values.yaml``, as Helm reads them."""
    return helm_python.values_from_yaml((CHART / "ci" / f"{name}-values.yaml").read_text())


@dataclass(frozen=True)
class Rendered:
    """What the chart makes of some values."""

    texts: dict[str, str]

    @property
    def notes(self) -> str:
        """What the operator is told."""
        return self.texts["NOTES.txt"]

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """Every Kubernetes object."""
        manifests = [text for path, text in self.texts.items() if path != "NOTES.txt"]
        return [made for text in manifests for made in yaml.load_all(text, _LOADER) if made]

    def all(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        return [made for made in self.objects if made["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """The only object of a kind (and name)."""
        (found,) = (made for made in self.all(kind) if name is None or made["metadata"]["name"] == name)
        return found

    @property
    def stateful_set(self) -> dict[str, Any]:
        """What runs the supervisor on a volume."""
        return self.one("StatefulSet")

    @property
    def workload(self) -> dict[str, Any]:
        """What runs the supervisor."""
        (found,) = self.all("StatefulSet") + self.all("Deployment")
        return found

    @property
    def pod(self) -> dict[str, Any]:
        """The pod's spec."""
        spec: dict[str, Any] = self.workload["spec"]["template"]["spec"]
        return spec

    def job(self, ending: str) -> dict[str, Any]:
        """The Job whose name ends so."""
        (found,) = (made for made in self.all("Job") if made["metadata"]["name"].endswith(f"-{ending}"))
        return found

    @property
    def supervisor(self) -> dict[str, Any]:
        """The supervisor's container."""
        return next(made for made in self.pod["containers"] if made["name"] == "supervisor")

    @property
    def checksums(self) -> dict[str, str]:
        """The pod's annotations that change with what it reads."""
        notes: dict[str, str] = self.workload["spec"]["template"]["metadata"]["annotations"]
        return {name: value for name, value in notes.items() if name.startswith("checksum/")}

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the ConfigMap puts into the environment."""
        maps = (made for made in self.all("ConfigMap") if made["metadata"]["name"].endswith("-settings"))
        settings: dict[str, str] = next(maps)["data"]
        return settings

    @property
    def fleet(self) -> str:
        """The file of agents that is imported."""
        maps = (made for made in self.all("ConfigMap") if made["metadata"]["name"].endswith("-agents"))
        return str(next(maps)["data"]["agents.yaml"])


def render(values: dict[str, Any] | None = None, **options: Any) -> Rendered:
    """Render the chart as an install would."""
    made = chart().render(values or {}, **{"name": RELEASE, "namespace": NAMESPACE, **options})
    # Without the folders, which are the same for all: aiwm-supervisor/templates/.
    return Rendered({path.partition("/templates/")[2]: text for path, text in made.items()})


def readme_values() -> list[dict[str, Any]]:
    """The values that the chart's README shows."""
    text = (CHART / "README.md").read_text()
    examples = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [helm_python.values_from_yaml(example) for example in examples]


@cache
def rendered_ci(name: str) -> Rendered:
    """What the chart makes of ``ci/<name>-values.yaml``; not to be changed, others look at it too."""
    return render(ci_values(name))


def refusal(values: dict[str, Any]) -> str:
    """Why Helm refuses these values; fails when it does not."""
    try:
        render(values)
    except helm_python.HelmError as error:
        return str(error)
    raise AssertionError(f"not refused: {json.dumps(values)}")


def agent(number: int = 1, **fields: Any) -> dict[str, Any]:
    """The values of one agent."""
    return {"id": f"{number:024x}", "handler": "echo", "secretRef": {"name": "agents", "key": f"key-{number}"}} | fields
