"""Which rows of the registry this process runs: all, unless several processes share them."""

from __future__ import annotations

from supervisor.core.records import AgentRecord
from supervisor.store import Registry


async def owned(registry: Registry) -> dict[str, AgentRecord]:
    """The rows whose agents this process is to run, by id.

    An agent whose row is no longer among them counts as removed, and its waiting messages are cancelled: what was given
    to another process is let go of before it is left out here.

    Raises:
        RegistryError: the registry cannot be read.
    """
    return {record.id: record for record in await registry.agents(own=True)}
