"""A supervisor in a process of its own that counts what it does, see :mod:`tests.support.counted`; its counts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from supervisor.sandbox import Sandbox
from tests.support.observing import handlers_folder
from tests.support.paths import ROOT
from tests.support.processes import SupervisorProcess
from tests.support.stack import SECRET, SECRET_FILE


@dataclass
class Counted:
    """A supervisor that counts, the platform that it is on, and its registry."""

    sandbox: Sandbox
    registry: SupervisorProcess
    process: asyncio.subprocess.Process

    async def counts(self) -> dict[str, int]:
        """What it has done until now, and what it holds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        counts: dict[str, int] = json.loads(await self.process.stdout.readline())
        return counts


@asynccontextmanager
async def counted(
    folder: Path, wire: str, *handlers: str, code: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Counted, list[str]]]:
    """A supervisor that counts, with an agent for each of the handlers; they are online.

    Args:
        code: of handlers that are not bundled, by their names.
    """
    (folder / SECRET_FILE).write_text(SECRET)
    handlers_folder(folder, code or {})
    async with Sandbox() as sandbox:
        registry = SupervisorProcess(folder, sandbox, {"wire": wire})
        agents = [await registry.add(number, handler) for number, handler in enumerate(handlers, 1)]
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.counted"),
                env=registry.environment() | {"PYTHONPATH": str(ROOT)},
                cwd=folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        registry.process = process
        try:
            await registry.online(*agents)
            yield Counted(sandbox, registry, process), agents
            assert process.stdin is not None
            process.stdin.close()
            assert await registry.end() == 0, registry.log[-2000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
