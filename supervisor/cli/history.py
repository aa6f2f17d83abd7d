"""``supervisor agents`` history, rollback and restore: who changed what, and the way back."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import known, selecting
from supervisor.cli.changes import shown, told
from supervisor.cli.errors import complain, warn

if TYPE_CHECKING:
    from rich.table import Table

    from supervisor.core.records import AgentEvent
    from supervisor.management.history import WayBack
    from supervisor.settings import Settings
    from supervisor.store import Registry

AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def _settings() -> Settings:
    from supervisor.settings import load_settings  # noqa: PLC0415  pydantic is slow to import

    return load_settings()


def history(
    agent: selecting.MaybeAgent = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="So many changes at most, the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show who changed an agent, when and what, the newest first; without AGENT, of all agents.

    Commands, the API, files and raw SQL are told apart; the platform's instruction is in it too. Secrets are not.

    Example: `supervisor agents history 650000000000000000000001`
    """
    from supervisor.cli import output  # noqa: PLC0415
    from supervisor.management import history as changes  # noqa: PLC0415

    settings = _settings()
    agent_id = None if agent is None else selecting.id_of(settings, agent)
    events = known.read_registry(settings, lambda registry: changes.of(registry, agent_id, limit))
    if as_json:
        output.print_json([dataclasses.asdict(event) for event in events])
    elif not events:
        complain("No change is known yet")
    else:
        output.stdout_console().print(_table(events, time.time()))


def _table(events: Sequence[AgentEvent], now: float) -> Table:
    from rich.table import Table  # noqa: PLC0415  only where something is shown
    from rich.text import Text  # noqa: PLC0415

    from supervisor.cli.output import duration, plain  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("VERSION", "AGE", "AGENT", "ACTION", "BY", "CHANGED"):
        table.add_column(title, justify="right" if title == "VERSION" else "left", overflow="fold")
    for event in events:
        age = duration(now - event.at)
        cells = (str(event.id), age, event.agent_id or "all", event.action, str(event.actor), _changed(event))
        table.add_row(*(Text(plain(cell)) for cell in cells))
    return table


def _changed(event: AgentEvent) -> str:
    """What a change made of what: each field, or each key of settings and labels."""
    before, after = event.before or {}, event.after or {}
    if event.subject == "deed":
        return ", ".join(f"{name}: {shown(value)}" for name, value in after.items() if value is not None)
    if event.subject == "row" and (event.before is None or event.after is None):
        return ""
    return "; ".join(told(before, after))


def rollback(
    agent: selecting.Agent,
    to: Annotated[int, typer.Option("--to", metavar="VERSION", min=1, max=2**63 - 1, help="As the history shows it.")],
    as_json: AsJson = False,
) -> None:
    """Have an agent be as it was after a change; a running supervisor follows without losing a message.

    Encrypted secrets, and settings that look secret, stay as they are: the history does not keep them.

    Example: `supervisor agents rollback 650000000000000000000001 --to 12`
    """
    from supervisor.management import agents  # noqa: PLC0415
    from supervisor.management import history as changes  # noqa: PLC0415

    settings = _settings()
    record = selecting.one(settings, agent)
    checker = agents.Checker(settings)

    async def work(registry: Registry) -> WayBack:
        return await changes.rollback(registry, checker, record.id, to)

    way = known.with_registry(settings, work)
    for line in (*checker.take_warnings(), *way.kept):
        warn(line)
    said = f"Agent {record.id} is back at version {to} ({', '.join(sorted(way.fields)) or 'nothing is different'})"
    if way.kept and not way.fields:
        said = f"Agent {record.id} stays as it is: but for that it is as at version {to}"
    known.done(settings, [(record.id, said)], as_json=as_json)


def restore(
    agent: Annotated[
        str,
        typer.Argument(
            metavar="AGENT", help="The id or name that it had, or the beginning of one.", show_default=False
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Undo an agent's removal, within a day of it: its row, labels and budget; cancelled messages stay cancelled.

    Example: `supervisor agents restore 650000000000000000000001`
    """
    from supervisor.core.errors import AgentNotFoundError  # noqa: PLC0415
    from supervisor.management.selection import pick  # noqa: PLC0415

    async def work(registry: Registry) -> str:
        try:
            agent_id = pick(agent, await registry.history.removals()).id
        except AgentNotFoundError:
            # One that is there again is told of as what it is.
            agent_id = agent
        return (await registry.restore_agent(agent_id)).id

    settings = _settings()
    agent_id = known.with_registry(settings, work)
    known.done(settings, [(agent_id, f"Restored agent {agent_id}")], as_json=as_json)
