"""``supervisor demo``: a platform, a fleet and sample agents in one process, with nothing to configure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from supervisor.cli import demo_reach, local
from supervisor.cli.durations import duration
from supervisor.cli.errors import UsageError
from supervisor.cli.running import Profile
from supervisor.cli.steps import Steps
from supervisor.core.errors import SupervisorError

if TYPE_CHECKING:
    from supervisor.sandbox import Sandbox
    from supervisor.service import Service
    from supervisor.settings import Settings

_REPLY_SECONDS: Final = 30.0
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
        float | None,
        typer.Option("--for", parser=duration, metavar="DURATION", help="End by itself.", show_default=False),
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
    return local.run_alone(lambda folder: _demo(options, folder))


async def _demo(options: _Options, folder: Path) -> int:
    from supervisor.telemetry import logs  # noqa: PLC0415  import what is slow only when it runs

    logs.configure("WARNING", "console")
    with Steps() as steps:
        async with (
            local.local_platform(options.profile, options.port, steps) as sandbox,
            _fleet(options, folder, sandbox, steps) as service,
        ):
            if options.ask is not None:
                steps.doing("asking")
                reply = await _ask(sandbox, options.ask)
                steps.close()
                print(reply, flush=True)
                return 0
            steps.close()
            _leave_settings(folder, service, sandbox)
            _print_addresses(sandbox, service, options.seconds)
            await local.until_over(service, options.seconds)
    return 0


@contextlib.asynccontextmanager
async def _fleet(options: _Options, folder: Path, sandbox: Sandbox, steps: Steps) -> AsyncIterator[Service]:
    steps.doing("filling the registry")
    settings = local.local_settings(folder, sandbox)
    await _fill(settings, sandbox, options, folder)
    steps.done(f"registry with {options.agents} {'agent' if options.agents == 1 else 'agents'}")
    service = await local.start_service(settings, folder)
    try:
        await _online(service, options.agents, steps)
        service.watch_code()
        yield service
    finally:
        await service.stop(grace_seconds=1.0)


async def _fill(settings: Settings, sandbox: Sandbox, options: _Options, folder: Path) -> None:
    from supervisor.core.records import AgentRecord  # noqa: PLC0415
    from supervisor.store import Registry  # noqa: PLC0415

    secret = local.local_secret(folder)
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
                secret=secret,
                name=f"{name} {turn + 1}" if turn and not assists else name,
                labels={"demo": "yes"},
            )
        )
        if assists:
            sandbox.add_agent(records[-1].id, local.SECRET, name=records[-1].name, instruction=_INSTRUCTION)
            sandbox.deploy(records[-1].id)
        else:
            sandbox.add_agent(records[-1].id, local.SECRET, name=records[-1].name)
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


async def _online(service: Service, count: int, steps: Steps) -> None:
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


def _leave_settings(folder: Path, service: Service, sandbox: Sandbox) -> None:
    """Let commands reach this demo: what leads to it, as variables."""
    settings = service.settings
    named = {
        "REGISTRY_URL": settings.registry_url,
        "API_URL": settings.api_url,
        "WS_URL": settings.ws_url,
        "SECRET_DIRS": folder,
    }
    variables = {f"SUPERVISOR_{name}": str(value) for name, value in named.items()}
    demo_reach.leave(folder, variables, sandbox.base_url)


def _print_addresses(sandbox: Sandbox, service: Service, seconds: float | None) -> None:
    admin = service.admin_url
    elsewhere = "" if sandbox.port == local.CHAT_PORT else f" --url {sandbox.base_url}"
    print(
        f"\n  Chat with an agent   {sandbox.base_url}/\n"
        f"  In a terminal        {local.command()} chat {next(iter(sandbox.agents.values())).name!r}{elsewhere}\n"
        f"  Console              {admin}/\n"
        f"  Metrics              {admin}/metrics\n"
        f"  Status               {admin}/api/v1/status\n"
        f"  API                  {admin}/docs\n"
        f"  Commands             {local.command()} --demo status\n\n"
        f"{local.ending(seconds)}",
        flush=True,
    )
