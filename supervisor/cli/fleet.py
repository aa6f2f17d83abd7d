"""``supervisor agents import`` and ``export``: whole fleets as YAML (see :mod:`supervisor.cli.fleet_file`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from supervisor.cli.errors import warn
from supervisor.cli.streams import takes_unicode

if TYPE_CHECKING:
    from supervisor.cli.fleet_file import Plan
    from supervisor.core.records import AgentRecord
    from supervisor.settings import Settings
    from supervisor.store import Registry

AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
#: A fleet of ten thousand agents is some 3 MB.
_MAX_FILE_BYTES: Final = 32 << 20


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
    from supervisor.cli import checks, fleet_file, known, output  # noqa: PLC0415
    from supervisor.management import agents  # noqa: PLC0415  import what is slow only where it is used
    from supervisor.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    source = "standard input" if file == "-" else file
    records = fleet_file.parse(_read(file), source)
    checker = agents.Checker(settings)
    places = {record.id: f"{source}: agent {number} ({record.id})" for number, record in enumerate(records, start=1)}
    existing = _registered(settings)
    there = {record.id: record for record in existing}
    for record in records:
        checker.check(record, places[record.id], keep_going=keep_going)
        checker.spelling(record, there.get(record.id), places[record.id], keep_going=keep_going)

    async def work(registry: Registry) -> Plan:
        plan = fleet_file.plan(records, await registry.agents(), prune=prune)
        if not plan.empty:
            changed = [change.record for change in plan.change]
            await registry.apply(add=plan.add, change=changed, remove=plan.remove)
        return plan

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
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415

    try:
        if file == "-":
            raw = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(_MAX_FILE_BYTES + 1)
        if len(raw) > _MAX_FILE_BYTES:
            raise ConfigurationError(f"{file} has more than {_MAX_FILE_BYTES >> 20} MiB; that is no fleet")
        return raw.decode()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not text in UTF-8") from None


def _show(plan: Plan, *, dry_run: bool) -> None:
    for record in plan.add:
        print(f"+ {record.id} {record.name or record.handler}")
    for change in plan.change:
        print(f"~ {change.record.id} {', '.join(change.fields)}")
    for agent_id in plan.remove:
        print(f"- {agent_id}")
    counts = f"{len(plan.add)} to add, {len(plan.change)} to change, {len(plan.remove)} to remove"
    done = f"Added {len(plan.add)}, changed {len(plan.change)}, removed {len(plan.remove)}"
    print(f"{counts if dry_run else done}, {len(plan.unchanged)} unchanged")


def _plan_as_json(plan: Plan, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "add": [record.id for record in plan.add],
        "change": [{"id": change.record.id, "fields": list(change.fields)} for change in plan.change],
        "remove": list(plan.remove),
        "unchanged": list(plan.unchanged),
    }


def export_fleet(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML; import reads both.")] = False,
) -> None:
    """Write every agent as YAML that import reads; secrets stay references or ciphertexts.

    Example: `supervisor agents export > fleet.yaml`
    """
    from supervisor.cli import fleet_file, known, output  # noqa: PLC0415
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
