"""``supervisor messages``: the inbox and its dead letters. Works on the registry; a running supervisor follows."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from supervisor.cli import known, purging
from supervisor.cli.errors import EXIT_FAILURE, UsageError, complain
from supervisor.cli.message_query import (
    AS_LISTED,
    MAX_NUMBER,
    All,
    AsJson,
    Conversation,
    NewerThan,
    Numbers,
    OlderThan,
    Yes,
    query,
)
from supervisor.cli.selecting import InAgentState, OfAgent, WithHandler, WithLabel, confirm, selector
from supervisor.core.states import MessageState

if TYPE_CHECKING:
    from supervisor.core.records import JournaledMessage
    from supervisor.core.status import MessageSummary
    from supervisor.management.messages import MessageQuery, Outcome
    from supervisor.settings import Settings
    from supervisor.store import Registry

app = typer.Typer(
    no_args_is_help=True,
    help="Look at messages, run dead letters again, erase what was said.",
    rich_markup_mode="markdown",
)

#: Further messages are counted up to this.
_MANY: Final = 10_000


def _settings() -> Settings:
    from supervisor.settings import load_settings  # noqa: PLC0415  pydantic is slow to import

    return load_settings()


@app.command("list")
def list_messages(
    *,
    agent: OfAgent = None,
    labels: WithLabel,
    agent_states: InAgentState,
    handlers: WithHandler,
    conversation: Conversation = None,
    state: Annotated[
        list[MessageState] | None,
        typer.Option(help="In this state; else dead letters, undelivered ones too. Repeatable.", show_default=False),
    ] = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    undelivered: Annotated[
        bool,
        typer.Option(
            "--undelivered", help="With a reply that did not arrive, yet or for good, or of which nobody knows."
        ),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=_MANY, help="So many at most, the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show dead letters, messages whose reply did not arrive among them, or other messages, the newest first.

    Example: `supervisor messages list --agent 650000000000000000000001 --older-than 2h`
    """
    from supervisor.cli import message_output, output  # noqa: PLC0415

    settings = _settings()
    wanted = query(
        settings,
        agent,
        selector(labels, agent_states, handlers),
        conversation,
        states=state or (),
        older_than=older_than,
        newer_than=newer_than,
        undelivered=undelivered,
    )
    beyond = 0 if as_json else _MANY
    shown, more, names = known.read_registry(settings, lambda registry: _newest(registry, wanted, limit, beyond))
    if as_json:
        output.print_json([dataclasses.asdict(message) for message in shown])
    elif not shown:
        complain("No message matches" if state or undelivered else "No dead letters")
    else:
        message_output.print_list(shown, names, time.time())
        rest = f"{more if more < _MANY else f'{_MANY} or more'} more match, see --limit; " if more else ""
        complain(f"{rest}show one with: supervisor messages show {shown[0].id}")


