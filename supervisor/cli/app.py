"""The command's tree, its global options, and the one place where its failures end."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from typing import Annotated

import typer

from supervisor import __version__
from supervisor.cli import (
    agents,
    chat,
    demo,
    demo_reach,
    deployment,
    dev,
    doctor,
    errors,
    keys,
    logs,
    messages,
    replicas,
    running,
    status,
    streams,
    usage,
)
from supervisor.core.actors import Actor, acting_as

app = typer.Typer(
    name="supervisor",
    no_args_is_help=False,
    # --install-completion and --show-completion.
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"supervisor {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _global(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of failures.")] = False,
    of_demo: Annotated[
        bool, typer.Option("--demo", help="Ask the demo that runs on this machine, whatever is configured.")
    ] = False,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Runs a fleet of AIWM chat agents from one process.

    Try it, with nothing to configure: `supervisor demo`
    """
    errors.STATE.debug = debug
    if of_demo:
        demo_reach.use()
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command()(running.run)
app.command()(demo.demo)
app.command()(dev.dev)
app.command()(chat.chat)
app.command()(running.sandbox)
app.add_typer(agents.app, name="agents")
app.command()(status.status)
app.add_typer(messages.app, name="messages")
app.command()(logs.logs)
app.command()(doctor.doctor)
app.command()(usage.usage)
app.add_typer(replicas.app, name="replicas")
app.add_typer(deployment.db, name="db")
app.add_typer(keys.app, name="keys")
app.command()(deployment.config)


def _who() -> str:
    """Who runs the command, and where, as far as the system tells."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def main() -> None:
    """Run the command and exit with its code."""
    streams.prepare()
    code, failure = 0, None
    try:
        with acting_as(Actor("command", _who())):
            # The name that completion goes by, however the command was begun.
            code = app(prog_name="supervisor", standalone_mode=False) or 0
    except KeyboardInterrupt:
        code = errors.EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  whatever it is, the user gets a line
        failure = error
    sys.exit(streams.finish(code, failure))
