"""``supervisor dev``: one handler, a platform and a supervisor that follows its edits, with nothing to configure."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from supervisor.cli import local
from supervisor.cli.agents import Sets
from supervisor.cli.durations import duration
from supervisor.cli.errors import UsageError, complain
from supervisor.cli.running import Profile
from supervisor.cli.steps import Steps

if TYPE_CHECKING:
    from supervisor.core.records import AgentRecord
    from supervisor.sandbox import Sandbox
    from supervisor.service import Service
    from supervisor.settings import Settings

AGENT_ID: Final = f"65{1:022d}"
#: How long the agent may take to come online before the addresses are shown all the same.
_ONLINE_SECONDS: Final = 30.0
#: How often it is looked at what the agent is doing.
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Options:
    """What the options ask for."""

    handler: str
    folder: Path | None
    instruction: str
    profile: Literal["v1", "v2", "v3"]
    port: int | None
    seconds: float | None
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.handler.partition(":")[0]

    @property
    def packages(self) -> tuple[str, ...]:
        """The installed package that the handler is in, which is allowed by naming it."""
        top, dot, _ = self.name.partition(".")
        return (top,) if dot else ()


def dev(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A handler's file or folder, or what a row would name.", show_default=False
        ),
    ],
    *,
    sets: Sets,
    instruction: Annotated[
        str, typer.Option(metavar="TEXT", help="The platform's instruction for the agent.", show_default=False)
    ] = "",
    profile: Profile = "v1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The chat page's port; else 8641 or a free one.", show_default=False),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--for", parser=duration, metavar="DURATION", help="End by itself.", show_default=False),
    ] = None,
) -> int:
    """Try a handler as you write it: a local platform with a chat page, and a supervisor that follows your edits.

    A message is tried once, and a failure shows its traceback. Nothing to configure and nothing left behind: the id is
    made up, the registry is in a temporary folder, SUPERVISOR_* variables and .env are ignored. Other variables may be
    named as in a row: `--set api_key=env:AGENT_KEY`.

    Example: `supervisor dev agents/weather.py`, then in another terminal `supervisor chat weather`
    """
    from supervisor.cli import checks  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.telemetry import standard_streams  # noqa: PLC0415

    handler, folder = handler_at(file)
    options = _Options(handler, folder, instruction, profile, port, seconds, checks.setting_values(sets))
    standard_streams.divert()
    return local.run_alone(lambda room: _dev(options, room))


def handler_at(file: str) -> tuple[str, Path | None]:
    """A handler's reference, and the folder that it is in: None where it was named and not pointed at.

    Args:
        file: ``agents/shout.py``, the folder of a package, each with or without ``:Class``; or as in a row.

    Raises:
        UsageError: there is no such file, or it can be no handler.
    """
    where, colon, attribute = file.rpartition(":")
    path = Path(where if colon else file)
    if path.is_dir() and (path / "__init__.py").is_file():
        name, folder = path.resolve().name, path.resolve().parent
    elif path.is_file() and path.suffix == ".py":
        name, folder = path.stem, path.resolve().parent
    elif len(path.parts) == 1 and not path.exists() and path.suffix != ".py":
        name, folder = str(path), None
    elif path.exists():
        raise UsageError(f"{path} is no handler: a handler is a Python file, or a folder with an __init__.py")
    else:
        raise UsageError(f"There is no {path}; supervisor agents new {path.stem} writes a handler to begin with")
    if folder is not None and not name.isidentifier():
        raise UsageError(f"{path} is no handler: its name becomes a Python module's; use letters, digits and _")
    return f"{name}{colon}{attribute}" if colon else name, folder


async def _dev(options: _Options, room: Path) -> int:
    from supervisor.telemetry import logs  # noqa: PLC0415

    logs.configure("INFO", "console")
    with Steps() as steps:
        async with local.local_platform(options.profile, options.port, steps) as sandbox:
            service = await local.start_service(await _prepare(options, room, sandbox), room)
            try:
                service.watch_code()
                trouble = await _until_settled(service)
                steps.close()
                if trouble:
                    complain(f"{options.name} does not run: {trouble}; mend it and save, it is tried again")
                _print_addresses(options, sandbox, service)
                service.side_tasks.start("slow answers", lambda: _tell_slow(options, service))
                await local.until_over(service, options.seconds)
            finally:
                await service.stop(grace_seconds=1.0)
    return 0


async def _tell_slow(options: _Options, service: Service) -> None:
    """Say where the handler stands whenever it is long at a message, until cancelled."""
    from supervisor.cli.slow import SlowAnswers  # noqa: PLC0415

    profile = service.fleet.runner(AGENT_ID).agent.profile
    slow = SlowAnswers(options.name, service.shared.loader.agents_dir, profile.settings.timeout_seconds, complain)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        slow.look(service.control.status(AGENT_ID).handling, time.time())


async def _prepare(options: _Options, room: Path, sandbox: Sandbox) -> Settings:
    """The settings of the supervisor, once platform and registry have the agent.

    Raises:
        ConfigurationError: a setting that was given is wrong. HandlerNotFoundError: there is no such handler.
    """
    from supervisor.cli import checks  # noqa: PLC0415
    from supervisor.core.records import AgentRecord  # noqa: PLC0415
    from supervisor.handlers import find_agents_dir  # noqa: PLC0415
    from supervisor.management import agents  # noqa: PLC0415

    record = AgentRecord(
        id=AGENT_ID,
        handler=options.handler,
        secret=local.local_secret(room),
        name=options.name,
        settings=options.values,
    )
    settings = local.local_settings(
        room,
        sandbox,
        agents_dir=options.folder or find_agents_dir(None),
        handler_packages=options.packages,
        secret_dirs=(room, Path.cwd()),
        max_attempts=1,
        log_tracebacks=True,
        # Who gives these settings is who runs this.
        allow_commands=True,
        allow_private_webhooks=True,
    )
    checker = agents.Checker(settings)
    checker.check(record)
    checker.spelling(record)
    checks.print_warnings(checker)
    sandbox.add_agent(AGENT_ID, local.SECRET, name=options.name, instruction=options.instruction or None)
    if options.profile == "v2":
        # So that an assistant answers without a model of somebody's: a made-up one says what it was told.
        sandbox.deploy(AGENT_ID)
    await _register(record, settings)
    return settings


async def _register(record: AgentRecord, settings: Settings) -> None:
    from supervisor.store import Registry  # noqa: PLC0415

    registry = await Registry.open(settings.registry_url, upgrade=True)
    try:
        await registry.add_agent(record)
    finally:
        await registry.close()


async def _until_settled(service: Service) -> str:
    """Wait until the agent is online, or cannot be; why it cannot."""
    from supervisor.core.states import AgentState  # noqa: PLC0415

    status = service.control.status(AGENT_ID)
    try:
        async with asyncio.timeout(_ONLINE_SECONDS):
            while status.state not in (AgentState.ONLINE, AgentState.FAULTED, AgentState.REJECTED):
                await asyncio.sleep(0.02)
                status = service.control.status(AGENT_ID)
    except TimeoutError:
        return status.reason or f"it is {status.state} after {_ONLINE_SECONDS:.0f} s"
    return "" if status.state is AgentState.ONLINE else status.reason


def _print_addresses(options: _Options, sandbox: Sandbox, service: Service) -> None:
    elsewhere = "" if sandbox.port == local.CHAT_PORT else f" --url {sandbox.base_url}"
    follows = (
        "An installed package is loaded once." if options.packages else "What you save is taken up within a second."
    )
    print(
        f"\n  Chat with it    {sandbox.base_url}/?agent={AGENT_ID}\n"
        f"  In a terminal   {local.command()} chat {options.name}{elsewhere}\n"
        f"  Console         {service.admin_url}/\n\n"
        f"{follows} {local.ending(options.seconds)}",
        flush=True,
    )
