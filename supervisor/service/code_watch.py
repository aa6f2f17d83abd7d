"""Reloads agents when their handlers' code changes, while somebody writes it: not for production."""

from __future__ import annotations

import ast
import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from supervisor.core.clock import Clock
from supervisor.core.status import AgentStatus
from supervisor.fleet import Fleet
from supervisor.handlers import PACKAGE
from supervisor.telemetry.logs import get_logger

#: How often the folder is looked at.
POLL_SECONDS = 0.5
#: How long an agent may take to come back with the new code before the next change is looked for.
RELOAD_SECONDS = 10.0

#: Each file's time of change and size.
_Stamps = Mapping[Path, tuple[int, int]]


class CodeWatch:
    """Polls the agents folder; reloads the agents whose handler is in a changed module, or imports one.

    A file that cannot be compiled reloads nobody; one that fails as it is imported leaves the old code running. What
    the old code still answers, or hangs in, is answered by the new.
    """

    def __init__(self, agents_dir: Path, fleet: Fleet, clock: Clock) -> None:
        self._folder = agents_dir
        self._fleet = fleet
        self._clock = clock
        self._log = get_logger("supervisor.code_watch")

    async def run(self) -> None:
        """Watch until cancelled."""
        before = await asyncio.to_thread(self._stamps)
        while True:
            await self._clock.sleep(POLL_SECONDS)
            now = await asyncio.to_thread(self._stamps)
            changed = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
            before = now
            if changed:
                await self._reload(await asyncio.to_thread(self._handlers_of, changed))

    def _sources(self) -> Iterator[Path]:
        """The folder's code: hidden folders are nobody's, and environments of Python are others'."""
        for root, folders, files in os.walk(self._folder):
            if "pyvenv.cfg" in files:
                folders.clear()
                continue
            folders[:] = [name for name in folders if not name.startswith((".", "__"))]
            yield from (Path(root, name) for name in files if name.endswith(".py"))

    def _stamps(self) -> _Stamps:
        stamps = {}
        for path in self._sources():
            try:
                status = path.stat()
            except OSError:
                # An editor has just replaced it: it is there at the next look.
                continue
            stamps[path] = (status.st_mtime_ns, status.st_size)
        return stamps

    def _handlers_of(self, changed: set[Path]) -> set[str]:
        """The modules to load anew: those that changed and those that import them; none while one is broken."""
        imports: dict[str, set[str]] = {}
        for path in self._sources():
            try:
                tree = ast.parse(path.read_bytes(), path.name)
            except (SyntaxError, ValueError, OSError) as error:
                if path in changed:
                    line = getattr(error, "lineno", None)
                    reason = f"{error}; until that is mended the old code goes on"
                    self._log.warning("code_is_broken", file=str(path), line=line, reason=reason)
                    changed = changed - {path}
                continue
            imports.setdefault(self._module(path), set()).update(_imported(tree))
        stale = {self._module(path) for path in changed}
        while more := {name for name, used in imports.items() if used & stale} - stale:
            stale |= more
        return stale

    def _module(self, path: Path) -> str:
        """The top-level module of the folder that a file belongs to."""
        return path.relative_to(self._folder).parts[0].removesuffix(".py")

    async def _reload(self, modules: set[str]) -> None:
        agents = [s.id for s in self._fleet.statuses() if modules & self._used(s)]
        await asyncio.gather(*map(self._reload_one, agents))

    def _used(self, status: AgentStatus) -> set[str]:
        """The modules that an agent's handler is in, and those that it loads by name."""
        mounted = self._fleet.runner(status.id).agent.profile.mounted
        return {status.handler.partition(":")[0], *(mounted.loaded if mounted else ())}

    async def _reload_one(self, agent_id: str) -> None:
        runner = self._fleet.runner(agent_id)
        handler = runner.wanted.handler
        try:
            async with asyncio.timeout(RELOAD_SECONDS):
                reason = await runner.refresh()
        except TimeoutError:
            # An agent that waits for the platform says so by itself.
            return
        if reason:
            self._log.warning("code_not_reloaded", agent=agent_id, handler=handler, reason=reason)
        else:
            runner.agent.pipeline.answers.begin_anew()
            self._log.info("code_reloaded", agent=agent_id, handler=handler)


def _imported(tree: ast.Module) -> set[str]:
    """The folder's top-level modules that a module imports; names of other packages among them do no harm."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = f"{PACKAGE}." if node.level else ""
            names |= {f"{base}{node.module}"} if node.module else {f"{base}{alias.name}" for alias in node.names}
            if node.module == PACKAGE:
                names |= {f"{PACKAGE}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}.")}
