"""Asks the platform for what was said to an agent while it was away."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self
from weakref import WeakValueDictionary

from supervisor.core.backoff import Backoff
from supervisor.core.clock import Instant
from supervisor.core.errors import PlatformError, RegistryError, Verdict
from supervisor.core.states import MessageState
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.conversations import LIMIT
from supervisor.messages.gap import Gap
from supervisor.messages.holds import HOLD_SECONDS, Holds
from supervisor.messages.inbox import Inbox
from supervisor.messages.looking_back import LookingBack, most_pages
from supervisor.messages.missed import SLACK_SECONDS, Seen, has_news, missed, since_known
from supervisor.messages.notices import UNASKED
from supervisor.messages.rounds import Round
from supervisor.platform.history import PAGE_ROWS
from supervisor.platform.hosts.api_gate import NotAskedError
from supervisor.protocol import InboundMessage
from supervisor.protocol.history import HistoryPage, HistoryRow
from supervisor.settings import Settings

#: Conversations asked about at once, for one agent.
AT_ONCE = 4
#: How long before the agent was put into a conversation a message may be the reason for that.
JOIN_SLACK_SECONDS = 5.0
ATTEMPTS = 4
#: Rows of the first look at a conversation, which is enough for most.
LOOK_ROWS = 50
#: Messages and replies read from the journal at once; they are decoded on the event loop.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back is asked: seconds, and messages of one conversation; 0 messages turn backfill off."""

    seconds: float
    messages: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """How far a deployment's settings let it be asked: no further than the journal knows what it has seen."""
        return cls(min(settings.backfill_age, settings.journal_retention), settings.backfill_messages)


