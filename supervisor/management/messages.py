"""What people see of the journal's messages, and what they can do with dead letters."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from supervisor.core.errors import MessageNotFoundError, MessageStateError, RegistryError
from supervisor.core.records import JournaledMessage, Reply
from supervisor.core.states import FINAL_MESSAGE_STATES, MessageState, ReplyState
from supervisor.core.status import MessageDetails, MessageSummary, ReplySummary
from supervisor.protocol.attachments import shown_file
from supervisor.protocol.text import clean_text
from supervisor.store import Registry
from supervisor.store.dialect.stored import MessageFilter
from supervisor.telemetry.redaction import redact

#: What lists show of a message's content.
SUMMARY_CHARS: Final = 1_000
#: Messages read at once where all that match are wanted.
_PAGE: Final = 500


@dataclasses.dataclass(frozen=True, slots=True)
class MessageQuery:
    """Which messages a person wants to see; every condition given must hold.

    Args:
        agent_ids: of one of these agents; none at all where it is empty.
        states: in one of these; without any, dead letters and done ones with a dead reply, or whatever state where
            ``undelivered`` is asked for.
        older_than_seconds, newer_than_seconds: received at least, and at most, so long ago.
        undelivered: only those with a reply that did not arrive, yet or for good, or of which nobody knows.
        before_id: only those with a smaller number: the next page.
    """

    agent_id: str | None = None
    conversation_id: str | None = None
    states: Collection[MessageState] = ()
    older_than_seconds: float | None = None
    newer_than_seconds: float | None = None
    undelivered: bool = False
    before_id: int | None = None
    agent_ids: Sequence[str] | None = None

    def conditions(self, now: float) -> MessageFilter:
        """What ``Journal.messages`` is to be asked at ``now`` (seconds since the epoch)."""
        older, newer = self.older_than_seconds, self.newer_than_seconds
        return {
            "agent_id": self.agent_id,
            "agent_ids": self.agent_ids,
            "conversation_id": self.conversation_id,
            "states": self.states or None,
            "older_than": None if older is None else now - older,
            "newer_than": None if newer is None else now - newer,
            "undelivered": self.undelivered,
            "dead_letters": not self.states and not self.undelivered,
            "before_id": self.before_id,
        }


async def matching(registry: Registry, query: MessageQuery, now: float) -> AsyncIterator[JournaledMessage]:
    """Every message that matches, the newest first, read page by page.

    Args:
        now: what the query's ages count back from, in seconds since the epoch.

    Raises:
        RegistryError: the registry cannot be read.
    """
    conditions = query.conditions(now)
    while page := await registry.journal.messages(**conditions, limit=_PAGE):
        for row in page:
            yield row
        conditions["before_id"] = page[-1].id


async def purge_person(
    registry: Registry, person: str, agent_id: str | None = None, conversation_id: str | None = None
) -> tuple[int, int]:
    """Erase what a person said, what was answered, and what sums up the conversations in which it was.

    Args:
        person: the id by which the platform knows them.
        agent_id, conversation_id: only what was said there.

    Returns:
        The number of messages and replies that are erased, and of messages that cannot be read, which stay.
    """
    query = MessageQuery(agent_id, conversation_id, tuple(MessageState))
    theirs, unread = [], 0
    async for row in matching(registry, query, 0.0):
        unread += row.problem is not None
        said = row.message
        if person in (said.sender_user_id, said.sender.id, said.participant_id):
            theirs.append(row.id)
    erased = await registry.journal.maintenance.erase(theirs)
    await registry.history.note(agent_id or "", "messages purged", of_a_person=True, erased=erased)
    return erased, unread


async def purge(registry: Registry, agent_id: str, conversation_id: str | None = None) -> int:
    """Erase what was said with an agent, or in one of its conversations; the number of messages and replies."""
    erased = await registry.journal.maintenance.purge(agent_id, conversation_id)
    await registry.history.note(agent_id, "messages purged", conversation=conversation_id, erased=erased)
    return erased


async def details(registry: Registry, number: int) -> MessageDetails:
    """One message with its replies.

    Raises:
        MessageNotFoundError: there is none of that number.
    """
    row = await _load(registry, number)
    replies = tuple(_reply(reply) for reply in await registry.journal.replies(number))
    return MessageDetails(
        **_fields(row, row.message.content),
        type=row.message.type,
        attachments=tuple(map(shown_file, row.message.attachments)),
        error=redact(row.error or row.problem or ""),
        replies=replies,
    )


async def summaries(registry: Registry, rows: Sequence[JournaledMessage]) -> list[MessageSummary]:
    """Messages as lists show them; of one that is done, the reason is that of its first dead reply."""
    replies = await _dead_replies(registry, [row for row in rows if row.state is MessageState.DONE])
    shown = []
    for row in rows:
        one = MessageSummary(**_fields(row, row.message.content[:SUMMARY_CHARS]))
        if row.id in replies:
            first = replies[row.id][0]
            why = _last_line(first.error or first.problem or "")
            one = dataclasses.replace(one, reason=f"undelivered: {why}" if why else "undelivered")
        shown.append(one)
    return shown


async def _dead_replies(registry: Registry, rows: Sequence[JournaledMessage]) -> dict[int, list[Reply]]:
    """The dead replies to some messages, in their order; without those that have none."""
    found: dict[int, list[Reply]] = {}
    if rows:
        for reply in await registry.journal.dead_replies([row.id for row in rows]):
            found.setdefault(reply.inbox_id or 0, []).append(reply)
    return found


def _fields(row: JournaledMessage, content: str) -> dict[str, Any]:
    said = row.message
    return {
        "id": row.id,
        "agent_id": row.agent_id,
        "conversation_id": row.conversation_id,
        "message_id": said.id,
        "sender": said.sender_user_id or said.sender.name or said.sender.id or said.participant_id or "",
        "role": said.role,
        "content": content,
        "content_chars": len(said.content),
        "state": row.state,
        "attempts": row.attempts,
        "replays": row.replay,
        "received_at": row.received_at,
        "settled_at": row.settled_at,
        "not_before": row.not_before if row.state is MessageState.RETRYABLE else None,
        "reason": _last_line(row.error or row.problem or ""),
    }


def _reply(reply: Reply) -> ReplySummary:
    waits = reply.state is ReplyState.PENDING and reply.not_before > 0
    return ReplySummary(
        id=reply.id,
        part=reply.part,
        message_id=reply.message.id,
        type=reply.message.type or "text",
        content=reply.message.content,
        state=reply.state,
        attempts=reply.attempts,
        created_at=reply.created_at,
        not_before=reply.not_before if waits else None,
        reason=_last_line(reply.error or reply.problem or ""),
    )


def _last_line(error: str) -> str:
    """What a traceback comes to. The journal has it free of secrets; once more does no harm, other hands write too."""
    return " ".join(clean_text(redact(error.strip()).rpartition("\n")[2])[0].split())


async def _load(registry: Registry, number: int) -> JournaledMessage:
    row = await registry.journal.load(number)
    if row is None:
        raise MessageNotFoundError(number)
    return row


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message that a person wanted replayed or discarded.

    Args:
        number: the journal's; ``agent_id`` is empty where there is no such message.
        refused: why nothing was done; None where it was.
    """

    number: int
    agent_id: str = ""
    refused: RegistryError | None = None


