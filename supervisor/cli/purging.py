"""``supervisor messages purge``: what was said is erased for good, an agent's or a person's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import known, selecting
from supervisor.cli.errors import UsageError, complain, warn
from supervisor.cli.message_query import AsJson, Conversation, Yes, checked_id

if TYPE_CHECKING:
    from supervisor.settings import Settings
    from supervisor.store import Registry


def purge(
    *,
    agent: selecting.OfAgent = None,
    person: Annotated[
        str | None,
        typer.Option(
            "--person", metavar="ID", help="What this person said, and what was answered.", show_default=False
        ),
    ] = None,
    conversation: Conversation = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase for good what was said with an agent, or by a person to any agent: messages in every state, and replies.

    A person is named by the id that `supervisor messages show` has behind `from`; each condition given must hold. What
    sums up a conversation goes too. A message that is being answered at this moment is let go; nothing of it is kept.
    Copies of the registry that were made before an upgrade hold it too, and are deleted; backups of your own are yours
    to delete.

    Example: `supervisor messages purge --agent 650000000000000000000001 --conversation 65a000000000000000000001`
    """
    from supervisor.settings import load_settings  # noqa: PLC0415  pydantic is slow to import

    checked_id(agent, "--agent"), checked_id(person, "--person"), checked_id(conversation, "--conversation")
    if agent is None and person is None:
        raise UsageError("Say whose words to erase: --agent AGENT, --person ID, or both")
    settings = load_settings()
    agent_id = None if agent is None else _agent_id(settings, agent, yes=yes)
    question = f"Erase for good {_what(agent_id, person, conversation)}"
    if yes:
        complain(question)
    selecting.confirm(question, yes=yes)

    async def work(registry: Registry) -> tuple[int, list[str]]:
        return await _purge(registry, agent_id, person, conversation)

    erased, copies = known.with_registry(settings, work)
    if as_json:
        from supervisor.cli import output  # noqa: PLC0415

        output.print_json({"erased": erased, "copies": copies})
    else:
        held = f"; and what held them too, made before an upgrade: {', '.join(copies)}" if copies else ""
        print(f"Erased {erased} messages and replies{held}")


def _agent_id(settings: Settings, text: str, *, yes: bool) -> str:
    """The agent that is meant; one that is registered no more is named by its id."""
    from supervisor.core.errors import AgentNotFoundError  # noqa: PLC0415

    try:
        record = selecting.one(settings, text)
    except AgentNotFoundError:
        return text
    selecting.require_whole(text, record, yes=yes)
    return record.id


def _what(agent_id: str | None, person: str | None, conversation_id: str | None) -> str:
    where = f" in conversation {conversation_id}" if conversation_id else ""
    if person is None:
        return f"what was said with agent {agent_id}{where}"
    return f"what {person} said and was answered{f' by agent {agent_id}' if agent_id else ''}{where}"


async def _purge(
    registry: Registry, agent_id: str | None, person: str | None, conversation_id: str | None
) -> tuple[int, list[str]]:
    """Erase what was said, and every copy of the registry that holds it; the number of rows, and the copies."""
    from supervisor.management import messages  # noqa: PLC0415

    if person is not None:
        erased, unread = await messages.purge_person(registry, person, agent_id, conversation_id)
        if unread:
            warn(f"{unread} messages cannot be read without their key, so nobody knows whose they are; they stay")
    else:
        erased = await messages.purge(registry, agent_id or "", conversation_id)
    for kept in await registry.kept_copies():
        warn(
            f"{kept} was saved when the registry was lost and holds what was said too; delete it once it is not needed"
        )
    return erased, await registry.forget_copies(float("inf"))
