"""``supervisor usage``: what the agents used of language models and what it cost. Works on the registry."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from supervisor.cli import known, selecting
from supervisor.cli.errors import UsageError, complain

if TYPE_CHECKING:
    from rich.table import Table

    from supervisor.core.records import UsageRecord
    from supervisor.store import Registry

#: How far back the registry's record goes (``maintenance.USAGE_DAYS``).
_MOST_DAYS: Final = 400
_TITLES: Final = ("DAY", "AGENT", "NAME", "MODEL", "REQUESTS", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST")
_By = Literal["agent", "model", "day"]
#: The field of a record that each groups by, and the columns that then name a group.
_FIELDS: Final[dict[_By, str]] = {"agent": "agent_id", "model": "model", "day": "day"}
_NAMED_BY: Final[dict[_By, tuple[str, ...]]] = {"agent": ("AGENT", "NAME"), "model": ("MODEL",), "day": ("DAY",)}
_FIGURES: Final = frozenset({"REQUESTS", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST"})
_DROPPED_FIRST: Final = ("REASONING", "NAME", "CACHED", "REQUESTS")
#: Before figures that are estimates, or a part of which is.
_ABOUT: Final = "~"
_GAP, _MAX_NAME_CHARS = 2, 28


def usage(
    *,
    agent: selecting.OfAgent = None,
    labels: selecting.WithLabel,
    states: selecting.InState,
    handlers: selecting.WithHandler,
    by: Annotated[
        _By | None,
        typer.Option("--by", help="Only the sums of each.", show_default=False),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=_MOST_DAYS, help="So many UTC days, today included.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Show tokens and cost per agent, model and UTC day; cached tokens are part of the input, reasoning of the output.

    Example: `supervisor usage --days 30`
    """
    from supervisor.cli import output  # noqa: PLC0415
    from supervisor.core.days import days_before  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415  pydantic is slow to import

    since = days_before(time.time(), days - 1)
    wanted = selecting.selector(labels, states, handlers)
    if agent is not None and wanted:
        raise UsageError("Name an agent or select some, not both")
    settings = load_settings()
    agent_id = None if agent is None else selecting.id_of(settings, agent)
    records, names = known.read_registry(settings, lambda registry: _read(registry, agent_id, since))
    if wanted:
        chosen = {record.id for record in selecting.selected(settings, wanted)}
        records = [record for record in records if record.agent_id in chosen]
    if as_json:
        head = {"since": since, "currency": settings.currency}
        output.print_json(head | _sums_as_json(records) | (_groups_as_json(records, by) if by else {}))
    elif not records:
        complain(f"No usage since {since} (UTC); handlers report it with ctx.usage() or Reply(usage=…)")
    else:
        console = output.stdout_console()
        console.print(_table(records, names, console.width, by, settings.currency))
        _complain_of_prices(records)
        if any(record.estimated_requests for record in records):
            complain(f"Figures after {_ABOUT} are estimates, or hold some: the model's server reported none")


async def _read(registry: Registry, agent_id: str | None, since_day: str) -> tuple[list[UsageRecord], dict[str, str]]:
    """What was used, and the names of the agents that are registered still.

    Raises:
        AgentNotFoundError: an agent was asked for that is not registered, and never used anything.
    """
    records = await registry.usage(agent_id, since_day=since_day)
    if agent_id is not None and not records and not await registry.usage(agent_id):
        await registry.agent(agent_id)
    return records, {record.id: record.name for record in await registry.agents()}


def _grouped(records: Iterable[UsageRecord], field: str = "agent_id") -> dict[str, list[UsageRecord]]:
    groups: dict[str, list[UsageRecord]] = {}
    for record in records:
        groups.setdefault(getattr(record, field), []).append(record)
    return groups


def _sums_as_json(records: Sequence[UsageRecord]) -> dict[str, Any]:
    """Every record, and the sums of each agent and of all, for programs."""
    agents = [_as_json(_sum(group), but=("model", "day")) for group in _grouped(records).values()]
    total = _as_json(_sum(records), but=("agent_id", "model", "day")) if records else None
    return {"usage": [_as_json(record) for record in records], "agents": agents, "total": total}


def _groups_as_json(records: Iterable[UsageRecord], by: _By) -> dict[str, Any]:
    """The sums of each agent, model or day, for programs."""
    others = [name for name in _FIELDS.values() if name != _FIELDS[by]]
    sums = [_sum(group) for group in _grouped(records, _FIELDS[by]).values()]
    return {"by": by, "groups": [_as_json(one, but=others) for one in sums]}


