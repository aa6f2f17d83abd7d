"""``supervisor replicas``: the supervisors that share a registry in PostgreSQL."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import known
from supervisor.cli.deployment import AsJson, say
from supervisor.cli.errors import warn

if TYPE_CHECKING:
    from supervisor.core.replicas import ReplicaStatus
    from supervisor.settings import Settings

app = typer.Typer(
    help="The supervisors that share the registry: all of them, or one that is to give its agents away.",
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def _without(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show()


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """Show the supervisors that share the registry: how each is, and how many agents it runs.

    Example: `supervisor replicas list`
    """
    from supervisor.cli import output  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.settings import load_settings  # noqa: PLC0415

    found = _replicas(load_settings())
    if as_json:
        output.print_json([dataclasses.asdict(one) for one in found])
        return
    console, now = output.stdout_console(), time.time()
    for one in found:
        console.print(output.replica_line(one, now))
    if not found:
        print("No supervisor runs on this registry; start one with: supervisor run")


@app.command()
def drain(
    replica_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="Its number, as in the list.")],
    as_json: AsJson = False,
) -> None:
    """Have a supervisor give its agents to the others, one after the other, and get none; it goes on running.

    Example: `supervisor replicas drain 7`
    """
    from supervisor.settings import load_settings  # noqa: PLC0415

    known.with_registry(load_settings(), lambda registry: registry.replicas.drain(replica_id))
    then = f"Replica {replica_id} gives its agents to the others; watch it with: supervisor replicas"
    say(then, {"id": replica_id, "draining": True}, as_json)


def _replicas(settings: Settings) -> list[ReplicaStatus]:
    """As a running supervisor has them; as the registry has them where none answers."""
    from supervisor.cli import live  # noqa: PLC0415
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415
    from supervisor.core.replicas import status_of  # noqa: PLC0415

    why = ""
    try:
        if (running := live.find(settings)) is not None:
            return running.replicas()
    except SupervisorError as error:
        why = str(error)
    found = known.read_registry(settings, lambda registry: registry.replicas.list())
    if found and why:
        warn(f"what follows is what the registry knows: {why}")
    return live.marked([status_of(one) for one in found])
