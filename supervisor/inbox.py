"""Takes in one agent's messages: validate, drop echoes and duplicates, journal, hand to a lane (DESIGN §4)."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from supervisor.clock import Clock
from supervisor.dispatcher import Lanes
from supervisor.errors import RegistryError
from supervisor.logs import get_logger
from supervisor.metrics import Metrics
from supervisor.protocol import ROLES, TYPES, InboundMessage, InvalidEventError, is_object_id, parse_message
from supervisor.registry import Journal
from supervisor.status import InboxCounts

#: Recent message keys kept in memory to tell duplicates; the journal's unique index has the last word.
RECENT_KEYS = 512
#: One notice in this many seconds and conversation that the inbox is full.
NOTICE_SECONDS = 60.0
#: How long closing waits for the journal to take what has arrived.
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Intake:
    """What one agent takes in.

    Args:
        roles: the roles whose messages run the handler.
        limit: messages that may wait.
    """

    roles: Collection[str]
    limit: int


class Inbox:
    """One agent's way from the socket to its lanes. Messages keep the order in which the socket brought them.

    Args:
        intake: asked for each message, since the agent's settings may change.
        on_full: told the conversation of a message that was refused because too many wait.
    """

    def __init__(
        self,
        agent_id: str,
        handler: Callable[[], str],
        intake: Callable[[], Intake],
        *,
        journal: Journal,
        lanes: Lanes,
        metrics: Metrics,
        clock: Clock,
        on_full: Callable[[str], None],
    ) -> None:
        self._agent_id = agent_id
        self._handler = handler
        self._intake = intake
        self._journal = journal
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock
        self._on_full = on_full
        self._arrived: deque[tuple[InboundMessage, str, float]] = deque()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._noticed: dict[str, float] = {}
        self._journaling = 0
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger("supervisor.inbox").bind(agent=agent_id)
        #: Journaled and not settled; corrected from the journal by maintenance, since others may settle too.
        self.unsettled = 0
        self.dead = 0
        self.conversations: OrderedDict[str, float] = OrderedDict()

    def receive(self, payload: object) -> None:
        """Take a ``message:new`` from a socket; returns at once, never raises for what the payload holds."""
        if isinstance(payload, dict) and payload.get("participantId") == self._agent_id:
            # Half of all messages are the echoes of our own: not worth reading.
            self._metrics.dropped("own_echo")
            return
        try:
            message, malformed = parse_message(payload)
        except InvalidEventError as error:
            self._metrics.dropped(error.reason)
            return
        for field in malformed:
            self._metrics.dropped(f"malformed_{field}")
        if (reason := self._unwanted(message)) is not None:
            self._metrics.dropped(reason)
            return
        key = message.id or uuid.uuid4().hex
        if key in self._recent:
            self._metrics.dropped("duplicate")
            return
        if self.waiting >= self._intake().limit:
            self._refuse(message.conversation_id)
            return
        self._remember(key)
        self._metrics.received(self._handler())
        self._arrived.append((message, key, self._clock.now()))
        if self._task is None:
            self._task = asyncio.create_task(self._journal_arrived(), name=f"inbox {self._agent_id}")

    @property
    def waiting(self) -> int:
        """Messages that are not settled yet, those on their way into the journal included."""
        return self.unsettled + self._journaling + len(self._arrived)

    @property
    def counts(self) -> InboxCounts:
        """Messages by where they are."""
        running = self._lanes.running
        return InboxCounts(max(0, self.waiting - running), running, self.dead)

    def settled(self, *, dead: bool) -> None:
        """A message reached its end."""
        self.unsettled = max(0, self.unsettled - 1)
        self.dead += dead

    def correct(self, *, unsettled: int, dead: int) -> None:
        """Take over the journal's own counts, unless messages are on their way into it: those it may have or not."""
        self.dead = dead
        if not self._arrived and not self._journaling:
            self.unsettled = unsettled

    def _unwanted(self, message: InboundMessage) -> str | None:
        """Why a message does not run the handler, or None when it does (PROTOCOL §5)."""
        if self._agent_id in (message.participant_id, message.sender_agent_id):
            return "own_echo"
        if message.role not in self._intake().roles:
            return "role" if message.role in ROLES else "unknown_role"
        if message.type not in TYPES:
            # Not a reason to leave a person without an answer, but worth counting.
            self._metrics.unknown("message_type")
        return None if message.content.strip() or message.attachments else "empty"

    def _remember(self, key: str) -> None:
        self._recent[key] = None
        if len(self._recent) > RECENT_KEYS:
            self._recent.popitem(last=False)

    def remember_own(self, message_id: str) -> None:
        """Note an id that one of our own sends was given: its echo is no message (PROTOCOL §5)."""
        if is_object_id(message_id):
            self._remember(message_id)

    def _refuse(self, conversation_id: str) -> None:
        self._metrics.dropped("inbox_full")
        now = self._clock.monotonic()
        if now - self._noticed.get(conversation_id, -NOTICE_SECONDS) >= NOTICE_SECONDS:
            self._noticed = {c: at for c, at in self._noticed.items() if now - at < NOTICE_SECONDS}
            self._noticed[conversation_id] = now
            self._log.warning("inbox_full", conversation=conversation_id, limit=self._intake().limit)
            self._on_full(conversation_id)

    async def _journal_arrived(self) -> None:
        """Journal what has arrived, a batch at a time: one commit holds all that came during the last one."""
        while self._arrived:
            batch = list(self._arrived)
            self._arrived.clear()
            self._journaling = len(batch)
            if len(batch) == 1:
                await self._journal_one(*batch[0])
            else:
                await asyncio.gather(*(self._journal_one(*arrival) for arrival in batch))
        # No await since the last look: what arrives later starts a new task.
        self._task = None

    async def _journal_one(self, message: InboundMessage, key: str, received_at: float) -> None:
        """Journal a message and hand it to its lane; never raises, the messages behind it must not suffer."""
        claimed = self._lanes.reserve(message.conversation_id)
        row = None
        try:
            row = await self._journal.add(self._agent_id, message, key=key, received_at=received_at, claim=claimed)
        except Exception as error:  # noqa: BLE001  refused aloud, never silently (DESIGN §4)
            self._log.error("message_not_journaled", conversation=message.conversation_id, reason=str(error))
            self._recent.pop(key, None)
            self._refuse(message.conversation_id)
        else:
            if row is None:
                self._metrics.dropped("duplicate")
        finally:
            self._journaling -= 1
            if row is None and claimed:
                self._lanes.cancel_reserved(message.conversation_id)
        if row is None:
            return
        row.fresh = True
        self.unsettled += 1
        self._note_conversation(row.conversation_id, received_at)
        if claimed:
            self._lanes.run_reserved(row)
        else:
            self._lanes.put(row)

    # ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────

    async def joined(self, conversation_id: str) -> None:
        """The agent joined a conversation: after a reconnect it is to be in it again."""
        now = self._clock.now()
        self._note_conversation(conversation_id, now)
        try:
            await self._journal.note_conversation(self._agent_id, conversation_id, at=now)
        except RegistryError as error:
            self._log.warning("conversation_not_noted", conversation=conversation_id, reason=str(error))

    async def left(self, conversation_id: str) -> None:
        """The agent left a conversation, or is not let in: it is not joined again until somebody writes in it."""
        self.conversations.pop(conversation_id, None)
        try:
            await self._journal.forget_conversation(self._agent_id, conversation_id)
        except RegistryError as error:
            self._log.warning("conversation_not_forgotten", conversation=conversation_id, reason=str(error))

    def _note_conversation(self, conversation_id: str, at: float) -> None:
        self.conversations[conversation_id] = at
        self.conversations.move_to_end(conversation_id)
        if len(self.conversations) > RECENT_KEYS:
            self.conversations.popitem(last=False)

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Wait until what has arrived is journaled, for ``timeout`` seconds at most; what is not then is counted.

        The journal goes on trying with what it has been given while it is open.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._task is not None:
                    await asyncio.wait([self._task])
        if self._task is None:
            return
        left = self._journaling + len(self._arrived)
        self._arrived.clear()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._metrics.dropped("not_journaled", left)
        self._log.error("messages_not_journaled", count=left, reason=self._journal.problem or "the disk is too slow")
