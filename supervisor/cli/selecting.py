"""Which agents a command is about: the options that say so, and what they come to."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import known
from supervisor.cli.errors import UsageError, complain

if TYPE_CHECKING:
    from supervisor.core.records import AgentRecord
    from supervisor.management.selection import Selector
    from supervisor.settings import Settings
    from supervisor.store import Registry

#: What completion offers at most.
_OFFERED = 1_000
_AGENT_HELP = "An id, a name, or the beginning of one (four characters)."


def complete_agent(incomplete: str) -> list[tuple[str, str]]:
    """What the shell offers for an agent: ids, and names that are one word. A registry that cannot be read offers none.

    Names with a blank would reach the command as several words in some shells.
    """
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.settings import load_settings  # noqa: PLC0415

    records: list[AgentRecord] = []
    with contextlib.suppress(SupervisorError):
        records = known.read_registry(load_settings(), lambda registry: registry.agents())
    offered = [(record.id, record.name or record.handler) for record in records]
    offered += [(record.name, record.id) for record in records if record.name and " " not in record.name]
    return [one for one in offered if one[0].startswith(incomplete)][:_OFFERED]


Agent = Annotated[
    str, typer.Argument(metavar="AGENT", help=_AGENT_HELP, autocompletion=complete_agent, show_default=False)
]
MaybeAgent = Annotated[
    str | None,
    typer.Argument(metavar="[AGENT]", help=_AGENT_HELP, autocompletion=complete_agent, show_default=False),
]
OfAgent = Annotated[
    str | None,
    typer.Option(
        "--agent",
        metavar="AGENT",
        help=f"Of this agent. {_AGENT_HELP}",
        autocompletion=complete_agent,
        show_default=False,
    ),
]
_LABEL_HELP = "Agents with this label, of whatever value without =VALUE. Repeatable: with all of them."
_STATE_HELP = "Agents in this state: online, faulted, failing … Repeatable: in any of them."
_HANDLER_HELP = "Agents with this handler. Repeatable: with any of them."
WithLabel = Annotated[
    list[str],
    typer.Option("--label", metavar="KEY=VALUE", help=_LABEL_HELP, default_factory=list, show_default=False),
]
InState = Annotated[
    list[str], typer.Option("--state", metavar="STATE", help=_STATE_HELP, default_factory=list, show_default=False)
]
InAgentState = Annotated[
    list[str],
    typer.Option("--agent-state", metavar="STATE", help=_STATE_HELP, default_factory=list, show_default=False),
]
WithHandler = Annotated[
    list[str],
    typer.Option("--handler", metavar="HANDLER", help=_HANDLER_HELP, default_factory=list, show_default=False),
]
WhereLabel = Annotated[
    list[str],
    typer.Option("--where-label", metavar="KEY=VALUE", help=_LABEL_HELP, default_factory=list, show_default=False),
]
WhereHandler = Annotated[
    list[str],
    typer.Option("--where-handler", metavar="HANDLER", help=_HANDLER_HELP, default_factory=list, show_default=False),
]
Everything = Annotated[bool, typer.Option("--all", help="Every agent.")]


def selector(labels: Sequence[str], states: Sequence[str], handlers: Sequence[str]) -> Selector:
    """What the options ask for.

    Raises:
        UsageError: one has the wrong form.
    """
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415
    from supervisor.management.selection import Selector  # noqa: PLC0415

    try:
        return Selector.of(labels, states, handlers)
    except ConfigurationError as error:
        raise UsageError(str(error)) from None


async def find(registry: Registry, text: str) -> AgentRecord:
    """The agent that somebody means by an id, a name or the beginning of one.

    Raises:
        AmbiguousAgentError, AgentNotFoundError: as :func:`supervisor.management.selection.pick`.
    """
    from supervisor.core.errors import AgentNotFoundError  # noqa: PLC0415
    from supervisor.management.selection import pick  # noqa: PLC0415

    try:
        return await registry.agent(text)
    except AgentNotFoundError:
        return pick(text, await registry.agents())


def one(settings: Settings, text: str) -> AgentRecord:
    """As :func:`find`, on the registry of the settings."""
    return known.read_registry(settings, lambda registry: find(registry, text))


def id_of(settings: Settings, text: str) -> str:
    """The id of the agent that is meant, which may be registered no more: then it is the id itself."""
    from supervisor.core.errors import AgentNotFoundError  # noqa: PLC0415

    try:
        return one(settings, text).id
    except AgentNotFoundError:
        return text


def chosen(settings: Settings, agent: str | None, wanted: Selector, *, everything: bool = False) -> list[AgentRecord]:
    """The agents that a command is to do something to: the one that is named, or all that are selected.

    Raises:
        UsageError: neither was asked for, or both.
    """
    if agent is not None:
        if wanted or everything:
            raise UsageError("Name an agent or select some, not both")
        return [one(settings, agent)]
    if not wanted and not everything:
        raise UsageError("Say which agents: one, or a selection by label, state or handler, or --all")
    found = selected(settings, wanted)
    if not found:
        complain("No agent matches")
    return found


def selected(settings: Settings, wanted: Selector) -> list[AgentRecord]:
    """Every agent that has what is asked for."""
    rows = known.read_registry(settings, known.rows_of)
    if not wanted:
        return rows.records
    matching = {status.id for status in known.statuses_of(settings, rows) if status in wanted}
    return [record for record in rows.records if record.id in matching]


def confirm(question: str, *, yes: bool) -> None:
    """Ask somebody, unless the answer was given with the command.

    Raises:
        UsageError: nobody is there to ask.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question}? Nobody is there to ask; add --yes")
    typer.confirm(f"{question}?", abort=True, err=True)


def require_whole(text: str, record: AgentRecord, *, yes: bool) -> None:
    """Refuse the beginning of an id or a name where something is deleted and nobody is asked.

    Raises:
        UsageError: it is one.
    """
    from supervisor.management.selection import is_whole  # noqa: PLC0415

    if yes and not is_whole(text, record):
        called = f" or {record.name!r}" if record.name else ""
        raise UsageError(f"With --yes write the whole id or name: {record.id}{called}, not {text!r}")