class Backfill:
    """Brings one agent's missed messages into its inbox.

    New messages of a conversation that is being asked about wait in the inbox: the missed ones come first. Where one
    waits, the question goes before all others.

    Args:
        history: asks at leisure, as the host's rate allows.
        gap: from when on anything is looked for; None: as far as the reach goes.
        urgent: asks at once; None: as ``history`` does.

    Attributes:
        holds: the conversations whose new messages wait.
    """

    def __init__(
        self,
        history: AgentHistory,
        inbox: Inbox,
        reach: Reach,
        gap: Gap | None = None,
        *,
        urgent: AgentHistory | None = None,
    ) -> None:
        scope = history.scope
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._clock = scope.clock
        self._metrics = scope.metrics
        self._log = scope.log
        self._history = history
        self._urgent = urgent or history
        self._inbox = inbox
        inbox.on_held = self._somebody_waits
        self.holds = Holds(inbox, scope.clock)
        self._reach = reach
        self._gap = gap
        # Conversations that were complete once: until when.
        self._complete_until: dict[str, Instant] = {}
        # Conversations that are complete and stay so while the connection lasts.
        self._complete: dict[str, None] = {}
        # Conversations that may have missed something and were not asked about yet, or not with success.
        self._open: dict[str, None] = {}
        self._rounds: dict[Round, None] = {}
        # Whose turn it is to catch up with a conversation, for as long as anybody does.
        self._turns: WeakValueDictionary[str, asyncio.Lock] | None = None
        # Being asked about at leisure: done once somebody's message waits for the answer.
        self._impatient: dict[str, asyncio.Future[None]] = {}

    @property
    def possible(self) -> bool:
        """Whether anything can be looked for: it is not turned off, and the platform may have a history."""
        return self._reach.messages > 0 and self._history.may_exist

    @property
    def open(self) -> list[str]:
        """The conversations that may have missed something and could not be asked about so far."""
        return list(self._open)

    def begin(self) -> list[str]:
        """Before a new connection brings anything: hold the messages of the conversations that have a gap.

        Returns:
            Those conversations, for :meth:`run` or :meth:`close`; those that an earlier connection left waiting too.
        """
        if not self.possible:
            self.holds.end(self.holds)
            return []
        conversations = list(dict.fromkeys([*self.holds, *reversed(self._inbox.conversations)]))
        for conversation_id in conversations:
            self.hold(conversation_id)
        return conversations

    def hold(self, conversation_id: str, seconds: float = HOLD_SECONDS) -> None:
        """A conversation may have missed something: hold its new messages until that is found out, or given up."""
        self._open[conversation_id] = None
        self.holds.begin(conversation_id, seconds)

    def hold_incomplete(self, conversations: Iterable[str]) -> None:
        """As :meth:`hold`, but for those where nothing can have been missed."""
        for conversation_id in conversations:
            if self.possible and conversation_id not in self._complete:
                self.hold(conversation_id)

    def close(self, conversations: Sequence[str]) -> None:
        """Nothing is missed in these."""
        for conversation_id in conversations:
            self._open.pop(conversation_id, None)
        self.holds.end(conversations)

    def stop(self) -> None:
        """The agent stops: what waits is left to the platform's history, which the next start asks, as after a crash.

        Journaled now, it would come before what is missing.
        """
        if self.possible and (left := self._inbox.leave_held()):
            self._log.info("messages_left_to_history", messages=left)
        self.holds.end(self.holds)

    def lost(self) -> None:
        """The connection is gone: from now on messages may be missed."""
        self._complete_until |= dict.fromkeys(self._complete, self._now())
        self._complete.clear()
        known = self._inbox.conversations
        self._complete_until = {one: until for one, until in self._complete_until.items() if one in known}

    async def run(self, conversations: Sequence[str], is_joined: Callable[[str], bool]) -> None:
        """Catch up with each of the conversations, several at once; those where that failed stay :attr:`open`.

        Cancelled, because the connection is gone, it leaves waiting what waits: the next one asks again.

        Args:
            is_joined: whether the connection is in a conversation: only then nothing more can be missed in it.
        """
        if not conversations:
            return
        self._open |= dict.fromkeys(conversations)
        found = 0

        async def catch_up(conversation_id: str) -> None:
            nonlocal found
            try:
                found += await self._catch_up(conversation_id, is_joined)
            except Exception:  # noqa: BLE001  whatever it is, the other conversations must not suffer
                self._log.exception("backfill_failed", conversation=conversation_id)
                self.holds.end([conversation_id])

        # Those first where somebody waits.
        in_turn = sorted(conversations, key=lambda one: not self._inbox.holds_back(one))
        of_these = Round(in_turn, catch_up, at_once=AT_ONCE, name=f"backfill {self._agent_id}")
        self._rounds[of_these] = None
        try:
            await of_these.run()
        finally:
            self._rounds.pop(of_these, None)
        if found:
            self._log.info("backfilled", messages=found)

    def _somebody_waits(self, conversation_id: str) -> None:
        """A message is held back: what may be missing before it is asked for now."""
        for one in list(self._rounds):
            one.put_first(conversation_id)
        if (impatient := self._impatient.get(conversation_id)) is not None and not impatient.done():
            impatient.set_result(None)

    async def _catch_up(self, conversation_id: str, is_joined: Callable[[str], bool]) -> int:
        """Bring one conversation's missed messages into the inbox; how many there were.

        One at a time: two would each take what the other has let go on meanwhile, where it came without an id.
        """
        if self._turns is None:
            # Not made before: empty it would be 700 bytes of each agent.
            self._turns = WeakValueDictionary()
        turn = self._turns.setdefault(conversation_id, asyncio.Lock())
        async with turn:
            return await self._catch_up_now(conversation_id, is_joined)

    async def _catch_up_now(self, conversation_id: str, is_joined: Callable[[str], bool]) -> int:
        started = self._now()
        messages = await self._asked(conversation_id)
        if messages is None:
            self.holds.end([conversation_id])
            return 0
        taken = self._inbox.fill(conversation_id, messages)
        self.holds.filled(conversation_id)
        self._open.pop(conversation_id, None)
        if self._history.may_exist:
            self._complete_until[conversation_id] = started
            if is_joined(conversation_id):
                self._complete[conversation_id] = None
        return taken

    async def _asked(self, conversation_id: str) -> list[InboundMessage] | None:
        """What is missing; at leisure, and at once from when on somebody's message waits for it."""
        if not self._inbox.holds_back(conversation_id):
            impatient = self._impatient[conversation_id] = asyncio.get_running_loop().create_future()
            at_leisure = asyncio.ensure_future(self._patiently(conversation_id, self._history))
            try:
                await asyncio.wait([at_leisure, impatient], return_when=asyncio.FIRST_COMPLETED)
                if at_leisure.done():
                    return at_leisure.result()
            finally:
                if self._impatient.get(conversation_id) is impatient:
                    del self._impatient[conversation_id]
                at_leisure.cancel()
                await asyncio.wait([at_leisure])
        return await self._patiently(conversation_id, self._urgent)

    def _now(self) -> Instant:
        """This moment, as history is dated."""
        return Instant(self._gap.now if self._gap else self._clock.now(), self._clock.monotonic())

    async def is_news(self, conversation_id: str) -> bool | None:
        """Whether somebody has written in a conversation what the agent knows nothing of; None: nobody could tell."""
        messages = await self._patiently(conversation_id, self._history)
        return None if messages is None else bool(messages)

    async def _patiently(self, conversation_id: str, history: AgentHistory) -> list[InboundMessage] | None:
        """What is missing, asked for a few times; None without an answer: it is asked again after the next list."""
        backoff = Backoff()
        attempts = 0
        while True:
            attempts += 1
            try:
                return await self._missed(conversation_id, history)
            except NotAskedError as error:
                # It costs the platform nothing, and so it is no attempt.
                attempts -= 1
                reason, again, wait = error.reason, True, error.retry_after_seconds or 1.0
            except PlatformError as error:
                reason, again = error.reason, error.verdict is Verdict.RETRY
                wait = max(backoff.next_delay(), error.retry_after_seconds or 0.0)
            except RegistryError as error:
                reason, again, wait = str(error), True, backoff.next_delay()
            if not again or attempts == ATTEMPTS:
                break
            await self._clock.sleep(wait)
        self._log.warning("backfill_failed", conversation=conversation_id, reason=reason)
        return None

    async def _missed(self, conversation_id: str, history: AgentHistory) -> list[InboundMessage]:
        complete = self._complete_until.get(conversation_id)
        oldest = max(
            self._gap.floor if self._gap else self._clock.now() - self._reach.seconds,
            0.0 if complete is None else complete.earliest(self._clock) - SLACK_SECONDS,
        )
        rows = await self._rows(conversation_id, oldest, history)
        if not rows:
            return []
        # What came without an id is known to be there once the journal has it.
        await self._journal.flush()
        keys = await self._history.journaled(rows)
        if not has_news(rows, keys, self._agent_id):
            # So it is with most: the journal is asked for more where it tells something.
            return []
        # Asked before the messages: what comes meanwhile moves it, and is then among them.
        since = await self._known_since(conversation_id, oldest)
        seen, late = await self._seen(conversation_id, keys, oldest)
        # What came since the gap began does not tell that nothing is missing before it: it may have been held back too
        # short, or another connection brought it.
        known = keys - late
        if (known or not late) and not await self._knew_before(conversation_id, oldest):
            rows = since_known(rows, known, since)
        return missed(rows, seen, self._agent_id)

    async def _knew_before(self, conversation_id: str, oldest: float) -> bool:
        """Whether the agent had messages of the conversation before ``oldest``."""
        older = await self._journal.messages(
            agent_id=self._agent_id,
            conversation_id=conversation_id,
            states=list(MessageState),
            older_than=oldest,
            limit=1,
        )
        return bool(older)

    async def _known_since(self, conversation_id: str, oldest: float) -> float:
        """From when on a conversation is the agent's to answer of which the journal has no message.

        It joined it then, or its messages were erased then. One that it never knew was begun while it was away.
        """
        known = dict(await self._journal.conversations(self._agent_id, since=0.0, limit=LIMIT))
        since = known.get(conversation_id, oldest) - JOIN_SLACK_SECONDS
        # One from the future was noted by a clock that was wrong.
        return since if conversation_id in known and since <= self._now().wall else oldest

    async def _rows(self, conversation_id: str, oldest: float, history: AgentHistory) -> Sequence[HistoryRow]:
        """The newest rows, oldest first: none from before ``oldest``, and of others no more than the reach allows."""
        newest = await history.last(conversation_id, LOOK_ROWS)
        if newest is not None and self._is_enough(newest, oldest):
            return [row for row in newest.rows if row.at is None or row.at >= oldest]
        looking = LookingBack(self._agent_id, oldest, self._reach.messages)
        pages_wanted = most_pages(self._reach.messages, PAGE_ROWS)
        began = self._clock.monotonic()
        async with aclosing(history.backwards(conversation_id, most_pages=pages_wanted)) as pages:
            async for page in pages:
                if not looking.take(page, self._clock.monotonic() - began):
                    break
        if looking.cut:
            fields = {"messages": self._reach.messages, "reason": looking.cut}
            self._log.warning("backfill_cut", conversation=conversation_id, **fields)
            self._metrics.dropped("history_cut")
        return looking.rows

    def _is_enough(self, newest: HistoryPage, oldest: float) -> bool:
        """Whether the newest rows are all that is asked for."""
        rows = newest.rows
        whole = newest.total < LOOK_ROWS or (bool(rows) and rows[0].at is not None and rows[0].at < oldest)
        return whole and len(rows) <= self._reach.messages

    async def _seen(self, conversation_id: str, keys: set[str], since: float) -> tuple[Seen, set[str]]:
        """What the journal knows of the time of the rows, and of a little more; the keys of what came in the gap."""
        begins = self._gap.begins if self._gap else math.inf
        without_id: list[tuple[str, float]] = []
        late: set[str] = set()
        reply_ids: set[str] = set()
        replies = set(UNASKED)
        before: int | None = None
        while taken := await self._journal.messages(
            agent_id=self._agent_id,
            conversation_id=conversation_id,
            states=list(MessageState),
            newer_than=since - SLACK_SECONDS,
            before_id=before,
            limit=PAGE,
        ):
            without_id += [(row.message.content, row.received_at) for row in taken if row.message.id is None]
            late |= {row.key for row in taken if row.received_at >= begins}
            before = taken[-1].id
        before = None
        # All replies that may be among the rows: one that is missing here would pass for an earlier life's answer.
        while own := await self._journal.own_replies(
            self._agent_id, conversation_id, since=since - SLACK_SECONDS, before_id=before, limit=PAGE
        ):
            reply_ids |= {reply.message.id for reply in own if reply.message.id}
            replies |= {reply.message.content for reply in own}
            before = own[0].id
        return Seen(keys, without_id, reply_ids, replies), late
