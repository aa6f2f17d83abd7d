"""Watches what the registry lies on: that its file is still there, and that there is room left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.store import Registry
from supervisor.store.dialect.face import Space
from supervisor.telemetry.logs import get_logger

#: How often the file is looked at: that it is gone is known before a command that begins then has made another.
LOOK_SECONDS: Final = 0.2
#: How often a copy of what is lost is tried again that could not be made.
SAVE_SECONDS: Final = 60.0
#: How often the room on the disk is looked at.
ROOM_SECONDS: Final = 30.0


class StorageWatch:
    """Finds out that the registry is lost, or its disk nearly full, and says so once.

    Args:
        give_up: told why it is of no use to go on, where another supervisor has taken the registry over.

    Attributes:
        notice: what people should know of the disk before it is full; empty while there is room.
        space: what the registry takes of its disk, as last looked at; None where nobody can tell.
    """

    def __init__(self, registry: Registry, clock: Clock, give_up: Callable[[str], None]) -> None:
        self._registry = registry
        self._clock = clock
        self._give_up = give_up
        self._said: str | None = None
        self._save_at: float | None = None
        self.notice = ""
        self.space: Space | None = None
        self._log = get_logger("supervisor.registry")

    async def watch_file(self) -> None:
        """Look at the registry's file until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once; what is lost is said, and saved in a file of its own."""
        try:
            lost = await self._registry.look()
        except RegistryError as error:
            self._log.warning("registry_not_looked_at", reason=str(error))
            return
        if lost != self._said:
            self._say(lost)
        if self._save_at is not None and self._clock.monotonic() >= self._save_at:
            await self._save()

    def _say(self, lost: str | None) -> None:
        self._said = lost
        if lost is None:
            self._save_at = None
            self._log.warning("registry_back", path=self._registry.where)
            return
        if self._registry.taken_over:
            self._log.critical("registry_taken_over", path=self._registry.where, reason=lost)
            self._give_up(lost)
            return
        self._save_at = self._clock.monotonic()
        self._log.critical(
            "registry_lost",
            path=self._registry.where,
            reason=lost,
            remedy="what is open is saved beside it, once more at the stop: stop the supervisor, put the right file "
            "there, start it",
        )

    async def _save(self) -> None:
        self._save_at = None
        try:
            await self._registry.save()
        except RegistryError as error:
            self._save_at = self._clock.monotonic() + SAVE_SECONDS
            self._log.error("registry_not_saved", path=self._registry.where, reason=str(error))

    async def watch_room(self) -> None:
        """Look at the room on the registry's disk until cancelled."""
        while True:
            await self.look_for_room()
            await self._clock.sleep(ROOM_SECONDS)

    async def look_for_room(self) -> None:
        """Look once; that it is nearly full is said before anything fails."""
        self.space = await self._registry.space()
        scarce = await self._registry.scarce_room()
        if scarce and not self.notice:
            self._log.warning("disk_nearly_full", reason=scarce)
        elif self.notice and not scarce:
            self._log.info("disk_has_room")
        self.notice = scarce or ""

    def problems(self) -> tuple[str, ...]:
        """What keeps the supervisor from being ready."""
        return (f"the registry is lost: {self._registry.lost}",) if self._registry.lost else ()
