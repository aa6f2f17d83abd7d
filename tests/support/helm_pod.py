"""The chart's pod on this machine: what Kubernetes would mount and set, with a folder in the place of ``/``."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.helm_chart import Rendered

#: Where the pod listens is not for a test to take: it shares the machine with others.
HERE = {"SUPERVISOR_ADMIN_HOST": "127.0.0.1", "SUPERVISOR_ADMIN_PORT": "0"}
#: Nor is the address that a pod has.
NOT_HERE = ("POD_IP", "SUPERVISOR_ADVERTISE_URL")


class Pod:
    """One pod of a release after the other, on the same volume.

    Args:
        folder: stands for the container's root.
        secrets: the Kubernetes secrets beside those of the release, by name and key.
    """

    def __init__(self, folder: Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
        self.root = folder / "root"
        self.home = folder / "app"
        self.home.mkdir(parents=True)
        self._secrets = {name: dict(values) for name, values in secrets.items()}
        # The folder that the secrets of agents are mounted in is named by itself too.
        self._mounts = {"/run/secrets/agents"}
        self.made: Rendered

    def deploy(self, made: Rendered) -> None:
        """Mount what a release wants mounted; volumes that outlive a pod keep what they hold."""
        self.made = made
        for secret in made.all("Secret"):
            plain = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
            # Helm's lookup would find and keep what is there.
            self._secrets.setdefault(secret["metadata"]["name"], plain)
        claims: dict[str, Any] = {
            claim["metadata"]["name"]: {} for claim in made.workload["spec"].get("volumeClaimTemplates", [])
        }
        for pod in self._pods():
            volumes = claims | {volume["name"]: volume for volume in pod["volumes"]}
            mounts = [mount for container in pod["containers"] for mount in container.get("volumeMounts", [])]
            self._mounts.update(mount["mountPath"] for mount in mounts)
            for mount in mounts:
                self._fill(self.path(mount["mountPath"]), volumes[mount["name"]])

    def _pods(self) -> list[dict[str, Any]]:
        """The supervisor's pod, and those of Jobs."""
        return [self.made.pod, *(job["spec"]["template"]["spec"] for job in self.made.all("Job"))]

    def path(self, inside: str) -> Path:
        """Where a path of the container is here."""
        return self.root / inside.removeprefix("/")

    def _fill(self, place: Path, volume: dict[str, Any]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        if "configMap" in volume:
            files = self.made.one("ConfigMap", volume["configMap"]["name"])["data"]
        elif "secret" in volume:
            name = volume["secret"]["secretName"]
            assert name in self._secrets or volume["secret"]["optional"], f"the pod waits for the secret {name}"
            files = self._secrets.get(name, {})
        else:
            return
        publish(place, {name: self.here(text) for name, text in files.items()})

    def here(self, text: str) -> str:
        """A text of the container with its paths as they are here."""
        mounts = "|".join(map(re.escape, sorted(self._mounts, key=len, reverse=True)))
        return re.sub(rf"(?:{mounts})(?=[/,\"]|$)", lambda found: str(self.path(found[0])), text)

    def container(self, name: str) -> dict[str, Any]:
        """A container's spec."""
        containers = [container for pod in self._pods() for container in pod["containers"]]
        return next(container for container in containers if container["name"] == name)

    def args(self, name: str) -> list[str]:
        """What a container gives the image's entry point, the supervisor's command."""
        assert "command" not in self.container(name)
        return [self.here(arg) for arg in self.container(name)["args"]]

    def environment(self, name: str) -> dict[str, str]:
        """A container's environment."""
        container = self.container(name)
        made: dict[str, str] = {}
        for source in container.get("envFrom", []):
            made |= self.made.one("ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in container["env"]:
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if entry["name"] not in NOT_HERE:
                made[entry["name"]] = (
                    self._secrets[reference["name"]][reference["key"]] if reference else entry["value"]
                )
        return {key: self.here(value) for key, value in made.items()} | HERE


def publish(place: Path, files: Mapping[str, str]) -> None:
    """Put files into a volume as the kubelet does: in a folder of their own, all at once, behind symbolic links."""
    version = len(list(place.glob("..version*")))
    folder = place / f"..version{version}"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    fresh = place / "..data_tmp"
    fresh.symlink_to(folder.name)
    fresh.rename(place / "..data")
    for link in place.iterdir():
        if link.is_symlink() and not link.name.startswith("..") and link.name not in files:
            link.unlink()
    for name in files:
        if not (place / name).is_symlink():
            (place / name).symlink_to(f"..data/{name}")
