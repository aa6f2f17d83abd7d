"""``supervisor demo``: a platform, a fleet and sample agents in one process, with nothing to configure."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from supervisor.cli.errors import UsageError
from supervisor.cli.running import Profile, run_loop
from supervisor.core.errors import SupervisorError

if TYPE_CHECKING:
    from rich.status import Status

    from supervisor.sandbox import Sandbox
    from supervisor.service import Service
    from supervisor.settings import Settings

_ADMIN_PORT, _CHAT_PORT = 8640, 8641
_SECRET: Final = "demo-secret"  # noqa: S105  of the demo's own agents, on the demo's own platform
_REPLY_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 15.0
_SAMPLES: Final = (("tour", "Tour guide"), ("echo", "Echo"))
#: One more where the extra `llm` is installed: its model is made up, behind the platform's proxy.
_ASSISTANT: Final = ("assistant", "Assistant")
_INSTRUCTION: Final = "You are the demo's assistant. Be brief."


@dataclass(frozen=True, slots=True)
class _Options:
    """What the options ask for."""

    agents: int
    seconds: float | None
    ask: str | None
    profile: Literal["v1", "v2", "v3"]
    port: int | None


def demo(
    agents: Annotated[int, typer.Option(min=1, max=1000, help="How many sample agents.")] = 4,
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=0, help="End by itself.", show_default=False)
    ] = None,
    ask: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Ask the echo agent, print its reply, end.", show_default=False)
    ] = None,
    profile: Profile = "v1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The chat page's port; else 8641 or a free one.", show_default=False),
    ] = None,
) -> int:
    """See it work: a local platform with a chat page, a fleet of sample agents, metrics. Ctrl-C ends it.

    Nothing to configure and nothing left behind: the registry is in a temporary folder, SUPERVISOR_* variables, .env
    and /run/secrets are ignored, and no network is needed.

    Example: `supervisor demo`, or `supervisor demo --ask "Hello"` for one reply on standard output
    """
    if ask is not None and not ask.strip():
        raise UsageError("--ask wants a text")
    options = _Options(agents, seconds, ask, profile, port)
    if ask is None:
        # Whoever stops the terminal with Ctrl-S is not to stop the fleet; a reply is for whoever reads it.
        from supervisor.telemetry import standard_streams  # noqa: PLC0415  import what is slow only when it runs

        standard_streams.divert()
    for name in [name for name in os.environ if name.startswith("SUPERVISOR_")]:
        del os.environ[name]
    with _signals_unwind(), tempfile.TemporaryDirectory(prefix="supervisor-demo-") as folder:
        return run_loop(_until_stopped(_demo(options, Path(folder))))


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


async def _until_stopped(work: Any) -> int:
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


async def _demo(options: _Options, folder: Path) -> int:
    from supervisor.telemetry import logs  # noqa: PLC0415  import what is slow only when it runs

    logs.configure("WARNING", "console")
    steps = _Steps()
    with steps:
        async with _sandbox(options, steps) as sandbox, _fleet(options, folder, sandbox, steps) as service:
            if options.ask is not None:
                steps.doing("asking")
                reply = await _ask(sandbox, options.ask)
                steps.close()
                print(reply, flush=True)
                return 0
            steps.close()
            _print_addresses(sandbox, service, options.seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(service.side_tasks.failed), options.seconds)
                raise SupervisorError("The supervisor stopped by itself; its log says why")
    return 0


@contextlib.asynccontextmanager
async def _sandbox(options: _Options, steps: _Steps) -> AsyncIterator[Sandbox]:
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415
    from supervisor.sandbox import Sandbox, SandboxConfig  # noqa: PLC0415

    steps.doing("starting a local platform")
    port = _CHAT_PORT if options.port is None else options.port
    sandbox = Sandbox(SandboxConfig(profile=options.profile, port=port))
    try:
        try:
            await sandbox.start()
        except OSError:
            if options.port is not None:
                raise
            sandbox = Sandbox(SandboxConfig(profile=options.profile, port=0))
            await sandbox.start()
    except OSError as error:
        raise ConfigurationError(
            f"Port {port} cannot be taken: {error.strerror or error}; give another --port"
        ) from None
    async with sandbox:
        steps.done(f"sandbox up ({options.profile})")
        yield sandbox


@contextlib.asynccontextmanager
async def _fleet(options: _Options, folder: Path, sandbox: Sandbox, steps: _Steps) -> AsyncIterator[Service]:
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415
    from supervisor.service import Service  # noqa: PLC0415

    steps.doing("filling the registry")
    settings = _settings(folder, sandbox)
    await _fill(settings, sandbox, options, folder)
    steps.done(f"registry with {options.agents} {'agent' if options.agents == 1 else 'agents'}")
    try:
        service = await Service.start(settings, cwd=folder)
    except ConfigurationError:
        if _is_free(_ADMIN_PORT):
            raise
        service = await Service.start(settings.model_copy(update={"admin_port": 0}), cwd=folder)
    try:
        await _online(service, options.agents, steps)
        service.watch_code()
        yield service
    finally:
        await service.stop(grace_seconds=1.0)


def _settings(folder: Path, sandbox: Sandbox) -> Settings:
    from supervisor.settings import load_settings  # noqa: PLC0415

    return load_settings(
        None,
        run_secrets=folder / "none",
        registry_url=f"sqlite+aiosqlite:///{folder}/supervisor.db",
        api_url=sandbox.api_url,
        ws_url=sandbox.ws_url,
        secret_dirs=(folder,),
        admin_port=_ADMIN_PORT,
        # Rates spare a platform of others; this one is our own.
        auth_rate=500,
        auth_concurrency=50,
        connect_rate=500,
    )


async def _fill(settings: Settings, sandbox: Sandbox, options: _Options, folder: Path) -> None:
    from supervisor.core.records import AgentRecord  # noqa: PLC0415
    from supervisor.store import Registry  # noqa: PLC0415

    secret = folder / "agent-secret"
    secret.write_text(_SECRET)
    samples = _SAMPLES if options.ask is None else _SAMPLES[::-1]
    records = []
    for number in range(options.agents):
        handler, name = samples[number % len(samples)]
        assists = number == len(samples) and _can_assist(options)
        if assists:
            handler, name = _ASSISTANT
        turn = number // len(samples)
        records.append(
            AgentRecord(
                id=f"65{number + 1:022d}",
                handler=handler,
                secret=f"file:{secret}",
                name=f"{name} {turn + 1}" if turn and not assists else name,
                labels={"demo": "yes"},
            )
        )
        if assists:
            sandbox.add_agent(records[-1].id, _SECRET, name=records[-1].name, instruction=_INSTRUCTION)
            sandbox.deploy(records[-1].id)
        else:
            sandbox.add_agent(records[-1].id, _SECRET, name=records[-1].name)
    registry = await Registry.open(settings.registry_url, upgrade=True)
    try:
        await registry.apply(add=records)
    finally:
        await registry.close()


def _can_assist(options: _Options) -> bool:
    """Whether an assistant is among the sample agents: its platform has a proxy, and what it needs is installed."""
    from supervisor.handlers.declared import missing_requirements  # noqa: PLC0415
    from supervisor.handlers.folder import bundled_dir  # noqa: PLC0415

    if options.profile != "v2" or options.ask is not None:
        return False
    bundled = bundled_dir()
    return bundled is not None and not missing_requirements(_ASSISTANT[0], bundled)


async def _online(service: Service, count: int, steps: _Steps) -> None:
    """Wait until all agents are online, telling how many are.

    Raises:
        SupervisorError: some are not within the time; names one of them and why.
    """
    from supervisor.core.states import AgentState  # noqa: PLC0415

    async def report_progress() -> None:
        while True:
            steps.doing(f"{service.control.overview().agents.get(AgentState.ONLINE, 0)}/{count} agents online")
            await asyncio.sleep(0.1)

    progress = asyncio.create_task(report_progress())
    seconds = 20 + count / 20
    try:
        await service.fleet.wait_online(count, seconds)
    except TimeoutError:
        away = [status for status in service.fleet.statuses() if status.state is not AgentState.ONLINE]
        example = f"; {away[0].name} is {away[0].state}: {away[0].reason or 'no reason known'}" if away else ""
        raise SupervisorError(f"{len(away)} of {count} agents are not online after {seconds:.0f} s{example}") from None
    finally:
        progress.cancel()
    steps.done(f"{count}/{count} agents online")


async def _ask(sandbox: Sandbox, text: str) -> str:
    """What the first agent answers.

    Raises:
        SupervisorError: nothing, an error, or a refusal of the text.
    """
    from supervisor.sandbox import RefusedError  # noqa: PLC0415

    user = await sandbox.user()
    try:
        conversation = await user.open(next(iter(sandbox.agents)))
        message = await user.say(conversation, text)
        replies = await user.wait_for_reply(conversation, after=message, timeout=_REPLY_SECONDS)
    except TimeoutError:
        raise SupervisorError(f"No reply came within {_REPLY_SECONDS:.0f} s; see the log above") from None
    except RefusedError as error:
        raise SupervisorError(f"The sandbox refused the message: {error}") from None
    answer = next(reply for reply in reversed(replies) if reply.type in (None, "text"))
    if answer.document.get("error"):
        raise SupervisorError(f"The agent answered with an error: {answer.content}")
    return str(answer.content)


def _print_addresses(sandbox: Sandbox, service: Service, seconds: float | None) -> None:
    admin = service.admin_url
    end = "Ctrl-C ends it." if seconds is None else f"It ends by itself after {seconds:g} s."
    print(
        f"\n  Chat with an agent   {sandbox.base_url}/\n"
        f"  Console              {admin}/\n"
        f"  Metrics              {admin}/metrics\n"
        f"  Status               {admin}/api/v1/status\n"
        f"  API                  {admin}/docs\n\n"
        f"{end}",
        flush=True,
    )


def _is_free(port: int) -> bool:
    """Whether nobody listens on ``port`` of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class _Steps:
    """Progress on standard error: a spinner for people at a terminal, a line per step that is done for all others."""

    def __init__(self) -> None:
        from supervisor.cli.output import stderr_console  # noqa: PLC0415

        self._console = stderr_console()
        self._spinner: Status | None = None

    def __enter__(self) -> _Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def doing(self, text: str) -> None:
        """Something is under way."""
        if not sys.stderr.isatty():
            return
        if self._spinner is None:
            self._spinner = self._console.status(text)
            self._spinner.start()
        self._spinner.update(text)

    def done(self, text: str) -> None:
        """A step is done."""
        self._console.print(f"[green]✔[/green] {text}")

    def close(self) -> None:
        """No more is under way."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