def _sum(records: Sequence[UsageRecord]) -> UsageRecord:
    total = records[0]
    for record in records[1:]:
        total = total.plus(record)
    return total


def _as_json(record: UsageRecord, but: Sequence[str] = ()) -> dict[str, Any]:
    """A record for programs: its cost is null where no price was configured for any of it."""
    fields = dataclasses.asdict(record) | {"total_tokens": record.total_tokens}
    if record.unpriced_requests >= record.requests:
        fields["cost"] = None
    return {name: value for name, value in fields.items() if name not in but}


def _table(records: Sequence[UsageRecord], names: dict[str, str], width: int, by: _By | None, currency: str) -> Table:
    """Every record, the newest day first, and each agent's sum, or the sums of each ``by``; then that of all."""
    from rich.table import Table  # noqa: PLC0415  only where something is shown
    from rich.text import Text  # noqa: PLC0415

    titles: Sequence[str] = _TITLES
    if by is None:
        rows = [_row(one.day, one, names) for one in sorted(records, key=lambda one: one.day, reverse=True)]
        groups = _grouped(records)
        sums = [_row("all days", _sum(group), names) | {"MODEL": ""} for group in groups.values()]
        if len(groups) == len(records):
            sums = []
    else:
        titles = tuple(title for title in _TITLES if title in _FIGURES or title in _NAMED_BY[by])
        ordered = sorted(
            _grouped(records, _FIELDS[by]).values(), key=lambda group: _weight(_sum(group), by), reverse=True
        )
        rows, sums = [_row(group[0].day, _sum(group), names) for group in ordered], []
    total = _row("total", _sum(records), names) | {"AGENT": "", "NAME": "", "MODEL": ""}
    if by is not None:
        total[titles[0]] = "total"
    everything = [*rows, *sums, total]
    heads = {title: f"{title} ({currency})" if title == "COST" else title for title in titles}
    widths = {title: max(len(heads[title]), *(len(row[title]) for row in everything)) for title in titles}
    shown = [title for title in titles if title != "REASONING" or any(one.reasoning_tokens for one in records)]
    for title in _DROPPED_FIRST:
        if title in shown and sum(widths[one] + _GAP for one in shown) - _GAP > width:
            shown.remove(title)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in shown:
        # The model's name gives way where the line is still too wide: no figure is ever cut.
        least = None if title == "MODEL" else widths[title]
        table.add_column(heads[title], justify="right" if title in _FIGURES else "left", no_wrap=True, min_width=least)
    for row in everything:
        style = "bold" if row is total else "dim" if row in sums else ""
        table.add_row(*(Text(row[title]) for title in shown), style=style)
    return table


def _weight(total: UsageRecord, by: _By) -> tuple[str, float, int]:
    """The newest day first, what costs most first among agents and models."""
    return total.day if by == "day" else "", total.cost, total.total_tokens


def _row(label: str, record: UsageRecord, names: dict[str, str]) -> dict[str, str]:
    from supervisor.cli.output import plain  # noqa: PLC0415

    about = _ABOUT if record.estimated_requests else ""
    return {
        "DAY": label,
        "AGENT": plain(record.agent_id),
        "NAME": plain(names.get(record.agent_id, "(removed)"))[:_MAX_NAME_CHARS],
        "MODEL": plain(record.model),
        "REQUESTS": f"{record.requests:,}",
        "INPUT": f"{about}{record.input_tokens:,}",
        "CACHED": f"{record.cached_tokens:,}",
        "OUTPUT": f"{about}{record.output_tokens:,}",
        "REASONING": f"{record.reasoning_tokens:,}",
        "COST": _cost(record),
    }


def _cost(record: UsageRecord) -> str:
    """The cost with a mark where a part has no price, which makes it the least that it can be."""
    if record.unpriced_requests >= record.requests:
        return "?"
    shown = f"{record.cost:,.4f}" if record.cost < 1 else f"{record.cost:,.2f}"
    return f"{shown}+?" if record.unpriced_requests else shown


def _complain_of_prices(records: Iterable[UsageRecord]) -> None:
    from supervisor.cli.output import plain  # noqa: PLC0415

    unpriced = sorted({plain(record.model) for record in records if record.unpriced_requests})
    if unpriced:
        complain(f"No price for {', '.join(unpriced)} when it was used, so no cost (?); set SUPERVISOR_PRICES")
