"""``supervisor agents``: what is to run. Writes the registry directly, so it works before ``supervisor run``."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from supervisor.cli import fleet
from supervisor.cli.errors import UsageError, warn

if TYPE_CHECKING:
    from supervisor.records import AgentRecord
    from supervisor.registry import Registry
    from supervisor.settings import Settings
    from supervisor.status import AgentStatus, InboxCounts

T = TypeVar("T")

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


def with_registry(settings: Settings, work: Callable[[Registry], Awaitable[T]]) -> T:
    """Open the registry, created if need be, do ``work`` and close it."""
    from supervisor.registry import Registry  # noqa: PLC0415  SQLAlchemy is slow to import

    async def run() -> T:
        registry = await Registry.open(settings.registry_url, synchronous=settings.synchronous, upgrade=True)
        try:
            return await work(registry)
        finally:
            await registry.close()

    return asyncio.run(run())


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
) -> None:
    """Add an agent. A running supervisor brings it online within a second.

    Example: `supervisor agents add 650000000000000000000001 --handler echo --secret-env AGENT_SECRET`
    """
    from supervisor.cli import checks  # noqa: PLC0415
    from supervisor.records import AgentRecord  # noqa: PLC0415

    values, marks = checks.setting_values(sets), checks.key_values(labels, "--label")
    settings = _settings()
    secret = _secret(settings, secret_env, secret_file, secret_stdin)
    if secret is None:
        raise UsageError("Give the agent's secret: --secret-env VAR, --secret-file PATH or --secret-stdin")
    record = AgentRecord(
        id=agent_id, handler=handler, secret=secret, name=name or "", settings=values, labels=marks, paused=paused
    )
    checker = checks.Checker(settings)
    checker.check(record)
    with_registry(settings, lambda registry: registry.add_agent(record))
    checker.warn()
    print(f"Added agent {agent_id}{', paused' if paused else ''}; {_what_next(settings)}")


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
) -> None:
    """Change what is given, keep the rest. A running supervisor follows without losing a message.

    Example: `supervisor agents update 650000000000000000000001 --set concurrency=2 --unset model`
    """
    from supervisor.cli import checks  # noqa: PLC0415

    values, marks = checks.setting_values(sets), checks.key_values(labels, "--label")
    settings = _settings()
    changes: dict[str, Any] = {"handler": handler, "name": name}
    changes["secret"] = _secret(settings, secret_env, secret_file, secret_stdin)
    changes = {key: value for key, value in changes.items() if value is not None}
    if not (changes or values or marks or unset or unlabel):
        raise UsageError("Say what to change: --handler, --name, --secret-…, --set, --unset, --label or --unlabel")

    async def work(registry: Registry) -> None:
        old = await registry.agent(agent_id)
        if values or unset:
            changes["settings"] = {k: v for k, v in (old.settings | values).items() if k not in unset}
        if marks or unlabel:
            changes["labels"] = {k: v for k, v in (old.labels | marks).items() if k not in unlabel}
        _check_changes(checker, old, changes, settings)
        await registry.update_agent(agent_id, **changes)

    checker = checks.Checker(settings)
    with_registry(settings, work)
    checker.warn()
    print(f"Changed agent {agent_id} ({', '.join(sorted(changes))}); {_what_next(settings)}")


def _check_changes(checker: Any, old: AgentRecord, changes: dict[str, Any], settings: Settings) -> None:
    """Check what changes and nothing else: the rest may be wrong since long before, and must not be in the way."""
    from supervisor.settings import parse_agent_settings  # noqa: PLC0415

    if "handler" in changes:
        checker.handler(changes["handler"])
    if "secret" in changes:
        checker.secret(changes["secret"], old.id)
    if "settings" in changes:
        parse_agent_settings(changes["settings"], settings)


def _what_next(settings: Settings) -> str:
    from supervisor.registry import lock_holder  # noqa: PLC0415

    holder = lock_holder(settings.registry_url)
    return f"the supervisor (pid {holder.pid}) takes it up" if holder else "start the fleet with: supervisor run"


@dataclasses.dataclass(frozen=True)
class _Rows:
    """What the registry knows of agents."""

    records: list[AgentRecord]
    inboxes: dict[str, InboxCounts]
    uuid: str


async def _rows(registry: Registry, only: str | None = None) -> _Rows:
    from supervisor.states import MessageState  # noqa: PLC0415
    from supervisor.status import InboxCounts  # noqa: PLC0415

    records = await registry.agents() if only is None else [await registry.agent(only)]
    inboxes = {}
    for agent_id, counts in (await registry.journal.counts()).items():
        waiting = counts.get(MessageState.AVAILABLE, 0) + counts.get(MessageState.RETRYABLE, 0)
        inboxes[agent_id] = InboxCounts(waiting, counts.get(MessageState.RUNNING, 0), counts.get(MessageState.DEAD, 0))
    return _Rows(records, inboxes, registry.uuid)


def _offline(record: AgentRecord, rows: _Rows, reason: str = "") -> AgentStatus:
    """An agent as it is while no supervisor runs it."""
    from supervisor.states import AgentState  # noqa: PLC0415
    from supervisor.status import AgentStatus, InboxCounts  # noqa: PLC0415

    return AgentStatus(
        id=record.id,
        name=record.name,
        handler=record.handler,
        state=AgentState.PAUSED if record.paused else AgentState.STOPPED,
        reason=record.problem or reason,
        inbox=rows.inboxes.get(record.id, InboxCounts()),
        settings=record.settings,
        labels=record.labels,
        paused=record.paused,
    )


def _statuses(settings: Settings, rows: _Rows) -> list[AgentStatus]:
    """What is wanted, from the registry, with what is, from the supervisor that runs on it."""
    from supervisor.cli import live  # noqa: PLC0415

    running = live.find(settings, rows.uuid)
    if running is None:
        return [_offline(record, rows) for record in rows.records]
    known = {status.id: status for status in running.statuses()}
    return [_with_live(record, rows, known.get(record.id)) for record in rows.records]


def _with_live(record: AgentRecord, rows: _Rows, now: AgentStatus | None) -> AgentStatus:
    wanted = _offline(record, rows, "the supervisor has not taken it up yet")
    if now is None:
        return wanted
    return dataclasses.replace(
        now,
        name=wanted.name,
        handler=wanted.handler,
        settings=wanted.settings,
        labels=wanted.labels,
        paused=wanted.paused,
    )


@app.command("list")
def list_agents(as_json: AsJson = False) -> None:
    """Show every agent, with its live state when a supervisor runs.

    Example: `supervisor agents list --json`
    """
    from supervisor.cli import output  # noqa: PLC0415

    settings = _settings()
    statuses = _statuses(settings, with_registry(settings, _rows))
    if as_json:
        output.print_json([output.as_json(status) for status in statuses])
    elif statuses:
        console = output.stdout_console()
        console.print(output.agents_table(output.worst_first(statuses), time.time(), console.width))
    else:
        print("No agents yet. Add one: supervisor agents add ID --handler echo --secret-env AGENT_SECRET")


@app.command()
def show(agent_id: AgentId, as_json: AsJson = False) -> None:
    """Show one agent.

    Example: `supervisor agents show 650000000000000000000001`
    """
    from supervisor.cli import output  # noqa: PLC0415

    settings = _settings()
    (status,) = _statuses(settings, with_registry(settings, lambda registry: _rows(registry, agent_id)))
    if as_json:
        output.print_json(output.as_json(status))
    else:
        output.stdout_console().print(output.details(status, time.time()))


@app.command()
def pause(agent_id: AgentId) -> None:
    """Take an agent offline until it is resumed; messages that it has are kept.

    Example: `supervisor agents pause 650000000000000000000001`
    """
    settings = _settings()
    with_registry(settings, lambda registry: registry.update_agent(agent_id, paused=True))
    print(f"Paused agent {agent_id}; {_what_next(settings)}")


@app.command()
def resume(agent_id: AgentId) -> None:
    """End an agent's pause, or its wait after a failure or a refusal: it tries again at once.

    Example: `supervisor agents resume 650000000000000000000001`
    """
    from supervisor.cli import live  # noqa: PLC0415
    from supervisor.errors import SupervisorError  # noqa: PLC0415

    settings = _settings()

    async def work(registry: Registry) -> str:
        await registry.update_agent(agent_id, paused=False)
        return registry.uuid

    uuid = with_registry(settings, work)
    try:
        running = live.find(settings, uuid)
        if running is not None:
            running.act(agent_id, "resume")
    except SupervisorError as error:
        warn(f"it could not be told to hurry: {error}")
    print(f"Resumed agent {agent_id}; {_what_next(settings)}")


@app.command()
def reload(agent_id: AgentId) -> None:
    """Load an agent's handler, instruction and settings anew, without losing a message. Needs a running supervisor.

    Example: `supervisor agents reload 650000000000000000000001`
    """
    from supervisor.cli import live  # noqa: PLC0415

    settings = _settings()

    async def work(registry: Registry) -> str:
        await registry.agent(agent_id)
        return registry.uuid

    live.require(settings, with_registry(settings, work)).act(agent_id, "reload")
    print(f"Reloading agent {agent_id}")


@app.command()
def remove(agent_id: AgentId, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Remove an agent; a running supervisor takes it offline.

    Example: `supervisor agents remove 650000000000000000000001 --yes`
    """
    settings = _settings()
    record = with_registry(settings, lambda registry: registry.agent(agent_id))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"Removing agent {agent_id} wants a yes, and nobody is there to ask; add --yes")
        called = f" ({record.name})" if record.name else ""
        typer.confirm(f"Remove agent {agent_id}{called}?", abort=True, err=True)
    with_registry(settings, lambda registry: registry.remove_agent(agent_id))
    print(f"Removed agent {agent_id}")


app.command("import")(fleet.import_fleet)
app.command("export")(fleet.export_fleet)
