"""Which rows of a platform's history are messages that an agent missed. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from supervisor.protocol import InboundMessage, reply_id
from supervisor.protocol.history import HistoryRow

#: How far times of ours and of the platform may be apart: clocks differ, and a broken connection is noticed late.
SLACK_SECONDS = 120.0
#: How many parts of a reply are looked for under the ids that they would have.
_PARTS = 16
#: The types of an answer; thinking and tool calls come before it.
_ANSWERS = frozenset({"text", "error"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What the journal knows of a conversation.

    Args:
        keys: which ids of the rows are in the inbox.
        without_id: content and time (seconds since the epoch) of the messages that came without an id; their rows in
            the history have one.
        reply_ids: the ids of our replies, for platforms that keep our ids.
        replies: the contents of our replies, for platforms that make ids of their own; also what we say that answers
            nothing.
    """

    keys: Collection[str]
    without_id: Sequence[tuple[str, float]] = ()
    reply_ids: Collection[str] = ()
    replies: Collection[str] = ()


def has_news(rows: Iterable[HistoryRow], keys: Collection[str], agent_id: str) -> bool:
    """Whether others than the agent wrote any of ``rows`` that is not in the inbox under its id (``keys``)."""
    return any(row.id not in keys and not _is_own(row, agent_id) for row in rows)


def missed(rows: Sequence[HistoryRow], seen: Seen, agent_id: str) -> list[InboundMessage]:
    """The messages among ``rows`` (oldest first) that never reached the inbox and that nobody has answered.

    The agent's own rows tell what was answered. A row with the id of a reply to a missed message answers that message.
    A row that the outbox does not know was written by an earlier life of the agent, and answers the oldest message that
    is still open. In doubt a message counts as missed: a duplicate is better than a loss.
    """
    open_messages: dict[str, InboundMessage] = {}
    # The ids that replies to them would have: a restored backup of the journal has forgotten a reply.
    replied_to: dict[str, str] = {}
    nameless, replies = _by_content(seen.without_id), frozenset(seen.replies)
    for row in rows:
        message = row.message
        if _is_own(row, agent_id):
            if row.id in seen.reply_ids:
                continue
            answered = replied_to.get(row.id)
            answered = answered if answered in open_messages else None
            # A row with the content of a reply of ours answers nothing: the reply may have arrived twice.
            if answered is None and message.content not in replies and message.type in _ANSWERS:
                answered = next(iter(open_messages), None)
            if answered is not None:
                del open_messages[answered]
        elif row.id not in seen.keys and not _take(nameless, row):
            open_messages[row.id] = message
            replied_to |= {reply_id(agent_id, row.id, part, 0): row.id for part in range(_PARTS)}
    return list(open_messages.values())


def since_known(rows: Sequence[HistoryRow], keys: Collection[str], otherwise_since: float) -> Sequence[HistoryRow]:
    """The rows that came after the agent joined the conversation.

    Args:
        otherwise_since: where none of the rows is known, the rows from this time on (seconds since the epoch).
    """
    for number, row in enumerate(rows):
        if row.id in keys:
            return rows[number:]
    return [row for row in rows if row.at is None or row.at >= otherwise_since]


def _is_own(row: HistoryRow, agent_id: str) -> bool:
    return agent_id in (row.message.sender_agent_id, row.message.participant_id)


def _by_content(without_id: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for content, at in without_id:
        times.setdefault(content, []).append(at)
    return times


def _take(nameless: Mapping[str, list[float]], row: HistoryRow) -> bool:
    """Whether a row is one of the messages that came without an id; that message is then used up."""
    times = nameless.get(row.message.content, [])
    for number, at in enumerate(times):
        if row.at is None or abs(row.at - at) <= SLACK_SECONDS:
            del times[number]
            return True
    return False


def was_delivered(
    rows: Sequence[HistoryRow], content: str, created_at: float, delivered_before: Sequence[str], agent_id: str
) -> bool:
    """Whether an agent's doubtful reply is in the history.

    Replies of a conversation are sent one after the other, each acknowledged before the next. So a reply that arrived
    is the agent's last row. Where earlier replies said the same, the rows that end the history are one more than them.

    Args:
        rows: the newest rows, oldest first.
        content: what the doubtful reply says.
        created_at: when the reply was made, seconds since the epoch; a row that is older is another one.
        delivered_before: what the agent's earlier replies there said, oldest first.
    """
    oldest = created_at - SLACK_SECONDS
    own = [
        row.message.content
        for row in rows
        if row.message.sender_agent_id == agent_id and (row.at is None or row.at >= oldest)
    ]
    found = _trailing(own, content)
    # Where all rows that were read say the same, there may be more before them, and nothing is known.
    return found < len(rows) and found > _trailing(delivered_before, content)


def _trailing(contents: Sequence[str], content: str) -> int:
    count = 0
    for said in reversed(contents):
        if said != content:
            break
        count += 1
    return count
