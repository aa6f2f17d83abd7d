"""``supervisor messages``: the inbox and its dead letters. Works on the registry; a running supervisor follows."""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from supervisor.cli import known
from supervisor.cli.errors import EXIT_FAILURE, UsageError, complain, warn
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
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|m|h|d|w)?")
_UNIT_SECONDS: Final = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
#: The largest number that the journal can hold.
_MAX_NUMBER: Final = 2**63 - 1

_AS_LISTED: Final = "As `supervisor messages list` shows them."
Numbers = Annotated[
    list[int],
    typer.Argument(
        metavar="NUMBER...",
        help=_AS_LISTED,
        min=1,
        max=_MAX_NUMBER,
        default_factory=list,
        show_default=False,
    ),
]
AgentId = Annotated[str | None, typer.Option("--agent", metavar="ID", help="Of this agent.", show_default=False)]
Conversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Of this conversation.", show_default=False)
]
OlderThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="Received at least so long ago: 90s, 15m, 2h, 7d.", show_default=False)
]
NewerThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="Received at most so long ago: 90s, 15m, 2h, 7d.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Every dead letter that matches; asks first.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def _settings() -> Settings:
    from supervisor.settings import load_settings  # noqa: PLC0415  pydantic is slow to import

    return load_settings()


def _seconds(age: str | None, option: str) -> float | None:
    if age is None:
        return None
    match = _DURATION.fullmatch(age.strip())
    if match is None:
        raise UsageError(f"{option} wants an age such as 90s, 15m, 2h or 7d, not {age!r}")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def _id(value: str | None, option: str) -> str | None:
    """An id as it was typed; bytes that are no text match nothing and cannot be asked for."""
    if value is not None and (not value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise UsageError(f"{option} wants an id")
    return value


def _query(
    agent: str | None,
    conversation: str | None,
    *,
    states: list[MessageState] | None = None,
    older_than: str | None = None,
    newer_than: str | None = None,
    undelivered: bool = False,
) -> MessageQuery:
    from supervisor.management.messages import MessageQuery  # noqa: PLC0415  import what is slow only when it runs

    return MessageQuery(
        agent_id=_id(agent, "--agent"),
        conversation_id=_id(conversation, "--conversation"),
        states=tuple(states or ()),
        older_than_seconds=_seconds(older_than, "--older-than"),
        newer_than_seconds=_seconds(newer_than, "--newer-than"),
        undelivered=undelivered,
    )


@app.command("list")
def list_messages(
    *,
    agent: AgentId = None,
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

    query = _query(
        agent, conversation, states=state, older_than=older_than, newer_than=newer_than, undelivered=undelivered
    )
    beyond = 0 if as_json else _MANY
    shown, more = known.read_registry(_settings(), lambda registry: _newest(registry, query, limit, beyond))
    if as_json:
        output.print_json([dataclasses.asdict(message) for message in shown])
    elif not shown:
        complain("No message matches" if state or undelivered else "No dead letters")
    else:
        message_output.print_list(shown, time.time())
        rest = f"{more if more < _MANY else f'{_MANY} or more'} more match, see --limit; " if more else ""
        complain(f"{rest}show one with: supervisor messages show {shown[0].id}")


async def _newest(registry: Registry, query: MessageQuery, limit: int, beyond: int) -> tuple[list[MessageSummary], int]:
    """The newest ``limit`` messages, and how many there are besides, counted up to ``beyond``."""
    from supervisor.management import messages  # noqa: PLC0415

    shown: list[JournaledMessage] = []
    more = 0
    async for row in messages.matching(registry, query, time.time()):
        if len(shown) < limit:
            shown.append(row)
        elif more < beyond:
            more += 1
        else:
            break
    return await messages.summaries(registry, shown), more


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=_MAX_NUMBER, show_default=False)],
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
    agent: AgentId = None,
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

    query = _query(agent, conversation, older_than=older_than)
    settings = _settings()
    chosen = _chosen(settings, "replay", numbers, query if everything else None, yes=yes, filtered=_filtered(query))
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
    agent: AgentId = None,
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
    query = _query(agent, conversation, states=[MessageState.DEAD], older_than=older_than)
    settings = _settings()
    chosen = _chosen(settings, "discard", numbers, query if everything else None, yes=yes, filtered=_filtered(query))
    outcomes = known.with_registry(settings, lambda registry: messages.discard(registry, chosen))
    return _print_outcomes(outcomes, "discarded", as_json=as_json)


@app.command()
def cancel(
    numbers: Annotated[
        list[int], typer.Argument(metavar="NUMBER...", min=1, max=_MAX_NUMBER, show_default=False, help=_AS_LISTED)
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


def _filtered(query: MessageQuery) -> bool:
    return (query.agent_id, query.conversation_id, query.older_than_seconds) != (None, None, None)


def _chosen(
    settings: Settings, what: str, numbers: list[int], query: MessageQuery | None, *, yes: bool, filtered: bool
) -> list[int]:
    """The numbers of the messages that are meant; those that only ``query`` names are asked about."""
    if query is None:
        if not numbers:
            raise UsageError(f"Say which to {what}: their numbers, or --all")
        if filtered:
            raise UsageError("--agent, --conversation and --older-than go with --all, not with numbers")
        return numbers
    if numbers:
        raise UsageError("Give numbers or --all, not both")

    async def find(registry: Registry) -> list[int]:
        from supervisor.management import messages  # noqa: PLC0415

        return [row.id async for row in messages.matching(registry, query, time.time())]

    found = known.read_registry(settings, find)
    if found:
        _confirm(f"{what.capitalize()} {_count(len(found))}", yes=yes)
    else:
        complain("No dead letter matches")
    return found


def _count(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number} dead letters"


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        complain(question)
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question}? Nobody is there to ask; add --yes")
    typer.confirm(f"{question}?", abort=True, err=True)


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


@app.command()
def purge(
    *,
    agent: Annotated[str, typer.Option("--agent", metavar="ID", help="Of this agent.", show_default=False)],
    conversation: Conversation = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase for good what was said with an agent: messages in every state, and replies.

    A message that is being answered at this moment is let go; nothing of it is kept. Copies of the registry that were
    made before an upgrade hold it too, and are deleted; backups of your own are yours to delete.

    Example: `supervisor messages purge --agent 650000000000000000000001 --conversation 65a000000000000000000001`
    """
    agent_id, conversation_id = _id(agent, "--agent") or "", _id(conversation, "--conversation")
    settings = _settings()
    where = f" in conversation {conversation_id}" if conversation_id else ""
    _confirm(f"Erase for good what was said with agent {agent_id}{where}", yes=yes)
    erased, copies = known.with_registry(settings, lambda registry: _purge(registry, agent_id, conversation_id))
    if as_json:
        from supervisor.cli import output  # noqa: PLC0415

        output.print_json({"erased": erased, "copies": copies})
    else:
        held = f"; and what held them too, made before an upgrade: {', '.join(copies)}" if copies else ""
        print(f"Erased {erased} messages and replies{held}")


async def _purge(registry: Registry, agent_id: str, conversation_id: str | None) -> tuple[int, list[str]]:
    """Erase what was said, and every copy of the registry that holds it; the number of rows, and the copies."""
    erased = await registry.journal.maintenance.purge(agent_id, conversation_id)
    for kept in await registry.kept_copies():
        warn(
            f"{kept} was saved when the registry was lost and holds what was said too; delete it once it is not needed"
        )
    return erased, await registry.forget_copies(float("inf"))