async def replay(registry: Registry, numbers: Collection[int]) -> list[Outcome]:
    """Have dead letters run again, with all their attempts; in order of their numbers, all at once.

    Of a message that is done, the dead replies are sent again, each with its ``_id``: the handler does not run.
    One that cannot be replayed does not keep the others from it. A supervisor that runs on the registry takes them up
    by itself when another process did this; its own has to say so to the fleet.
    """
    agents = {record.id for record in await registry.agents()}
    outcomes, rows, undelivered = await _dead(registry, numbers)
    outcomes += [_orphaned(row) for row in [*rows, *undelivered] if row.agent_id not in agents]
    rows = [row for row in rows if row.agent_id in agents]
    undelivered = [row for row in undelivered if row.agent_id in agents]
    replies = [reply for some in (await _dead_replies(registry, undelivered)).values() for reply in some]
    ran = await registry.journal.dead_letters.replay_all(rows)
    sent = await registry.journal.dead_letters.replay_replies(replies)
    again = {reply.inbox_id for reply, won in zip(replies, sent, strict=True) if won}
    return _in_order(outcomes, [*rows, *undelivered], [*ran, *(row.id in again for row in undelivered)])


async def discard(registry: Registry, numbers: Collection[int]) -> list[Outcome]:
    """Cancel dead letters: nobody will look at them again. One that cannot be does not keep the others from it.

    A message that is done stays so, whatever became of its replies.
    """
    outcomes, rows, undelivered = await _dead(registry, numbers)
    outcomes += [_answered(row) for row in undelivered]
    won = [await registry.journal.dead_letters.discard(row) for row in rows]
    return _in_order(outcomes, rows, won)


