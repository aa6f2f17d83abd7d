"""Which rows of a platform's history are messages that an agent missed (DESIGN §4). Pure, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from supervisor.protocol import InboundMessage, reply_id
from supervisor.protocol.history import HistoryRow

FULL_NOTICE = "Sorry, I have too many messages waiting. Please try again in a little while."
#: What is said without the outbox: in a history it is no answer.
NOTICES = frozenset({FULL_NOTICE})
#: Our clock and the platform's may differ, and a broken connection is noticed late.
SLACK_SECONDS = 120.0
#: Parts of a reply that are looked for under the ids that they would have.
_PARTS = 16
#: A handler's answer is one of these; thinking and tool calls come before it.
_ANSWERS = frozenset({"text", "error"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What the journal knows of a conversation.

    Args:
        keys: which ids of the rows are in the inbox.
        without_id: content and time (seconds since the epoch) of the messages that came without an id: their rows in
            the history do have one.
        reply_ids: the ids of our replies, for platforms that keep them.
        replies: the contents of our replies, for platforms that do not, and of what else we say that answers nothing.
    """

    keys: Collection[str]
    without_id: Sequence[tuple[str, float]] = ()
    reply_ids: Collection[str] = ()
    replies: Collection[str] = ()


def missed(rows: Sequence[HistoryRow], seen: Seen, agent_id: str) -> list[InboundMessage]:
    """The messages among ``rows`` (oldest first) that never reached the inbox and that nobody has answered.

    What was answered is told by the agent's own rows: one whose id is that of a reply to a missed message answers it;
    one that our outbox does not know was written by an earlier life of the agent and answers the oldest message that
    is still open. When in doubt a message counts as missed: a duplicate is better than a loss.
    """
    open_messages: dict[str, InboundMessage] = {}
    nameless, replies = list(seen.without_id), frozenset(seen.replies)
    for row in rows:
        message = row.message
        if agent_id in (message.sender_agent_id, message.participant_id):
            if row.id in seen.reply_ids:
                continue
            answered = _answered_by(row, open_messages, agent_id)
            # Not counted: a reply of ours may have arrived twice.
            if answered is None and message.content not in replies and message.type in _ANSWERS:
                answered = next(iter(open_messages), None)
            if answered is not None:
                del open_messages[answered]
        elif row.id not in seen.keys and not _take(nameless, row):
            open_messages[row.id] = message
    return list(open_messages.values())


def since_known(rows: Sequence[HistoryRow], keys: Collection[str], otherwise_since: float) -> Sequence[HistoryRow]:
    """The rows that came after the agent met the conversation: what is older is none of its business.

    Args:
        otherwise_since: where none of the rows is known, those stored from this time on (seconds since the epoch).
    """
    for number, row in enumerate(rows):
        if row.id in keys:
            return rows[number:]
    return [row for row in rows if row.at is None or row.at >= otherwise_since]


def _answered_by(row: HistoryRow, open_messages: Iterable[str], agent_id: str) -> str | None:
    """The open message whose reply has the row's id; a restored backup of the journal forgets such replies."""
    for message_id in open_messages:
        if row.id in (reply_id(agent_id, message_id, part, 0) for part in range(_PARTS)):
            return message_id
    return None


def _take(nameless: list[tuple[str, float]], row: HistoryRow) -> bool:
    """Whether a row is one of the messages that came without an id, which is then used up."""
    for number, (content, at) in enumerate(nameless):
        if content == row.message.content and (row.at is None or abs(row.at - at) <= SLACK_SECONDS):
            del nameless[number]
            return True
    return False


def was_delivered(
    rows: Sequence[HistoryRow], content: str, created_at: float, delivered_before: Sequence[str], agent_id: str
) -> bool:
    """Whether an agent's doubtful reply is in the history.

    Replies of a conversation are sent one after the other, each acknowledged before the next. So a reply that arrived
    is the agent's last row there; where earlier replies said the same, there is one such row more than such replies.

    Args:
        rows: the newest rows, oldest first.
        content: what the doubtful reply says.
        created_at: when it was made, seconds since the epoch: a row that is older is another one.
        delivered_before: what the agent's earlier replies there said, oldest first.
    """
    oldest = created_at - SLACK_SECONDS
    own = [
        row.message.content
        for row in rows
        if row.message.sender_agent_id == agent_id and (row.at is None or row.at >= oldest)
    ]
    found = _trailing(own, content)
    # Where the run fills all that was read, its beginning is not known.
    return found < len(rows) and found > _trailing(delivered_before, content)


def _trailing(contents: Sequence[str], content: str) -> int:
    count = 0
    for said in reversed(contents):
        if said != content:
            break
        count += 1
    return count
