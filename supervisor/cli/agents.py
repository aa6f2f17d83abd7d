"""``supervisor agents``: what is to run. Writes the registry directly, so it works before ``supervisor run``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import fleet, known, new
from supervisor.cli.errors import UsageError, warn

if TYPE_CHECKING:
    from supervisor.settings import Settings
    from supervisor.store import Registry

app = typer.Typer(no_args_is_help=True, help="Add, show, change and remove agents.", rich_markup_mode="markdown")

AgentId = Annotated[str, typer.Argument(metavar="ID", help="The agent's id on the platform.", show_default=False)]
Handler = Annotated[str, typer.Option(help="echo, echo:Handler or package.module:attribute.", show_default=False)]
Name = Annotated[str | None, typer.Option(help="What people call it.", show_default=False)]
SecretEnv = Annotated[
    str | None,
    typer.Option(metavar="VAR", help="The variable of the supervisor that holds the secret.", show_default=False),
]
SecretFile = Annotated[
    str | None, typer.Option(metavar="PATH", help="The file that holds the secret.", show_default=False)
]
SecretStdin = Annotated[
    bool, typer.Option("--secret-stdin", help="Read the secret from standard input; stored encrypted.")
]
Sets = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting; JSON or text. Repeatable.",
        default_factory=list,
        show_default=False,
    ),
]
Labels = Annotated[
    list[str],
    typer.Option("--label", metavar="KEY=VALUE", help="A label. Repeatable.", default_factory=list, show_default=False),
]
Unset = Annotated[
    list[str],
    typer.Option(metavar="KEY", help="Drop a setting. Repeatable.", default_factory=list, show_default=False),
]
Unlabel = Annotated[
    list[str],
    typer.Option(metavar="KEY", help="Drop a label. Repeatable.", default_factory=list, show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def _settings() -> Settings:
    from supervisor.settings import load_settings  # noqa: PLC0415  pydantic is slow to import

    return load_settings()


def _secret(settings: Settings, env: str | None, file: str | None, stdin: bool) -> str | None:
    """The reference that the options ask for; None when none of them is given."""
    from supervisor.cli import checks  # noqa: PLC0415

    if (env is not None) + (file is not None) + stdin > 1:
        raise UsageError("Give only one of --secret-env, --secret-file and --secret-stdin")
    if env is not None:
        return f"env:{env}"
    if file is not None:
        return f"file:{file}"
    if stdin:
        # Without a key there is no point in asking for the secret.
        checks.seal("probe", settings)
        return checks.seal(checks.read_secret(), settings)
    return None


@app.command()
def add(
    agent_id: AgentId,
    *,
    handler: Handler,
    name: Name = None,
    secret_env: SecretEnv = None,
    secret_file: SecretFile = None,
    secret_stdin: SecretStdin = False,
    sets: Sets,
    labels: Labels,
    paused: Annotated[bool, typer.Option("--paused", help="Add it without starting it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add an agent. A running supervisor brings it online within a second.

    Example: `supervisor agents add 650000000000000000000001 --handler echo --secret-env AGENT_SECRET`
    """
    from supervisor.cli import checks  # noqa: PLC0415
    from supervisor.core.records import AgentRecord  # noqa: PLC0415
    from supervisor.management import agents  # noqa: PLC0415

    values, marks = checks.setting_values(sets), checks.key_values(labels, "--label")
    settings = _settings()
    secret = _secret(settings, secret_env, secret_file, secret_stdin)
    if secret is None:
        raise UsageError("Give the agent's secret: --secret-env VAR, --secret-file PATH or --secret-stdin")
    record = AgentRecord(
        id=agent_id, handler=handler, secret=secret, name=name or "", settings=values, labels=marks, paused=paused
    )
    checker = agents.Checker(settings)
    checker.check(record)
    checker.spelling(record)
    known.with_registry(settings, lambda registry: registry.add_agent(record), create=True)
    checks.print_warnings(checker)
    known.done(settings, agent_id, f"Added agent {agent_id}{', paused' if paused else ''}", as_json=as_json)


@app.command()
def update(
    agent_id: AgentId,
    *,
    handler: Annotated[str | None, typer.Option(help="Another handler.", show_default=False)] = None,
    name: Name = None,
    secret_env: SecretEnv = None,
    secret_file: SecretFile = None,
    secret_stdin: SecretStdin = False,
    sets: Sets,
    unset: Unset,
    labels: Labels,
    unlabel: Unlabel,
    as_json: AsJson = False,
) -> None:
    """Change what is given, keep the rest. A running supervisor follows without losing a message.

    Example: `supervisor agents update 650000000000000000000001 --set concurrency=2 --unset model`
    """
    from supervisor.cli import checks  # noqa: PLC0415
    from supervisor.management import agents  # noqa: PLC0415

    values, marks = checks.setting_values(sets), checks.key_values(labels, "--label")
    settings = _settings()
    secret = _secret(settings, secret_env, secret_file, secret_stdin)
    given = {"handler": handler, "name": name, "secret": secret}
    fields = {key: value for key, value in given.items() if value is not None}
    changes = agents.Changes(fields, values, marks, unset, unlabel)
    if changes.empty:
        raise UsageError("Say what to change: --handler, --name, --secret-…, --set, --unset, --label or --unlabel")
    checker = agents.Checker(settings)
    touched = known.with_registry(settings, lambda registry: agents.change_agent(registry, checker, agent_id, changes))
    checks.print_warnings(checker)
    known.done(settings, agent_id, f"Changed agent {agent_id} ({', '.join(touched)})", as_json=as_json)