#: Why a message that an operator stopped is cancelled.
CANCEL_REASON: Final = "cancelled by an operator"
#: How often a message is cancelled that runs, fails and is tried again in that moment.
CANCEL_TRIES: Final = 10
#: Cancels a message that a running supervisor may have in its hands; whether it was in time.
Stop = Callable[[JournaledMessage, str], Awaitable[bool]]


async def cancel(registry: Registry, numbers: Collection[int], stop: Stop | None = None) -> list[Outcome]:
    """Cancel messages that wait, run or hang, for good. One that cannot be does not keep the others from it.

    Args:
        stop: asks the supervisor that runs on the registry; None where none runs.
    """

    async def settle(row: JournaledMessage, reason: str) -> bool:
        return await registry.journal.settle(row, MessageState.CANCELLED, error=reason) is not None

    stop = stop or settle
    outcomes = []
    for number in sorted(set(numbers)):
        try:
            row = await _load(registry, number)
        except MessageNotFoundError as error:
            outcomes.append(Outcome(number, refused=error))
            continue
        done = False
        for _ in range(CANCEL_TRIES):
            if row.state in FINAL_MESSAGE_STATES or (done := await stop(row, CANCEL_REASON)):
                break
            # Its own attempt has moved it on meanwhile.
            row = await _load(registry, number)
        outcomes.append(Outcome(number, row.agent_id, None if done else _not_open(row)))
    return outcomes


def _not_open(row: JournaledMessage) -> MessageStateError:
    if row.state is MessageState.DEAD:
        return MessageStateError(
            f"Message {row.id} is dead: nothing runs; end it with: supervisor messages discard {row.id}"
        )
    if row.state in FINAL_MESSAGE_STATES:
        return MessageStateError(f"Message {row.id} is {row.state} already")
    return MessageStateError(f"Message {row.id} was changed by somebody else just now; it is {row.state}")


async def _dead(
    registry: Registry, numbers: Collection[int]
) -> tuple[list[Outcome], list[JournaledMessage], list[JournaledMessage]]:
    """What keeps some from it, the dead letters, and the done messages with dead replies, each in their order."""
    refused: list[Outcome] = []
    done: list[JournaledMessage] = []
    rows: list[JournaledMessage] = []
    for number in sorted(set(numbers)):
        try:
            row = await _load(registry, number)
        except MessageNotFoundError as error:
            refused.append(Outcome(number, refused=error))
            continue
        if row.state is MessageState.DEAD:
            rows.append(row)
        elif row.state is MessageState.DONE:
            done.append(row)
        else:
            refused.append(_not_dead(row))
    replies = await _dead_replies(registry, done)
    refused += [_not_dead(row) for row in done if row.id not in replies]
    return refused, rows, [row for row in done if row.id in replies]


def _orphaned(row: JournaledMessage) -> Outcome:
    """Nobody would ever run it."""
    why = f"Message {row.id} is of agent {row.agent_id}, which is registered no more; add the agent first"
    return Outcome(row.id, row.agent_id, MessageStateError(why))


def _not_dead(row: JournaledMessage) -> Outcome:
    why = f"Message {row.id} is {row.state}; only a dead letter can be replayed or discarded"
    return Outcome(row.id, row.agent_id, MessageStateError(why))


def _answered(row: JournaledMessage) -> Outcome:
    why = f"Message {row.id} is done, only a reply did not arrive: it can be replayed, there is nothing to discard"
    return Outcome(row.id, row.agent_id, MessageStateError(why))


def _in_order(outcomes: list[Outcome], rows: Sequence[JournaledMessage], won: Sequence[bool]) -> list[Outcome]:
    for row, done in zip(rows, won, strict=True):
        faster = None if done else MessageStateError(f"Message {row.id} was changed by somebody else just now")
        outcomes.append(Outcome(row.id, row.agent_id, faster))
    return sorted(outcomes, key=lambda outcome: outcome.number)
