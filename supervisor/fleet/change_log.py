"""Follows who changes the registry: raw SQL is noted where it is seen, and every change stands in the log."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentEvent
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger


class ChangeLog:
    """Tells of the changes of one registry, from the first :meth:`follow` on."""

    def __init__(self, registry: Registry) -> None:
        self._history = registry.history
        self._last: int | None = None
        self._log = get_logger("supervisor.registry")

    async def follow(self, agent_ids: Sequence[str]) -> None:
        """Note what changed some rows unsaid, and log what was done since this was last asked.

        A history that cannot be written or read keeps nobody from running.

        Args:
            agent_ids: of rows that may be others than they were.
        """
        try:
            await self._history.observe(agent_ids)
            if self._last is None:
                self._last = await self._history.newest()
                return
            for event in await self._history.after(self._last):
                self._last = event.id
                self._tell(event)
        except RegistryError as error:
            self._log.warning("history_failed", reason=str(error))

    def _tell(self, event: AgentEvent) -> None:
        self._log.info(
            "registry_changed",
            agent=event.agent_id,
            action=event.action,
            actor=event.actor.kind,
            **({"address": event.actor.address} if event.actor.address else {}),
            version=event.id,
        )
