"""Several ``supervisor run`` on one registry in PostgreSQL, in processes of their own, beside the test's sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from supervisor.core.records import AgentRecord
from supervisor.sandbox import Sandbox
from supervisor.store import Registry
from tests.support import postgres
from tests.support.observing import handlers_folder
from tests.support.processes import environment
from tests.support.stack import SECRET, SECRET_FILE, agent_id

T = TypeVar("T")
#: A start, or an end that a process has to find by itself, on a busy machine.
SECONDS = 60.0
#: The command, on a machine whose clock is so many seconds ahead.
AHEAD = """
import runpy, time
machine = time.time
time.time = lambda: machine() + {seconds}
runpy.run_module("supervisor", run_name="__main__")
"""
#: Does so for the whole process, libraries too, where Debian's package ``faketime`` is installed.
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def on_machine(ahead_seconds: float) -> tuple[Sequence[str], dict[str, str]]:
    """Arguments of the interpreter, and its environment, for the command where the clock is so far ahead."""
    if not ahead_seconds:
        return ("-m", "supervisor"), {}
    if FAKETIME is None:
        return ("-c", AHEAD.format(seconds=ahead_seconds)), {}
    of_library = {"FAKETIME": f"{ahead_seconds:+.0f}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return ("-m", "supervisor"), {"LD_PRELOAD": str(FAKETIME), **of_library}


@dataclass
class ReplicaProcess:
    """One of them."""

    process: asyncio.subprocess.Process
    log_file: Path

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def end(self, seconds: float = SECONDS) -> int:
        """Wait until it has ended; its exit code."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.signal(signal.SIGKILL)
        assert await self.end() == -signal.SIGKILL

    async def stop(self) -> None:
        """End it with SIGTERM; its drain must be a clean one."""
        self.signal(signal.SIGTERM)
        assert await self.end() == 0, self.log[-3000:]


@dataclass
class Replicas:
    """A registry and the processes that run it.

    Args:
        url: of the database.
        settings: what every process gets, as ``Settings`` calls it.
    """

    folder: Path
    sandbox: Sandbox
    url: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    started: list[ReplicaProcess] = field(default_factory=list)

    async def add(self, count: int, handler: str = "echo", **fields: Any) -> list[str]:
        """Register agents with the platform and in the registry; their ids."""
        identities = [agent_id(number) for number in range(1, count + 1)]
        for identity in identities:
            self.sandbox.add_agent(identity, SECRET)
        secret = f"file:{self.folder / SECRET_FILE}"
        registry = await Registry.open(self.url)
        try:
            await registry.apply(add=[AgentRecord(identity, handler, secret, **fields) for identity in identities])
        finally:
            await registry.close()
        return identities

    def environment(self, **given: Any) -> dict[str, str]:
        """The environment of a process, for a command beside them too."""
        own = {"registry_url": self.url, "lease_seconds": 2}
        return environment(self.folder, self.sandbox, {**own, **self.settings, **given})

    async def start(self, *, ahead_seconds: float = 0.0, **given: Any) -> ReplicaProcess:
        """Start one more, on a machine whose clock is so far ahead."""
        path = self.folder / f"log.{len(self.started) + 1}"
        command, machine = on_machine(ahead_seconds)
        with path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *command, "run"),
                env=self.environment(**given) | machine,
                cwd=self.folder,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
            )
        self.started.append(ReplicaProcess(process, path))
        return self.started[-1]

    def owned(self) -> list[int]:
        """How many agents each of those has that live, in the order in which they came."""
        counted = "SELECT (SELECT count(*) FROM leases WHERE owner = replicas.id)::int FROM replicas ORDER BY id"
        return [number for (number,) in postgres.on_server(counted, url=self.url)]

    async def until(self, condition: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
        """Wait until ``condition`` gives something true, and return it; fails naming ``what``."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (found := condition()):
            logs = "\n".join(one.log[-1500:] for one in self.started)
            assert asyncio.get_running_loop().time() < deadline, f"waited {seconds:.0f} s for {what}\n{logs}"
            await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def replicas(
    folder: Path, sandbox: Sandbox, handlers: Mapping[str, str], *, url: str | None = None, **settings: Any
) -> AsyncIterator[Replicas]:
    """A registry without agents; no process is left afterwards.

    Args:
        url: of an empty database; None: one of the tests' server.
    """
    (folder / SECRET_FILE).write_text(SECRET)
    handlers_folder(folder, handlers)
    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(postgres.new_database())
        else:
            await (await Registry.open(url, upgrade=True)).close()
        made = Replicas(folder, sandbox, url, settings)
        try:
            yield made
        finally:
            for one in made.started:
                if one.process.returncode is None:
                    one.process.kill()
                await one.process.wait()
