"""Checks of the deployment itself: handlers, the registry, the running supervisor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from supervisor.core.errors import ConfigurationError, HandlerError, RegistryError, RegistryNotFoundError
from supervisor.core.records import AgentRecord
from supervisor.core.status import Overview
from supervisor.doctor.findings import Finding, Level, Report, Trouble, failed
from supervisor.handlers import Folders, HandlerLoader, find_agents_dir
from supervisor.net import descriptors
from supervisor.settings import Settings
from supervisor.store import Registry

_EXAMPLE: Final = "echo"
#: So many handlers are named.
_NAMED: Final = 8


def check_settings(settings: Settings, notes: Sequence[str], report: Report) -> None:
    """The settings in effect, and what their owner should know of where they come from."""
    given = f"{len(settings.model_fields_set)} given, the rest by default"
    report(Finding("settings", Level.OK, f"{given}; API {settings.api_url}, gateway {settings.ws_url}"))
    for note in notes:
        report(Finding("settings", Level.WARN, note))


def check_handlers(settings: Settings, report: Report) -> HandlerLoader | None:
    """The agents folder and what is bundled; a loader for both, None when there is no folder."""
    folders = find_handlers(settings, report)
    if folders is None:
        return None
    return HandlerLoader(folders.own, packages=settings.handler_packages, bundled=folders.allowed)


def find_handlers(settings: Settings, report: Report) -> Folders | None:
    """The agents folder and what is bundled; None when there is no folder."""
    try:
        folders = Folders(find_agents_dir(settings.agents_dir), settings.bundled_handlers)
        names = folders.own_names()
        bundled = [name for name in folders.names() if name not in names]
    except (ConfigurationError, HandlerError) as error:
        report(failed("handlers", str(error), "set SUPERVISOR_AGENTS_DIR to the folder", Trouble.CONFIGURATION))
        return None
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    beside = f"; bundled: {', '.join(bundled)}" if bundled else ""
    report(Finding("handlers", Level.OK, f"{named or 'none'} in {folders.own}{beside}"))
    return folders


async def check_registry(
    settings: Settings, report: Report, handlers: Sequence[str] = ()
) -> tuple[str, list[AgentRecord]] | None:
    """The registry's UUID and its agents; None when it cannot be read. Nothing is made or changed.

    Args:
        handlers: those that the agents folder holds; what is advised names one of them.
    """
    try:
        registry = await Registry.open(settings.registry_url, synchronous=settings.synchronous)
        try:
            records, scarce = await registry.agents(), await registry.scarce_room()
        finally:
            await registry.close()
    except RegistryError as error:
        advice = ""
        if isinstance(error, RegistryNotFoundError):
            advice = f"the first agent makes it too: {_adding(handlers)}; one elsewhere: set SUPERVISOR_REGISTRY_URL"
        report(failed("registry", str(error), advice, Trouble.CONFIGURATION))
        return None
    report_registry(registry.where, len(records), scarce, report, handlers)
    return registry.uuid, records


def report_registry(where: str, agents: int, scarce: str | None, report: Report, handlers: Sequence[str] = ()) -> None:
    """A registry that can be read: how many agents it holds, and whether its disk has room.

    Args:
        scarce: what to say of a disk that is nearly full; None while there is room.
        handlers: as for :func:`check_registry`.
    """
    advice = "" if agents else f"add one: {_adding(handlers)}"
    text = f"{where} holds {agents} agent{'' if agents == 1 else 's'}"
    report(Finding("registry", Level.OK if agents else Level.WARN, text, advice))
    if scarce:
        report(Finding("disk", Level.WARN, scarce, "before it is full: then nobody is answered until there is room"))


def _adding(handlers: Sequence[str]) -> str:
    """The command that adds an agent, with a handler that there is."""
    example = _EXAMPLE if _EXAMPLE in handlers or not handlers else handlers[0]
    return f"supervisor agents add ID --handler {example} --secret-env AGENT_SECRET"


def check_descriptors(agents: int, pid: int | None, report: Report) -> None:
    """Whether the file descriptors suffice: of the supervisor that runs, else of one that would be started here."""
    found = descriptors.of_process(pid if pid is not None else os.getpid())
    if found is None:
        return
    limit, needed = found[pid is None], descriptors.needed(agents)
    want = "1 agent needs" if agents == 1 else f"{agents} agents need"
    text = f"{'it' if pid is not None else 'one started here'} may have {limit}, and {want} {needed}"
    if needed <= limit:
        report(Finding("descriptors", Level.OK, text))
        return
    waiting = agents - descriptors.Budget(limit).agents
    report(Finding("descriptors", Level.WARN, f"{text}: {waiting} of them will wait", descriptors.REMEDY))


def check_supervisor(overview: Overview | None, url: str, report: Report) -> None:
    """The supervisor that runs on the registry, by what it says of itself; one that does not run is no failure.

    Args:
        url: where it answers; empty where whoever asks knows.
    """
    if overview is None:
        report(Finding("supervisor", Level.OK, "none runs on this registry; start it with: supervisor run"))
        return
    for problem in overview.problems:
        report(failed("supervisor", problem, "see its log, and /readyz", Trouble.CONFIGURATION))
    for notice in overview.notices:
        report(Finding("supervisor", Level.WARN, notice))
    if not overview.problems:
        at = f", {url}" if url else ""
        report(
            Finding("supervisor", Level.OK, f"version {overview.version} runs (pid {overview.pid}) and is ready{at}")
        )