@app.command("list")
def list_agents(as_json: AsJson = False) -> None:
    """Show every agent, with its live state when a supervisor runs.

    Example: `supervisor agents list --json`
    """
    from supervisor.cli import output  # noqa: PLC0415

    settings = _settings()
    statuses = known.statuses_of(settings, known.read_registry(settings, known.rows_of))
    if as_json:
        output.print_json([output.as_json(status) for status in statuses])
    elif statuses:
        console = output.stdout_console()
        console.print(output.agents_table(output.worst_first(statuses), time.time(), console.width))
    else:
        print("No agents yet. Add one: supervisor agents add ID --handler echo --secret-env AGENT_SECRET")


@app.command()
def show(agent_id: AgentId, as_json: AsJson = False) -> None:
    """Show one agent, and where its handler stands with each message that it works on.

    Example: `supervisor agents show 650000000000000000000001`
    """
    from supervisor.cli import output  # noqa: PLC0415

    settings = _settings()
    rows = known.read_registry(settings, lambda registry: known.rows_of(registry, agent_id))
    (status,) = known.statuses_of(settings, rows, in_full=True)
    if as_json:
        output.print_json(output.as_json(status))
    else:
        output.stdout_console().print(output.details(status, time.time()))


@app.command()
def pause(agent_id: AgentId, as_json: AsJson = False) -> None:
    """Take an agent offline until it is resumed; messages that it has are kept.

    Example: `supervisor agents pause 650000000000000000000001`
    """
    settings = _settings()
    known.with_registry(settings, lambda registry: registry.update_agent(agent_id, paused=True))
    known.done(settings, agent_id, f"Paused agent {agent_id}", as_json=as_json)


@app.command()
def resume(agent_id: AgentId, as_json: AsJson = False) -> None:
    """End an agent's pause, its sleep, or its wait after a failure or a refusal: it tries again at once.

    Example: `supervisor agents resume 650000000000000000000001`
    """
    from supervisor.cli import live  # noqa: PLC0415
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415

    settings = _settings()

    async def work(registry: Registry) -> str:
        await registry.update_agent(agent_id, paused=False)
        if (await registry.journal.lives.of(agent_id)).sleep is not None:
            await registry.journal.lives.record_sleep(agent_id, None)
        return registry.uuid

    uuid = known.with_registry(settings, work)
    try:
        running = live.find(settings, uuid)
        if running is not None:
            running.act(agent_id, "resume")
    except SupervisorError as error:
        warn(f"the running supervisor could not be asked to try at once: {error}")
    known.done(settings, agent_id, f"Resumed agent {agent_id}", as_json=as_json)


@app.command()
def reload(agent_id: AgentId, as_json: AsJson = False) -> None:
    """Load an agent's handler, instruction and settings anew, without losing a message. Needs a running supervisor.

    Example: `supervisor agents reload 650000000000000000000001`
    """
    from supervisor.cli import live  # noqa: PLC0415

    settings = _settings()

    async def work(registry: Registry) -> str:
        await registry.agent(agent_id)
        return registry.uuid

    live.require(settings, known.read_registry(settings, work)).act(agent_id, "reload")
    if as_json:
        known.print_agent(settings, agent_id)
    else:
        print(f"Reloading agent {agent_id}")


@app.command()
def remove(
    agent_id: AgentId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove an agent; a running supervisor takes it offline.

    Example: `supervisor agents remove 650000000000000000000001 --yes`
    """
    settings = _settings()
    record = known.read_registry(settings, lambda registry: registry.agent(agent_id))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"Removing agent {agent_id} wants a yes, and nobody is there to ask; add --yes")
        called = f" ({record.name})" if record.name else ""
        typer.confirm(f"Remove agent {agent_id}{called}?", abort=True, err=True)
    known.with_registry(settings, lambda registry: registry.remove_agent(agent_id))
    if as_json:
        from supervisor.cli import output  # noqa: PLC0415

        output.print_json({"removed": agent_id})
    else:
        print(f"Removed agent {agent_id}")


app.command("new")(new.new)
app.command("import")(fleet.import_fleet)
app.command("export")(fleet.export_fleet)
