"""A platform and a supervisor in this process, with nothing to configure and nothing left behind: what ``demo`` and
``dev`` have in common."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from supervisor.cli.demo_reach import FOLDER_PREFIX
from supervisor.cli.running import run_loop

if TYPE_CHECKING:
    from supervisor.cli.steps import Steps
    from supervisor.sandbox import Sandbox
    from supervisor.service import Service
    from supervisor.settings import Settings

ADMIN_PORT: Final = 8640
CHAT_PORT: Final = 8641
#: Of the agents of this process, on the platform of this process.
SECRET: Final = "local-secret"  # noqa: S105
_STOP_SECONDS: Final = 15.0


def command(started: str | None = None, path: str | None = None) -> str:
    """What to type for this command: its name, or as it was started where no shell finds that name.

    Args:
        started: as the shell was told; else this process was.
        path: where programs are looked for; else PATH says.
    """
    started = sys.argv[0] if started is None else started
    name = Path(started).name
    return started if name == "supervisor" and shutil.which(name, path=path) is None else "supervisor"


def python() -> str:
    """What to type for the Python of this command, as :func:`command` for itself."""
    named = command()
    return "python" if named == "supervisor" else str(Path(named).with_name("python"))


def ending(seconds: float | None) -> str:
    """What to say of its end: who does it, or when."""
    from supervisor.cli.output import duration  # noqa: PLC0415  import what is slow only when it runs

    return "Ctrl-C ends it." if seconds is None else f"It ends by itself after {duration(seconds)}."


def run_alone(work: Callable[[Path], Coroutine[Any, Any, int]]) -> int:
    """Do ``work`` in a temporary folder until it ends or a signal comes; its exit code.

    SUPERVISOR_* variables are gone by then: none of them is meant for this.
    """
    for name in [name for name in os.environ if name.startswith("SUPERVISOR_")]:
        del os.environ[name]
    with _signals_unwind(), tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as folder:
        return run_loop(_until_stopped(work(Path(folder))))


@contextlib.contextmanager
def _signals_unwind() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end us as Ctrl-C does, so that the temporary folder goes away."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _until_stopped(work: Coroutine[Any, Any, int]) -> int:
    """Do ``work`` until it ends or a signal comes; then it has a bounded time to clear up."""
    loop = asyncio.get_running_loop()
    task: asyncio.Task[int] = asyncio.ensure_future(work)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    waiting = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task}, timeout=_STOP_SECONDS)
    if task.done() and not task.cancelled() and (error := task.exception()):
        raise error
    return 0


@contextlib.asynccontextmanager
async def local_platform(profile: Literal["v1", "v2", "v3"], port: int | None, steps: Steps) -> AsyncIterator[Sandbox]:
    """A sandbox at ``port``; where none is given at the usual one, or a free one.

    Raises:
        ConfigurationError: the port that was asked for cannot be taken.
    """
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.sandbox import Sandbox, SandboxConfig  # noqa: PLC0415

    steps.doing("starting a local platform")
    wanted = CHAT_PORT if port is None else port
    sandbox = Sandbox(SandboxConfig(profile=profile, port=wanted))
    try:
        try:
            await sandbox.start()
        except OSError:
            if port is not None:
                raise
            sandbox = Sandbox(SandboxConfig(profile=profile, port=0))
            await sandbox.start()
    except OSError as error:
        raise ConfigurationError(
            f"Port {wanted} cannot be taken: {error.strerror or error}; give another --port"
        ) from None
    async with sandbox:
        steps.done(f"sandbox up ({profile})")
        yield sandbox


def local_settings(folder: Path, sandbox: Sandbox, **given: Any) -> Settings:
    """Settings of a supervisor whose registry is in ``folder`` and whose platform is ``sandbox``."""
    from supervisor.settings import load_settings  # noqa: PLC0415

    return load_settings(
        None,
        run_secrets=folder / "none",
        registry_url=f"sqlite+aiosqlite:///{folder}/supervisor.db",
        api_url=sandbox.api_url,
        ws_url=sandbox.ws_url,
        agents_file=None,
        admin_port=ADMIN_PORT,
        # Rates spare a platform of others; this one is our own.
        auth_rate=500,
        auth_concurrency=50,
        connect_rate=500,
        **{"secret_dirs": (folder,), **given},
    )


def local_secret(folder: Path) -> str:
    """A row's reference to :data:`SECRET`, which is written into ``folder``."""
    secret = folder / "agent-secret"
    secret.write_text(SECRET)
    return f"file:{secret}"


async def start_service(settings: Settings, folder: Path) -> Service:
    """A supervisor, its admin API at a free port where the usual one is taken.

    Raises:
        ConfigurationError, RegistryError: it cannot start like this.
    """
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415
    from supervisor.service import Service  # noqa: PLC0415

    try:
        return await Service.start(settings, cwd=folder)
    except ConfigurationError:
        if _is_free(ADMIN_PORT):
            raise
        return await Service.start(settings.model_copy(update={"admin_port": 0}), cwd=folder)


async def until_over(service: Service, seconds: float | None) -> None:
    """Wait for so long, or for ever.

    Raises:
        SupervisorError: the supervisor stopped by itself.
    """
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(service.side_tasks.failed), seconds)
        raise SupervisorError("The supervisor stopped by itself; its log says why")


def _is_free(port: int) -> bool:
    """Whether nobody listens on ``port`` of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
