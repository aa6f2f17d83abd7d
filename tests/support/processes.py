"""``supervisor run`` in processes of its own, one after the other on one registry file, beside the test's sandbox."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from supervisor.core.records import AgentRecord
from supervisor.sandbox import Sandbox
from supervisor.store import Registry, lock_holder
from tests.support.observing import handlers_folder
from tests.support.registry_file import RegistryFile
from tests.support.stack import SECRET, SECRET_FILE, agent_id

T = TypeVar("T")
#: Stands for the log file of a registry's processes.
LOG = -1

#: A start, or an end that the process has to find by itself, on a busy machine.
SECONDS = 60.0

#: Where handlers of such a process leave their marks: ``mark(name)`` adds a line, ``marked(name)`` asks for one.
MARKS = """
import os, pathlib

_folder = pathlib.Path(__file__).parent.parent / "marks"

def mark(name, line=""):
    # One write each, so that a kill leaves a whole line or none.
    with open(_folder / name, "ab", buffering=0) as file:
        file.write(f"{line}\\n".encode())

def marked(name):
    return (_folder / name).exists()
"""


def environment(folder: Path, sandbox: Sandbox, given: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a supervisor whose files are in ``folder``; ``given`` are its other settings."""
    settings = {
        "api_url": sandbox.api_url,
        "ws_url": sandbox.ws_url,
        "admin_port": 0,
        "secret_dirs": folder,
        "agents_dir": folder / "handlers",
        "log_format": "json",
        "backoff_initial_seconds": 0.05,
        "backoff_cap_seconds": 0.4,
        "connect_rate": 1000,
        "auth_rate": 1000,
        **given,
    }
    return {**os.environ, **{f"SUPERVISOR_{name.upper()}": str(value) for name, value in settings.items()}}


@dataclass
class SupervisorProcess:
    """One registry file and the processes that run it, at most one at a time.

    Args:
        folder: holds the registry, the handlers, the marks they leave and the log of all processes.
        settings: what every process gets, as ``Settings`` calls it.
    """

    folder: Path
    sandbox: Sandbox
    settings: Mapping[str, Any] = field(default_factory=dict)
    agents: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    starts: int = 0

    @property
    def database(self) -> Path:
        """The registry file."""
        return self.folder / "supervisor.db"

    async def add(self, number: int = 1, handler: str = "echo", **fields: Any) -> str:
        """Register an agent with the platform and in the registry while no process runs; its id."""
        identity = agent_id(number)
        self.sandbox.add_agent(identity, SECRET)
        registry = await Registry.open(f"sqlite+aiosqlite:///{self.database}", upgrade=True)
        try:
            await registry.add_agent(AgentRecord(identity, handler, f"file:{self.folder / SECRET_FILE}", **fields))
        finally:
            await registry.close()
        self.agents.append(identity)
        return identity

    @property
    def file(self) -> RegistryFile:
        """What is committed."""
        return RegistryFile(self.database)

    def environment(self, **given: Any) -> dict[str, str]:
        """The environment of a process, for a command beside it too."""
        registry_url = f"sqlite+aiosqlite:///{self.database}"
        return environment(self.folder, self.sandbox, {"registry_url": registry_url, **self.settings, **given})

    async def start(self, *, output: int | None = LOG, limits: str = "", **given: Any) -> None:
        """Start a process.

        Args:
            output: the descriptor of its standard output and error; None: both are closed.
            limits: what the shell sets before, such as ``ulimit -n 100``.
            given: further settings.
        """
        assert self.process is None, "one supervisor per registry"
        self.starts += 1
        redirection = ">&- 2>&-" if output is None else "2>&1"
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *("sh", "-c", f'{limits or ":"}; exec "$0" -m supervisor run {redirection}', sys.executable),
                env=self.environment(**given),
                cwd=self.folder,
                stdout=log if output in (None, LOG) else output,
            )

    async def online(self, *identities: str) -> None:
        """Wait until these agents (default: all) are online; fails at once when the process has ended."""
        assert self.process is not None
        online = asyncio.ensure_future(self.sandbox.wait_online(*identities, timeout=SECONDS))
        ended = asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait([online, ended], return_when=asyncio.FIRST_COMPLETED)
            assert not ended.done(), f"ended before its agents were online\n{self.log[-2000:]}"
            online.result()
        finally:
            for task in (online, ended):
                task.cancel()
            await asyncio.gather(online, ended, return_exceptions=True)

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def end(self, seconds: float = SECONDS) -> int:
        """Wait until the process has ended; its exit code.

        Raises:
            TimeoutError: it still ran after ``seconds``.
        """
        assert self.process is not None
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
        self.process = None
        return code

    async def kill(self) -> None:
        """End the process with SIGKILL."""
        self.signal(signal.SIGKILL)
        assert await self.end() == -signal.SIGKILL

    async def stop(self) -> None:
        """End the process with SIGTERM; its drain must be a clean one."""
        self.signal(signal.SIGTERM)
        assert await self.end() == 0, self.log[-2000:]

    async def metric(self, name: str) -> float:
        """A series without labels, as ``/metrics`` shows it."""
        holder = lock_holder(f"sqlite+aiosqlite:///{self.database}")
        assert holder is not None
        async with aiohttp.ClientSession() as http, http.get(f"{holder.address}/metrics") as response:
            text = await response.text()
        return float(text.split(f"\n{name} ")[1].split()[0])

    async def command(self, *args: str) -> str:
        """Run a command on the same registry; what it wrote to standard output."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "supervisor", *args),
            env=self.environment(),
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    @property
    def ended(self) -> bool:
        """Whether the process that was started last has ended by itself."""
        return self.process is not None and self.process.returncode is not None

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @property
    def log(self) -> str:
        """What all processes have logged."""
        return self._log.read_text()

    def marks(self, name: str) -> list[str]:
        """The lines that handlers left under a name."""
        path = self.folder / "marks" / name
        return path.read_text().splitlines() if path.exists() else []

    def mark(self, name: str) -> None:
        """Leave a mark that handlers wait for."""
        (self.folder / "marks" / name).touch()

    async def until(self, condition: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
        """Wait until ``condition`` gives something true, and return it; fails naming ``what``."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (found := condition()):
            assert asyncio.get_running_loop().time() < deadline, (
                f"waited {seconds:.0f} s for {what}\n{self.log[-2000:]}"
            )
            await asyncio.sleep(0.002)
        return found


@asynccontextmanager
async def supervisor_process(
    folder: Path, sandbox: Sandbox, handlers: Mapping[str, str], **settings: Any
) -> AsyncIterator[SupervisorProcess]:
    """A registry without agents, and handlers by module name; no process is left afterwards."""
    (folder / SECRET_FILE).write_text(SECRET)
    (folder / "marks").mkdir()
    handlers_folder(folder, {name: MARKS + code for name, code in handlers.items()})
    running = SupervisorProcess(folder, sandbox, settings)
    try:
        yield running
    finally:
        if running.process is not None:
            if running.process.returncode is None:
                running.process.kill()
            await running.process.wait()
