"""Which rows of the registry this process runs. One process has them all: ``docs/architecture.md#one-process``."""

from __future__ import annotations

from supervisor.core.records import AgentRecord
from supervisor.store import Registry


async def owned(registry: Registry) -> dict[str, AgentRecord]:
    """The rows whose agents this process is to run, by id: every one, since the registry's lock lets one process run.

    An agent whose row is no longer among them counts as removed, and its waiting messages are cancelled. Where
    processes share a registry, a row of another one must not look like that.

    Raises:
        RegistryError: the registry cannot be read.
    """
    return {record.id: record for record in await registry.agents()}
