"""``supervisor agents``: what is to run. Writes the registry directly, so it works before ``supervisor run``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import actions, fleet, history, known, new, selecting
from supervisor.cli.durations import duration
from supervisor.cli.errors import UsageError, complain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.records import AgentRecord
    from supervisor.management.agents import Changes
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
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Add it though it cannot run yet; it becomes faulted.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is online; exit 1 and why where it is not.")]
WaitSeconds = Annotated[
    float, typer.Option("--wait-seconds", parser=duration, metavar="DURATION", help="The longest to wait.")
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
    keep_going: KeepGoing = False,
    wait: Wait = False,
    wait_seconds: WaitSeconds = 60,
    as_json: AsJson = False,
) -> None:
    """Add an agent. A running supervisor brings it online within a second.

    What keeps it from running is refused: a handler that is not there, a secret out of reach, a setting out of bounds.

    Example: `supervisor agents add 650000000000000000000001 --handler echo --secret-env AGENT_SECRET --wait`
    """
    from supervisor.cli import checks, live, waiting  # noqa: PLC0415
    from supervisor.core.records import AgentRecord  # noqa: PLC0415
    from supervisor.management import agents  # noqa: PLC0415

    values, marks = checks.setting_values(sets), checks.key_values(labels, "--label")
    if wait and paused:
        raise UsageError("--paused and --wait do not go together: a paused agent does not come online")
    settings = _settings()
    secret = _secret(settings, secret_env, secret_file, secret_stdin)
    if secret is None:
        raise UsageError("Give the agent's secret: --secret-env VAR, --secret-file PATH or --secret-stdin")
    record = AgentRecord(agent_id, handler, secret, name or "", values, marks, paused)
    checker = agents.Checker(settings)
    checker.check(record, keep_going=keep_going)
    checker.spelling(record, keep_going=keep_going)
    if wait:
        # Nobody would bring it online: said before it is added.
        live.require(settings)
        if agent_id not in {row.id for row in known.read_registry(settings, lambda registry: registry.agents())}:
            waiting.wait_gone(settings, agent_id, wait_seconds)
    known.with_registry(settings, lambda registry: registry.add_agent(record), create=True)
    checks.print_warnings(checker)
    if wait:
        waiting.wait_online(settings, agent_id, wait_seconds)
    said = f"Added agent {agent_id}{', paused' if paused else ''}"
    known.done(settings, [(agent_id, said)], as_json=as_json, then="it is online" if wait else "")


@app.command()
def update(
    *,
    agent_id: selecting.MaybeAgent = None,
    handler: Annotated[str | None, typer.Option(help="Another handler.", show_default=False)] = None,
    name: Name = None,
    secret_env: SecretEnv = None,
    secret_file: SecretFile = None,
    secret_stdin: SecretStdin = False,
    sets: Sets,
    unset: Unset,
    labels: Labels,
    unlabel: Unlabel,
    where_labels: selecting.WhereLabel,
    states: selecting.InState,
    where_handlers: selecting.WhereHandler,
    everything: selecting.Everything = False,
    as_json: AsJson = False,
) -> None:
    """Change what is given, keep the rest. A running supervisor follows without losing a message.

    Of agents that are selected all are changed, or none where one could not work like that.

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
    wanted = selecting.selector(where_labels, states, where_handlers)
    records = selecting.chosen(settings, agent_id, wanted, everything=everything)
    _change(settings, records, changes, as_json=as_json, single=agent_id is not None)


def _change(
    settings: Settings, records: Sequence[AgentRecord], changes: Changes, *, as_json: bool, single: bool
) -> None:
    from supervisor.cli import checks  # noqa: PLC0415
    from supervisor.management import agents  # noqa: PLC0415

    checker = agents.Checker(settings)

    ids = [record.id for record in records]
    known.with_registry(settings, lambda registry: agents.change_agents(registry, checker, ids, changes))
    checks.print_warnings(checker)
    touched = ", ".join(changes.touched)
    done = [(record.id, f"Changed agent {record.id} ({touched})") for record in records]
    known.done(settings, done, as_json=as_json, single=single)


@app.command("list")
def list_agents(
    *,
    labels: selecting.WithLabel,
    states: selecting.InState,
    handlers: selecting.WithHandler,
    as_json: AsJson = False,
) -> None:
    """Show every agent, or those that are selected, with the live state when a supervisor runs.

    Example: `supervisor agents list --label team=support --state failing`
    """
    from supervisor.cli import output  # noqa: PLC0415

    wanted = selecting.selector(labels, states, handlers)
    settings = _settings()
    statuses = known.statuses_of(settings, known.read_registry(settings, known.rows_of))
    if wanted:
        statuses = [status for status in statuses if status in wanted]
    if as_json:
        output.print_json([output.as_json(status) for status in statuses])
    elif statuses:
        console = output.stdout_console()
        console.print(output.agents_table(output.worst_first(statuses), time.time(), console.width))
    elif wanted:
        complain("No agent matches")
    else:
        print("No agents yet. Add one: supervisor agents add ID --handler echo --secret-env AGENT_SECRET")


@app.command()
def show(agent_id: selecting.Agent, as_json: AsJson = False) -> None:
    """Show one agent, and where its handler stands with each message that it works on.

    Example: `supervisor agents show 650000000000000000000001`
    """
    from supervisor.cli import output  # noqa: PLC0415

    settings = _settings()

    async def work(registry: Registry) -> known.Rows:
        return await known.rows_of(registry, (await selecting.find(registry, agent_id)).id)

    rows = known.read_registry(settings, work)
    (status,) = known.statuses_of(settings, rows, in_full=True)
    if as_json:
        output.print_json(output.as_json(status))
    else:
        from supervisor.cli.details import details  # noqa: PLC0415

        output.stdout_console().print(details(status, time.time()))


actions.add_to(app)
app.command("history")(history.history)
app.command("rollback")(history.rollback)
app.command("restore")(history.restore)
app.command("new")(new.new)
app.command("import")(fleet.import_fleet)
app.command("export")(fleet.export_fleet)
