"""``supervisor agents`` pause, resume, reload and remove: what is done to one agent, or to all that are selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import known
from supervisor.cli.errors import EXIT_FAILURE, complain, warn
from supervisor.cli.selecting import (
    Everything,
    InState,
    MaybeAgent,
    WithHandler,
    WithLabel,
    chosen,
    confirm,
    require_whole,
    selector,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.cli.live import LiveSupervisor
    from supervisor.core.records import AgentRecord
    from supervisor.settings import Settings
    from supervisor.store import Registry

AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs; a list where agents are selected.")]


def _settings() -> Settings:
    from supervisor.settings import load_settings  # noqa: PLC0415  pydantic is slow to import

    return load_settings()


def pause(
    *,
    agent_id: MaybeAgent = None,
    labels: WithLabel,
    states: InState,
    handlers: WithHandler,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Take an agent offline until it is resumed; messages that it has are kept.

    Example: `supervisor agents pause 650000000000000000000001` or `supervisor agents pause --label team=support`
    """
    settings = _settings()
    records = chosen(settings, agent_id, selector(labels, states, handlers), everything=everything)

    async def work(registry: Registry) -> None:
        for record in records:
            await registry.update_agent(record.id, paused=True)

    known.with_registry(settings, work)
    known.done(
        settings, [(record.id, "Paused agent") for record in records], as_json=as_json, single=agent_id is not None
    )


def resume(
    *,
    agent_id: MaybeAgent = None,
    labels: WithLabel,
    states: InState,
    handlers: WithHandler,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """End an agent's pause, its sleep, or its wait after a failure or a refusal: it tries again at once.

    Example: `supervisor agents resume 650000000000000000000001` or `supervisor agents resume --state faulted`
    """
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415

    settings = _settings()
    records = chosen(settings, agent_id, selector(labels, states, handlers), everything=everything)

    async def work(registry: Registry) -> str:
        for record in records:
            await registry.update_agent(record.id, paused=False)
            if (await registry.journal.lives.of(record.id)).sleep is not None:
                await registry.journal.lives.record_sleep(record.id, None)
        return registry.uuid

    uuid = known.with_registry(settings, work)
    try:
        from supervisor.cli import live  # noqa: PLC0415

        if (running := live.find(settings, uuid)) is not None:
            _ask_each(running, records, "resume")
    except SupervisorError as error:
        warn(f"the running supervisor could not be asked to try at once: {error}")
    known.done(
        settings, [(record.id, "Resumed agent") for record in records], as_json=as_json, single=agent_id is not None
    )


def reload(
    *,
    agent_id: MaybeAgent = None,
    labels: WithLabel,
    states: InState,
    handlers: WithHandler,
    everything: Everything = False,
    as_json: AsJson = False,
) -> int:
    """Load an agent's handler, instruction and settings anew, without losing a message. Needs a running supervisor.

    Example: `supervisor agents reload 650000000000000000000001` or `supervisor agents reload --handler echo`
    """
    from supervisor.cli import live  # noqa: PLC0415

    settings = _settings()
    records = chosen(settings, agent_id, selector(labels, states, handlers), everything=everything)
    running = live.require(settings, known.read_registry(settings, _uuid))
    failed = _ask_each(running, records, "reload")
    if as_json:
        known.print_agents(settings, [record.id for record in records], single=agent_id is not None)
    else:
        for record in records:
            if record not in failed:
                print(f"Reloading agent {record.id}")
    return EXIT_FAILURE if failed else 0


async def _uuid(registry: Registry) -> str:
    return registry.uuid


def _ask_each(running: LiveSupervisor, records: Sequence[AgentRecord], action: str) -> list[AgentRecord]:
    """Ask for something to be done to each agent; those to which it was not. One alone fails as the command."""
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415

    failed = []
    for record in records:
        try:
            running.act(record.id, action)
        except SupervisorError as error:
            if len(records) == 1:
                raise
            complain(f"Error: agent {record.id}: {error}")
            failed.append(record)
    return failed


def remove(
    *,
    agent_id: MaybeAgent = None,
    labels: WithLabel,
    states: InState,
    handlers: WithHandler,
    everything: Everything = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; wants a whole id or name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove an agent; a running supervisor takes it offline.

    Example: `supervisor agents remove 650000000000000000000001 --yes`
    """
    settings = _settings()
    records = chosen(settings, agent_id, selector(labels, states, handlers), everything=everything)
    if agent_id is not None:
        require_whole(agent_id, records[0], yes=yes)
    if records:
        confirm(f"Remove {_called(records)}", yes=yes)

    async def work(registry: Registry) -> None:
        await registry.apply(remove=[record.id for record in records])

    known.with_registry(settings, work)
    if as_json:
        from supervisor.cli import output  # noqa: PLC0415

        ids = [record.id for record in records]
        output.print_json({"removed": ids[0] if agent_id is not None else ids})
    else:
        for record in records:
            print(f"Removed agent {record.id}")


def _called(records: Sequence[AgentRecord]) -> str:
    """Agents as a question names them."""
    if len(records) > 1:
        return f"{len(records)} agents"
    name = f" ({records[0].name})" if records[0].name else ""
    return f"agent {records[0].id}{name}"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    commands: tuple[Callable[..., object], ...] = (pause, resume, reload, remove)
    for command in commands:
        app.command()(command)
