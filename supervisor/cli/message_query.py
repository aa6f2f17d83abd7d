"""Which messages a command is about: the options that say so, and the query that they come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from supervisor.cli import selecting
from supervisor.cli.durations import duration
from supervisor.cli.errors import UsageError
from supervisor.core.states import MessageState

if TYPE_CHECKING:
    from supervisor.management.messages import MessageQuery
    from supervisor.management.selection import Selector
    from supervisor.settings import Settings

AS_LISTED: Final = "As `supervisor messages list` shows them."
#: The largest number that the journal can hold.
MAX_NUMBER: Final = 2**63 - 1

Numbers = Annotated[
    list[int],
    typer.Argument(
        metavar="NUMBER...",
        help=AS_LISTED,
        min=1,
        max=MAX_NUMBER,
        default_factory=list,
        show_default=False,
    ),
]
Conversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Of this conversation.", show_default=False)
]
OlderThan = Annotated[
    float | None,
    typer.Option(
        parser=duration, metavar="AGE", help="Received at least so long ago: 90s, 15m, 2h, 7d.", show_default=False
    ),
]
NewerThan = Annotated[
    float | None,
    typer.Option(
        parser=duration, metavar="AGE", help="Received at most so long ago: 90s, 15m, 2h, 7d.", show_default=False
    ),
]
All = Annotated[bool, typer.Option("--all", help="Every dead letter that matches; asks first.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def checked_id(value: str | None, option: str) -> str | None:
    """An id as it was typed; bytes that are no text match nothing and cannot be asked for.

    Raises:
        UsageError: it is empty, or no text.
    """
    if value is not None and (not value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise UsageError(f"{option} wants an id")
    return value


def query(
    settings: Settings,
    agent: str | None,
    wanted: Selector,
    conversation: str | None,
    *,
    states: Sequence[MessageState] = (),
    older_than: float | None = None,
    newer_than: float | None = None,
    undelivered: bool = False,
) -> MessageQuery:
    """The messages that the options ask for; ``agent`` may be registered no more, and is its id then.

    Raises:
        UsageError: an option has the wrong form, or an agent is named and others are selected.
    """
    from supervisor.management.messages import MessageQuery  # noqa: PLC0415  import what is slow only when it runs

    conversation = checked_id(conversation, "--conversation")
    if checked_id(agent, "--agent") is not None and wanted:
        raise UsageError("Name an agent or select some, not both")
    return MessageQuery(
        agent_id=None if agent is None else selecting.id_of(settings, agent),
        agent_ids=[one.id for one in selecting.selected(settings, wanted)] if wanted else None,
        conversation_id=conversation,
        states=tuple(states),
        older_than_seconds=older_than,
        newer_than_seconds=newer_than,
        undelivered=undelivered,
    )
