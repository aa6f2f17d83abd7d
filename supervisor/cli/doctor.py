"""``supervisor doctor``: is all well, and if not, what to change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.telemetry.redaction import redact

if TYPE_CHECKING:
    from supervisor.doctor import Finding, Report, Running
    from supervisor.settings import Settings
    from supervisor.settings.secrets import SecretResolver

_STYLES = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}


def doctor(
    agent_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[AGENT]",
            help="Check this agent in full: an id, a name, or the beginning of one.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, max=1000, help="Without AGENT: so many agents are tried over the network.")
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> int:
    """Check settings, registry, handlers and secrets, then the way to the platform and back; say what to change.

    Exit code: 0 well, 3 configuration, 4 refused by the platform, 5 platform ill, 6 deaf: connected to where nothing
    is ever delivered, 7 unanswered: an agent that is online is failing or stuck. No message is written, and an agent
    that a running supervisor has online gets no second socket.

    Example: `supervisor doctor 650000000000000000000001`
    """
    from supervisor.cli import output  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.doctor.findings import exit_code  # noqa: PLC0415

    findings: list[Finding] = []
    console = output.stdout_console()

    def report(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            _print(console, finding, agent_id)

    asyncio.run(_check(agent_id, limit, report))
    code = exit_code(findings)
    if as_json:
        output.print_json({"exit_code": code, "checks": [_as_json(finding) for finding in findings]})
    return code


async def _check(agent_id: str | None, limit: int, report: Report) -> None:
    from supervisor.core.errors import AgentNotFoundError, ConfigurationError  # noqa: PLC0415
    from supervisor.doctor import (  # noqa: PLC0415
        Examiner,
        check_agent,
        check_fleet,
        check_handlers,
        check_registry,
    )
    from supervisor.doctor.deployment import check_settings  # noqa: PLC0415
    from supervisor.doctor.findings import Trouble, failed, from_the_next_start, misconfigured  # noqa: PLC0415
    from supervisor.management.selection import pick  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415
    from supervisor.settings.environment import env_file_notes  # noqa: PLC0415

    try:
        settings = load_settings()
        secrets = _resolver(settings)
    except ConfigurationError as error:
        report(misconfigured("settings", error, "see: supervisor config --help"))
        return
    check_settings(settings, env_file_notes(settings.secret_env_prefixes), report)
    loader = check_handlers(settings, report)
    try:
        known = await check_registry(settings, report, loader.names() if loader is not None else ())
        if loader is None or (known is None and agent_id is not None):
            return
        uuid, records = known or (None, [])
        live = sum(not record.paused for record in records)
        running = _running(settings, uuid, live, report) if uuid is not None else None
        report = report if running is None else from_the_next_start(report)
        async with Examiner.open(settings, loader, secrets) as examiner:
            if agent_id is None:
                await check_fleet(examiner, records, running, report, limit=limit)
                return
            try:
                await check_agent(examiner, pick(agent_id, records), running, report)
            except AgentNotFoundError:
                advice = "see: supervisor agents list; or add it: supervisor agents add"
                report(failed("agent", f"No agent {agent_id} is registered", advice, Trouble.CONFIGURATION))
    except ConfigurationError as error:
        report(misconfigured("settings", error, "see: supervisor config --help"))
    finally:
        if loader is not None:
            loader.close()


def _resolver(settings: Settings) -> SecretResolver:
    """What resolves the rows' references in this process's environment.

    Raises:
        ConfigurationError: one of SECRET_KEYS is no key.
    """
    import os  # noqa: PLC0415

    from supervisor.settings.secrets import SecretBox, SecretResolver  # noqa: PLC0415

    return SecretResolver(
        environ=os.environ,
        env_prefixes=settings.secret_env_prefixes,
        dirs=settings.secret_dirs,
        box=SecretBox.of(settings.secret_keys),
    )


def _running(settings: Settings, uuid: str, agents: int, report: Report) -> Running | None:
    """The supervisor that runs on the registry, what it says, and whether it can have so many agents online."""
    from supervisor.cli import live  # noqa: PLC0415
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415
    from supervisor.doctor import Finding, Level, Running, check_supervisor  # noqa: PLC0415
    from supervisor.doctor.deployment import check_descriptors  # noqa: PLC0415

    try:
        found = live.find(settings, uuid)
        overview = found.overview() if found is not None else None
        statuses = found.statuses() if found is not None else []
    except SupervisorError as error:
        advice = "set SUPERVISOR_ADMIN_TOKEN here, or see whether it hangs; until then nothing is tried beside it"
        report(Finding("supervisor", Level.WARN, str(error), advice))
        return Running(None)
    check_supervisor(overview, found.url if found is not None else "", report)
    check_descriptors(agents, overview.pid if overview is not None else None, report)
    return Running({status.id: status for status in statuses}) if found is not None else None


def _print(console: Any, finding: Finding, asked: str | None) -> None:
    from rich.text import Text  # noqa: PLC0415

    from supervisor.cli.output import plain  # noqa: PLC0415

    who = f"{finding.agent}: " if finding.agent and asked is None else ""
    style = _STYLES[finding.level]
    line = Text.assemble((f"{finding.level:4}", style), f"  {finding.check:14}  ", plain(redact(who + finding.text)))
    console.print(line, soft_wrap=True)
    if finding.advice:
        console.print(Text(f"      {'':14}  → {plain(redact(finding.advice))}", style=style), soft_wrap=True)


def _as_json(finding: Finding) -> dict[str, Any]:
    import dataclasses  # noqa: PLC0415

    shown = dataclasses.asdict(finding)
    return {name: redact(value) if isinstance(value, str) else value for name, value in shown.items()}
