"""``supervisor agents import`` and ``export``: whole fleets as YAML (see :mod:`supervisor.management.fleet_file`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli.errors import warn
from supervisor.cli.streams import takes_unicode
from supervisor.core.actors import Actor, acting, acting_as

if TYPE_CHECKING:
    from supervisor.core.records import AgentRecord
    from supervisor.management.fleet_file import Plan
    from supervisor.settings import Settings
    from supervisor.store import Registry

AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def import_fleet(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML; - is standard input.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove agents that the file lacks.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Take in agents that cannot run yet too; they become faulted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the registry hold what a file says: all of it or nothing, and nothing when it does already.

    The file: `agents: [{id: "650000000000000000000001", handler: echo, secret: "env:AGENT_SECRET"}]`, and, where they
    are wanted, name, settings, labels, paused; as `supervisor agents export` writes it.

    Example: `supervisor agents import fleet.yaml --dry-run`
    """
    from supervisor.cli import checks, known, output  # noqa: PLC0415
    from supervisor.management import agents, fleet_file, fleet_import  # noqa: PLC0415  import what is slow only here
    from supervisor.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    source = "standard input" if file == "-" else file
    text = _read(file)
    checker = agents.Checker(settings)
    existing = _registered(settings)
    records = fleet_import.checked(text, source, existing, checker, keep_going=keep_going)

    async def work(registry: Registry) -> Plan:
        with acting_as(Actor("import", f"{source}, {acting().address}")):
            return await fleet_import.bring(registry, records, prune=prune)

    if dry_run:
        plan = fleet_file.plan(records, existing, prune=prune)
    else:
        plan = known.with_registry(settings, work, create=True)
    checks.print_warnings(checker)
    if as_json:
        output.print_json(_plan_as_json(plan, dry_run=dry_run))
    else:
        _show(plan, dry_run=dry_run)


def _registered(settings: Settings) -> list[AgentRecord]:
    """The agents that there are; none where there is no registry yet, which is not made for the asking."""
    from supervisor.cli import known  # noqa: PLC0415
    from supervisor.core.errors import RegistryNotFoundError  # noqa: PLC0415

    try:
        return known.read_registry(settings, lambda registry: registry.agents())
    except RegistryNotFoundError:
        return []


def _read(file: str) -> str:
    from supervisor.management import fleet_import  # noqa: PLC0415

    if file == "-":
        return fleet_import.decoded(sys.stdin.buffer.read(fleet_import.MAX_FILE_BYTES + 1), file)
    return fleet_import.read(Path(file))


def _show(plan: Plan, *, dry_run: bool) -> None:
    from supervisor.cli.changes import told  # noqa: PLC0415
    from supervisor.cli.output import plain  # noqa: PLC0415

    for record in plan.add:
        print(f"+ {record.id} {record.name or record.handler}")
    for change in plan.change:
        what = "; ".join(told(change.before, change.after, all_of_it=True)) or ", ".join(change.fields)
        print(f"~ {change.record.id} {plain(what)}")
    for agent_id in plan.remove:
        print(f"- {agent_id}")
    counts = f"{len(plan.add)} to add, {len(plan.change)} to change, {len(plan.remove)} to remove"
    done = f"Added {len(plan.add)}, changed {len(plan.change)}, removed {len(plan.remove)}"
    print(f"{counts if dry_run else done}, {len(plan.unchanged)} unchanged")


def _plan_as_json(plan: Plan, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "add": [record.id for record in plan.add],
        "change": [
            {"id": one.record.id, "fields": list(one.fields), "before": one.before, "after": one.after}
            for one in plan.change
        ],
        "remove": list(plan.remove),
        "unchanged": list(plan.unchanged),
    }


def export_fleet(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML; import reads both.")] = False,
) -> None:
    """Write every agent as YAML that import reads; secrets stay references or ciphertexts.

    Example: `supervisor agents export > fleet.yaml`
    """
    from supervisor.cli import known, output  # noqa: PLC0415
    from supervisor.management import fleet_file  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415

    records = known.read_registry(load_settings(), lambda registry: registry.agents())
    for record in records:
        if record.problem:
            warn(f"agent {record.id} is left out, its row cannot be used: {record.problem}")
    usable = [record for record in records if not record.problem]
    if as_json:
        output.print_json(fleet_file.document(usable))
    else:
        sys.stdout.write(fleet_file.dump(usable, ascii_only=not takes_unicode()))
