"""``supervisor agents`` pause, resume, reload and remove: what is done to one agent, or to all that are selected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

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

_T = TypeVar("_T")
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs; a list where agents are selected.")]


def _settings() -> Settings:
    from supervisor.settings import load_settings  # noqa: PLC0415  pydantic is slow to import

    return load_settings()


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The agents that a command is about; ``single``: one was named, and the answer is about one."""

    settings: Settings
    records: Sequence[AgentRecord]
    single: bool
    as_json: bool

    def done(self, what: str) -> None:
        """Say what was done to each."""
        known.done(
            self.settings, [(record.id, what) for record in self.records], as_json=self.as_json, single=self.single
        )


def _to_chosen(act: Callable[[_Chosen], _T]) -> Callable[..., _T]:
    """The command that does something to one agent, or to all that are selected."""

    def command(
        *,
        agent_id: MaybeAgent = None,
        labels: WithLabel,
        states: InState,
        handlers: WithHandler,
        everything: Everything = False,
        as_json: AsJson = False,
    ) -> _T:
        settings = _settings()
        records = chosen(settings, agent_id, selector(labels, states, handlers), everything=everything)
        return act(_Chosen(settings, records, single=agent_id is not None, as_json=as_json))

    # Not functools.wraps: the options are the command's own.
    command.__name__, command.__doc__ = act.__name__, act.__doc__
    return command


@_to_chosen
def pause(agents: _Chosen) -> None:
    """Take an agent offline until it is resumed; messages that it has are kept.

    Example: `supervisor agents pause 650000000000000000000001` or `supervisor agents pause --label team=support`
    """

    async def work(registry: Registry) -> None:
        for record in agents.records:
            await registry.update_agent(record.id, paused=True)

    known.with_registry(agents.settings, work)
    agents.done("Paused agent")


@_to_chosen
def resume(agents: _Chosen) -> None:
    """End an agent's pause, its sleep, or its wait after a failure or a refusal: it tries again at once.

    Example: `supervisor agents resume 650000000000000000000001` or `supervisor agents resume --state faulted`
    """
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415

    async def work(registry: Registry) -> str:
        for record in agents.records:
            await registry.update_agent(record.id, paused=False)
            if (await registry.journal.lives.of(record.id)).sleep is not None:
                await registry.journal.lives.record_sleep(record.id, None)
        return registry.uuid

    uuid = known.with_registry(agents.settings, work)
    try:
        from supervisor.cli import live  # noqa: PLC0415

        if (running := live.find(agents.settings, uuid)) is not None:
            _ask_each(running, agents.records, "resume")
    except SupervisorError as error:
        warn(f"the running supervisor could not be asked to try at once: {error}")
    agents.done("Resumed agent")


@_to_chosen
def reload(agents: _Chosen) -> int:
    """Load an agent's handler, instruction and settings anew, without losing a message. Needs a running supervisor.

    Example: `supervisor agents reload 650000000000000000000001` or `supervisor agents reload --handler echo`
    """
    from supervisor.cli import live  # noqa: PLC0415

    running = live.require(agents.settings, known.read_registry(agents.settings, _uuid))
    failed = _ask_each(running, agents.records, "reload")
    if agents.as_json:
        known.print_agents(agents.settings, [record.id for record in agents.records], single=agents.single)
    else:
        for record in agents.records:
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
