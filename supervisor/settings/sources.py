"""Where variables of ours stand: in the environment and in a file, each without what is somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource

from supervisor.settings.env_file import read_env_file

PREFIX = "SUPERVISOR_"
#: What a person chose, or was given, and may hold any character.
PASSWORDS = frozenset({f"{PREFIX}ADMIN_TOKEN", f"{PREFIX}ADMIN_READ_TOKEN", f"{PREFIX}METRICS_TOKEN", f"{PREFIX}PROXY"})


def is_service_link(name: str, value: str | None) -> bool:
    """Whether Kubernetes put a variable there: a service "supervisor-admin" injects SUPERVISOR_ADMIN_PORT=tcp://…"""
    return name.endswith("_PORT") and bool(value) and str(value).startswith(("tcp://", "udp://", "sctp://"))


class Environment(EnvSettingsSource):
    """The environment, without what Kubernetes puts there under names of ours."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables = super()._load_env_vars()
        return {name: value for name, value in variables.items() if not is_service_link(name.upper(), value)}


class EnvFile(EnvSettingsSource):
    """A file of variables, as :mod:`supervisor.settings.env_file` reads it."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path | None) -> None:
        self._path = path
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in read_env_file(self._path, PASSWORDS).values.items() if value}
