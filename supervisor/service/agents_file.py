"""Keeps the registry as AGENTS_FILE says: imported at the start, and again whenever the file has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from supervisor.core.actors import Actor, acting_as
from supervisor.core.clock import Clock
from supervisor.core.errors import ConfigurationError, SupervisorError
from supervisor.core.records import AgentRecord
from supervisor.management import fleet_import
from supervisor.management.agents import Checker
from supervisor.management.fleet_file import Plan
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger

#: How often the file is looked at: a notice of changes would miss those of a mounted or networked folder.
LOOK_SECONDS: Final = 1.0
#: So many warnings of one import are logged.
MAX_WARNINGS: Final = 20

#: Which file it is, how long, and when it was written; None: there is none.
_Stamp = tuple[int, int, int, int] | None


class AgentsFile:
    """The fleet's file. One that cannot be taken changes nothing, and that is said until it can be.

    Attributes:
        problem: why what the file says is not what runs; empty while it is.
    """

    def __init__(
        self, path: Path, registry: Registry, make_checker: Callable[[], Checker], clock: Clock, *, prune: bool
    ) -> None:
        self._path = path
        self._registry = registry
        self._make_checker = make_checker
        self._clock = clock
        self._prune = prune
        self._seen: _Stamp = None
        # Whether what was seen last is yet to be taken or refused.
        self._waits = True
        self.problem = ""
        self._log = get_logger("supervisor.agents_file")

    async def watch(self, follow: Callable[[], Awaitable[None]]) -> None:
        """Look at the file until cancelled; ``follow`` is awaited after each change of the registry."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if await self.look():
                await follow()

    async def look(self) -> bool:
        """Look once; whether the registry was changed.

        A file that has just changed may be half written: it is taken once two looks find the same.
        """
        found = await asyncio.to_thread(_stamp, self._path)
        if found != self._seen:
            self._seen, self._waits = found, True
            return False
        return self._waits and await self.take()

    async def take(self) -> bool:
        """Import the file as it is now; whether the registry was changed."""
        self._seen = await asyncio.to_thread(_stamp, self._path)
        try:
            plan = await self._import()
        except SupervisorError as error:
            # Only what the file says stays wrong until it changes; a registry that is busy is tried again.
            self._waits = not isinstance(error, ConfigurationError)
            self._refused(str(error))
            return False
        self._waits = False
        if self.problem:
            self._log.info("agents_file_taken_again", path=str(self._path))
        self.problem = ""
        return not plan.empty

    async def _import(self) -> Plan:
        existing, checker = await self._registry.agents(), self._make_checker()
        records = await asyncio.to_thread(self._checked, existing, checker)
        for warning in checker.take_warnings()[:MAX_WARNINGS]:
            self._log.warning("agents_file_warning", path=str(self._path), reason=warning)
        with acting_as(Actor("file", str(self._path))):
            plan = await fleet_import.bring(self._registry, records, prune=self._prune)
        if not plan.empty:
            counts = {"added": len(plan.add), "changed": len(plan.change), "removed": len(plan.remove)}
            self._log.info("agents_file_imported", path=str(self._path), **counts)
        return plan

    def _checked(self, existing: list[AgentRecord], checker: Checker) -> list[AgentRecord]:
        # One agent that cannot run yet keeps no other out: it is faulted, and says why.
        text = fleet_import.read(self._path)
        return fleet_import.checked(text, str(self._path), existing, checker, keep_going=True)

    def _refused(self, reason: str) -> None:
        problem = f"AGENTS_FILE is not taken, the fleet stays as it is: {reason}"
        if problem != self.problem:
            self._log.error("agents_file_refused", path=str(self._path), reason=reason)
        self.problem = problem


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