async def _newest(
    registry: Registry, wanted: MessageQuery, limit: int, beyond: int
) -> tuple[list[MessageSummary], int, dict[str, str]]:
    """The newest ``limit`` messages, how many there are besides, counted up to ``beyond``, and the agents' names."""
    from supervisor.management import messages  # noqa: PLC0415

    shown: list[JournaledMessage] = []
    more = 0
    async for row in messages.matching(registry, wanted, time.time()):
        if len(shown) < limit:
            shown.append(row)
        elif more < beyond:
            more += 1
        else:
            break
    names = {record.id: record.name for record in await registry.agents()} if shown else {}
    return await messages.summaries(registry, shown), more, names


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=MAX_NUMBER, show_default=False)],
    full: Annotated[bool, typer.Option("--full", help="Cut nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one message: what was said, the traceback, and what became of each reply.

    Example: `supervisor messages show 12`
    """
    from supervisor.cli import message_output, output  # noqa: PLC0415
    from supervisor.management import messages  # noqa: PLC0415

    message = known.read_registry(_settings(), lambda registry: messages.details(registry, number))
    if as_json:
        output.print_json(dataclasses.asdict(message))
    else:
        message_output.print_details(message, time.time(), full=full)


@app.command()
def replay(
    numbers: Numbers,
    *,
    agent: OfAgent = None,
    labels: WithLabel,
    agent_states: InAgentState,
    handlers: WithHandler,
    conversation: Conversation = None,
    older_than: OlderThan = None,
    everything: All = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Have dead letters run again with all their attempts, each before what came later in its conversation.

    A message that is done does not run again: its replies that did not arrive are sent again.

    Example: `supervisor messages replay 12 13` or `supervisor messages replay --agent 650000000000000000000001 --all`
    """
    from supervisor.management import messages  # noqa: PLC0415

    settings = _settings()
    wanted = query(settings, agent, selector(labels, agent_states, handlers), conversation, older_than=older_than)
    chosen = _chosen(settings, "replay", numbers, wanted, everything=everything, yes=yes)
    outcomes = known.with_registry(settings, lambda registry: messages.replay(registry, chosen))
    code = _print_outcomes(outcomes, "replayed", as_json=as_json)
    if not as_json and any(outcome.refused is None for outcome in outcomes):
        from supervisor.store import lock_holder  # noqa: PLC0415

        holder = lock_holder(settings.registry_url)
        complain(f"The supervisor (pid {holder.pid}) takes it up" if holder else "It runs with: supervisor run")
    return code


@app.command()
def discard(
    numbers: Numbers,
    *,
    agent: OfAgent = None,
    labels: WithLabel,
    agent_states: InAgentState,
    handlers: WithHandler,
    conversation: Conversation = None,
    older_than: OlderThan = None,
    everything: All = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Cancel dead letters: they are kept for a while, and nobody needs to look at them again.

    Example: `supervisor messages discard 12` or `supervisor messages discard --older-than 2d --all`
    """
    from supervisor.management import messages  # noqa: PLC0415

    # Dead ones alone: the replies of a message that is done cannot be cancelled.
    settings = _settings()
    dead = (MessageState.DEAD,)
    wanted = query(
        settings, agent, selector(labels, agent_states, handlers), conversation, states=dead, older_than=older_than
    )
    chosen = _chosen(settings, "discard", numbers, wanted, everything=everything, yes=yes)
    outcomes = known.with_registry(settings, lambda registry: messages.discard(registry, chosen))
    return _print_outcomes(outcomes, "discarded", as_json=as_json)


@app.command()
def cancel(
    numbers: Annotated[
        list[int], typer.Argument(metavar="NUMBER...", min=1, max=MAX_NUMBER, show_default=False, help=AS_LISTED)
    ],
    *,
    as_json: AsJson = False,
) -> int:
    """Stop messages that wait, run or hang, for good; the next ones of their conversations go on.

    A handler that cannot be stopped is left behind, and what it still makes is discarded. Without a supervisor what
    waits is cancelled. `supervisor messages list --state running` shows the numbers.

    Example: `supervisor messages cancel 12`
    """
    from supervisor.cli import live  # noqa: PLC0415
    from supervisor.management import messages  # noqa: PLC0415

    settings = _settings()

    async def work(registry: Registry) -> list[Outcome]:
        running = live.find(settings, registry.uuid)

        async def stop(row: JournaledMessage, _reason: str) -> bool:
            assert running is not None  # noqa: S101  for the type checker
            return running.cancel_message(row.id)

        return await messages.cancel(registry, numbers, None if running is None else stop)

    return _print_outcomes(known.with_registry(settings, work), "cancelled", as_json=as_json)


def _filtered(wanted: MessageQuery) -> bool:
    filters = (wanted.agent_id, wanted.agent_ids, wanted.conversation_id, wanted.older_than_seconds)
    return any(one is not None for one in filters)


def _chosen(
    settings: Settings, what: str, numbers: list[int], wanted: MessageQuery, *, everything: bool, yes: bool
) -> list[int]:
    """The numbers of the messages that are meant; those that only ``wanted`` names are asked about."""
    if not everything:
        if not numbers:
            raise UsageError(f"Say which to {what}: their numbers, or --all")
        if _filtered(wanted):
            raise UsageError("What selects agents, --conversation and --older-than go with --all, not with numbers")
        return numbers
    if numbers:
        raise UsageError("Give numbers or --all, not both")

    async def find(registry: Registry) -> list[int]:
        from supervisor.management import messages  # noqa: PLC0415

        return [row.id async for row in messages.matching(registry, wanted, time.time())]

    found = known.read_registry(settings, find)
    if found:
        question = f"{what.capitalize()} {_count(len(found))}"
        if yes:
            complain(question)
        confirm(question, yes=yes)
    else:
        complain("No dead letter matches")
    return found


def _count(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number} dead letters"


def _print_outcomes(outcomes: list[Outcome], done: str, *, as_json: bool) -> int:
    """Say what became of each message; the exit code."""
    if as_json:
        from supervisor.cli import output  # noqa: PLC0415

        output.print_json(
            [
                {"id": outcome.number, "done": outcome.refused is None, "error": str(outcome.refused or "")}
                for outcome in outcomes
            ]
        )
    for outcome in outcomes:
        if outcome.refused is not None:
            complain(f"Error: {outcome.refused}")
        elif not as_json:
            print(f"Message {outcome.number} of agent {outcome.agent_id} {done}")
    return EXIT_FAILURE if any(outcome.refused is not None for outcome in outcomes) else 0


app.command()(purging.purge)
