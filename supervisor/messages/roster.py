"""Finds, joins and reads an agent's conversations as the platform lists them, so that none stays unanswered.

docs/protocol.md#7-findings, 2: the platform puts an agent into few of its conversations by itself, and into none of
those that were begun while it was away or forgotten.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from supervisor.core.backoff import Backoff
from supervisor.core.errors import PlatformError, Verdict
from supervisor.messages.backfill import Backfill
from supervisor.messages.gap import Gap
from supervisor.messages.inbox import Inbox
from supervisor.messages.missed import SLACK_SECONDS
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.platform.conversations import ABSENT_SECONDS, PlatformConversations
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.hosts.api_gate import Asker
from supervisor.protocol import InboundMessage
from supervisor.protocol.conversations import ListedConversation

#: Joins on their way at once.
AT_ONCE: Final = 8
#: What could not be read is tried again after so long at most, or with each list where these are further apart.
REREAD_SECONDS: Final = 60.0
#: How long a person's first words wait for what may have been said before them.
LOOK_SECONDS: Final = 3.0


def is_joined(connection: Connection, conversation_id: str) -> bool:
    """Whether a connection is in a conversation, as far as is known."""
    return connection.member_since(conversation_id) is not None


@dataclass(frozen=True, slots=True)
class Listing:
    """Where an agent's conversations are listed.

    Args:
        platform: asks.
        access: where to ask and with what; called for each question, since both change.
        seconds: how often.
        uniform: draws between two bounds; tests give their own.
    """

    platform: PlatformConversations
    access: Callable[[], Access]
    seconds: float
    uniform: Callable[[float, float], float] = random.uniform


@dataclass(slots=True)
class _Lists:
    """How far the lists over one connection have got.

    Args:
        held: the conversations whose new messages wait, until the first list is through.
        since: what changed before this (seconds since the epoch) is known.
    """

    connection: Connection
    held: list[str]
    rereading: Backoff
    backoff: Backoff = field(default_factory=Backoff)
    since: float | None = None


async def _while_there(connection: Connection, work: Awaitable[float]) -> float:
    """Await ``work``, cancelled as soon as the connection is lost."""
    task = asyncio.current_task()

    def end(_closed: object) -> None:
        if task is not None:
            task.cancel()

    connection.closed.add_done_callback(end)
    try:
        return await work
    finally:
        connection.closed.remove_done_callback(end)


class Roster:
    """One agent's conversations, kept complete.

    After each registration all of them are listed, then every few minutes those that changed. What the connection is
    not in is joined, the one that changed last first, and asked for what was said since the gap began.

    Args:
        gap: from when on messages may have been missed.
        ack_seconds: how long the platform's acknowledgement of a join may take.

    Attributes:
        unjoined: how many conversations are known and not joined yet.
    """

    def __init__(
        self, scope: Scope, inbox: Inbox, backfill: Backfill, gap: Gap, listing: Listing, ack_seconds: float
    ) -> None:
        self._agent_id = scope.agent_id
        self._clock = scope.clock
        self._metrics = scope.metrics
        self._log = scope.log
        inbox.on_stranger = self.look_before
        self._conversations = inbox.conversations
        self._backfill = backfill
        self._gap = gap
        self._listing = listing
        self._ack_seconds = ack_seconds
        self._following: Connection | None = None
        self._complete_on: Connection | None = None
        self._joining: frozenset[str] = frozenset()
        # Joined and not read: when they had last changed by then.
        self._unread: dict[str, float | None] = {}
        # Left, and nothing said since: when they had last changed by then.
        self._quiet: dict[str, float | None] = {}
        self._looking: dict[str, None] = {}
        # None: it is not known yet whether the platform lists conversations.
        self._lists: bool | None = None
        self.unjoined = 0

    @property
    def covered_until(self) -> float:
        """Until when nothing can have been missed, while the agent is connected, in seconds since the epoch.

        Where the platform lists conversations, or may do so, that is the last list: between two the agent may be
        forgotten. Nowhere is it later than what could not be read so far.
        """
        if self._lists is False and not self._backfill.open:
            return self._gap.now
        return self._gap.covered_until

    @property
    def complete(self) -> bool:
        """Whether nothing is missing of what was said, as far as is known, in conversations that are joined."""
        return not self._unread and not self._backfill.open

    def lost(self) -> None:
        """The connection went away just now."""
        self._gap.covered(self.covered_until)
        self._gap.note()
        self.unjoined = 0

    def follow(self, connection: Connection, held: Sequence[str], joining: Collection[str] = ()) -> None:
        """Keep the conversations complete while a connection lasts; it ends with it.

        Args:
            held: the conversations whose new messages wait, because they have a gap.
            joining: those that somebody else joins.
        """
        self._following = connection
        self._joining = frozenset(joining)
        asker = Asker("conversations")
        asker.ask_at(self._listing.platform.gate(self._listing.access()))
        lists = _Lists(connection, list(held), Backoff(cap_seconds=max(REREAD_SECONDS, self._listing.seconds)))

        def turn() -> Awaitable[float] | None:
            # Another connection may have taken its place, and is followed.
            return _while_there(connection, self._look_through(lists)) if self._following is connection else None

        connection.chores.repeat(self._clock, turn, 0.0, "conversations", at_end=asker.leave)

    async def _look_through(self, lists: _Lists) -> float:
        """List the conversations once, and catch up with what is found; seconds until the next time."""
        connection, held, backoff = lists.connection, lists.held, lists.backoff
        lists.held = []
        started = self._gap.now
        try:
            rows = await self._list(lists.since)
        except PlatformError as error:
            self._metrics.conversations_listed("failed")
            # The first failure may be the beginning of an outage, which has lines of its own.
            log = self._log.info if backoff.failures else self._log.debug
            log("conversations_not_listed", reason=error.reason)
            wait = max(backoff.next_delay(), error.retry_after_seconds or 0.0)
            await self._backfill.run(held, partial(is_joined, connection))
            return wait
        if rows is None:
            await self._backfill.run(self._unasked(held), partial(is_joined, connection))
            whole = True
        else:
            whole = await self._take(rows, connection, held)
        if whole:
            backoff.reset()
            lists.since = started - SLACK_SECONDS
        wait = self._wait_seconds() if whole else backoff.next_delay()
        if self._unasked():
            wait = min(wait, lists.rereading.next_delay())
        else:
            lists.rereading.reset()
        if whole and not self._unread:
            self._complete_on = connection
            if not self._backfill.open:
                self._gap.covered(started)
        return wait

    async def _list(self, since: float | None) -> list[ListedConversation] | None:
        listing = self._listing
        rows = await listing.platform.newest_first(
            listing.access(), self._agent_id, since=since, expected=len(self._conversations) > 0
        )
        self._lists = rows is not None
        self._metrics.conversations_listed("absent" if rows is None else "ok")
        return rows

    def _wait_seconds(self) -> float:
        """How long until the next list: none where something was joined that may have gone on meanwhile."""
        if self._unread:
            return 0.0
        gate = self._listing.platform.gate(self._listing.access())
        seconds = gate.interval("conversations", self._listing.seconds)
        # Absent lists are looked for again when the platform may have been updated.
        seconds = seconds if self._lists else max(seconds, ABSENT_SECONDS)
        # Drawn, so that a fleet that was started at once does not ask at once.
        return seconds * self._listing.uniform(0.9, 1.1)

    def _unasked(self, held: Sequence[str] = ()) -> list[str]:
        """Those of ``held``, and those that could not be asked about before; none that was left since."""
        self._backfill.close([one for one in self._backfill.open if self._conversations.has_left(one)])
        return [one for one in dict.fromkeys([*held, *self._backfill.open]) if one not in self._looking]

    async def _take(self, rows: Sequence[ListedConversation], connection: Connection, held: Sequence[str]) -> bool:
        """Catch up with what has a gap, and join what the connection is not in; whether all of that succeeded."""
        floor = self._gap.floor
        listed = {row.id for row in rows}
        changed = {row.id for row in rows if row.updated_at is None or row.updated_at >= floor}
        self._quiet = {one: at for one, at in self._quiet.items() if one in listed}
        missing = [row for row in rows if self._is_missing(row, connection) and not await self._has_left(row)]
        joining = {row.id for row in missing}
        unread, self._unread = self._unread, {}
        waiting = dict.fromkeys(self._unasked(held))
        waiting |= dict.fromkeys(row.id for row in rows if row.id in unread and row.updated_at != unread[row.id])
        news = [one for one in waiting if one in changed or one not in listed or one in unread]
        # What is not joined yet is asked about after its join: what is said in between would be missed.
        asked = [one for one in news if one not in joining]
        self._backfill.close([one for one in {**waiting, **unread} if one not in news])
        self.unjoined = len(missing)
        turns = iter(missing)
        whole = True

        async def take_turns() -> None:
            nonlocal whole
            for row in turns:
                whole &= await self._bring_in(row, connection, look=row.id in changed)

        async with asyncio.TaskGroup() as group:
            group.create_task(self._backfill.run(asked, partial(is_joined, connection)), name="backfill")
            for _ in range(min(AT_ONCE, len(missing))):
                group.create_task(take_turns(), name=f"join {self._agent_id}")
        if missing:
            self._log.info("conversations_found", count=len(missing), joined=len(missing) - self.unjoined)
        return whole

    def _is_missing(self, row: ListedConversation, connection: Connection) -> bool:
        joined = is_joined(connection, row.id) or row.id == connection.conversation_id
        return not joined and row.id not in self._joining

    async def _has_left(self, row: ListedConversation) -> bool:
        """Whether the agent left a conversation where nobody has written since.

        About the time at which it left two clocks may disagree, and its own last words count as a change too: there the
        history has the last word.
        """
        left = self._conversations.has_left(row.id, row.updated_at)
        if not self._conversations.left_about(row.id, row.updated_at, self._gap.now) or not self._backfill.possible:
            return left
        if self._quiet.get(row.id) == row.updated_at:
            return True
        news = await self._backfill.is_news(row.id)
        if news is False:
            self._quiet[row.id] = row.updated_at
        return left if news is None else not news

    async def _bring_in(self, row: ListedConversation, connection: Connection, *, look: bool) -> bool:
        """Join a conversation and look at what was said last in it; whether that need not be tried again."""
        possible = self._backfill.possible
        if possible:
            # Before the join: what is said from then on comes after what was said before.
            self._backfill.holds.begin(row.id)
        joined = await self._join(row.id, connection)
        if joined is None:
            await self._conversations.left(row.id)
            self._backfill.holds.end([row.id])
            return True
        if look and possible:
            await self._backfill.run([row.id], partial(is_joined, connection))
        elif joined and possible:
            # What was said between the list and the join shows in the next list.
            self._unread[row.id] = row.updated_at
        elif connection.connected:
            self._backfill.holds.end([row.id])
        if joined:
            self.unjoined = max(0, self.unjoined - 1)
        # One that could not be read is not known yet: else it would count as read after a restart.
        if joined and row.id not in self._backfill.open:
            now = self._gap.now
            await self._conversations.found(row.id, now if row.updated_at is None else min(row.updated_at, now))
        return joined

    async def _join(self, conversation_id: str, connection: Connection) -> bool | None:
        """Whether the connection is in a conversation now; None where the platform refuses it for good."""
        try:
            await connection.join(conversation_id, self._ack_seconds)
        except PlatformError as error:
            return None if error.verdict is Verdict.REJECT else False
        connection.record_member(conversation_id, self._clock.monotonic())
        return True

    def look_before(self, message: InboundMessage, source: Connection) -> None:
        """Somebody speaks in a conversation that is not known: hold that back while something may come before it.

        Until the first list is through, the conversation may have been begun while the agent was away. And of a new
        bridged one the first message is lost as a rule (docs/protocol.md#7-findings, 3): some generations give those no
        id, some a sender's platform.
        """
        conversation_id = message.conversation_id
        listed = source is self._complete_on and message.id is not None and not message.bridged
        if listed or conversation_id in self._looking or not self._backfill.possible:
            return
        self._looking[conversation_id] = None
        self._backfill.hold(conversation_id, LOOK_SECONDS)
        looking = source.start_task(self._look(conversation_id, source), "look")
        # Also where it is cancelled before it has begun.
        looking.add_done_callback(lambda _: self._looking.pop(conversation_id, None))

    async def _look(self, conversation_id: str, connection: Connection) -> None:
        await self._backfill.run([conversation_id], partial(is_joined, connection))
