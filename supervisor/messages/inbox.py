"""Takes in one agent's messages: validate, drop echoes and duplicates, journal, hand to a lane."""

from __future__ import annotations

import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

from supervisor.core.command_words import command_in
from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.core.status import InboxCounts
from supervisor.messages.arrivals import Arrival, Arrivals, Ending
from supervisor.messages.conversations import Conversations
from supervisor.messages.lanes import Lanes
from supervisor.messages.loop_guard import PAUSE_SECONDS, LoopGuard
from supervisor.messages.memory import Memory, size_of
from supervisor.messages.pairing import Pairing
from supervisor.messages.places import Places
from supervisor.messages.scope import Scope
from supervisor.messages.wanted import is_own, unwanted
from supervisor.platform.connection import Connection
from supervisor.protocol import InboundMessage, InvalidEventError, parse_message
from supervisor.protocol.fields import TYPES
from supervisor.protocol.text import is_object_id
from supervisor.telemetry.logs import AgentLog

#: Recent message keys kept in memory to tell duplicates; the journal's unique index has the last word.
RECENT_KEYS = 512
#: Commands that are taken in beyond the limit.
COMMAND_ROOM = 16
#: One notice in this many seconds and conversation that the inbox is full.
NOTICE_SECONDS = 60.0
#: Why a message that the loop guard stopped is a dead letter; a person may replay it.
LOOP_REASON = "loop guard: agents answered each other too often in this conversation; nobody was answered"
_LOOP = Ending(MessageState.DEAD, LOOP_REASON, "loop_guard")
_ASLEEP = Ending(MessageState.CANCELLED, "asleep", "asleep")
#: The platform has put the agent to sleep without saying so to it (docs/protocol.md#8-third-generation, 3).
_SKIPPED = Ending(MessageState.CANCELLED, "the platform says that the agent is not to answer (skipAgent)", "skip_agent")
#: How long closing waits for the journal to take what has arrived.
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Intake:
    """What one agent takes in.

    Args:
        roles: the roles whose messages run the handler.
        limit: messages that may wait.
        loop_limit: messages a minute and conversation that no person wrote; 0 is no limit.
        commands: whether a person's ``/stop`` and its like are commands.
        asleep: whether the agent sleeps: nobody is answered.
    """

    roles: Collection[str]
    limit: int
    loop_limit: int
    commands: bool
    asleep: bool = False


class Inbox:
    """One agent's way from the socket to its lanes. Messages keep the order in which the socket brought them.

    Args:
        memory: the fleet's bound on messages in memory.
        handler: the reference of the agent's handler.
        intake: asked for each message, since the agent's settings may change.
        on_full: told the conversation of a message that was refused because too many wait.
        on_command: given a command that is journaled as running; it goes into no lane.
    """

    _log = AgentLog("supervisor.inbox")

    def __init__(
        self,
        scope: Scope,
        lanes: Lanes,
        memory: Memory,
        *,
        handler: Callable[[], str],
        intake: Callable[[], Intake],
        on_full: Callable[[str], None],
        on_command: Callable[[JournaledMessage], None],
    ) -> None:
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._metrics = scope.metrics
        self._activity = scope.activity
        self._clock = scope.clock
        self._traces = scope.traces
        self._lanes = lanes
        self._memory = memory
        self._handler = handler
        self._intake = intake
        self._on_full = on_full
        self._on_command = on_command
        #: Told the conversation of each message that is held back.
        self.on_held: Callable[[str], None] = lambda _conversation_id: None
        self._arrivals = Arrivals(
            memory,
            write=self._write,
            on_held=lambda one: self.on_held(one),  # noqa: PLW0108  it is set later
        )
        self._places = Places(lanes)
        self._pairing = Pairing()
        self._guard = LoopGuard(scope.clock, lambda: intake().loop_limit, self._warn_of_loop)
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._noticed: dict[str, float] = {}
        # Refused since the last line of the log about it, and when that was.
        self._untold = 0
        self._told_at = 0.0
        #: Journaled and not settled; corrected from the journal by maintenance, since others may settle too.
        self.unsettled = 0
        #: How often the counts changed; who corrects them sees whether they are still those that it asked about.
        self.changes = 0
        self.dead = 0
        #: How many messages were not journaled when it was closed.
        self.left = 0
        self.conversations = Conversations(scope)
        #: Told of a message in a conversation that is not known, before it is taken in; may hold the conversation back.
        self.on_stranger: Callable[[InboundMessage, Connection], None] = lambda _message, _source: None

    def receive(self, payload: object, source: Connection) -> None:
        """Take a ``message:new`` from a socket; returns at once, never raises for what the payload holds."""
        if isinstance(payload, dict) and is_own(payload, self._agent_id):
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
        now = self._clock.monotonic()
        source.record_member(message.conversation_id, now)
        if (reason := self._unwanted(message)) is not None:
            self._metrics.dropped(reason)
            if message.id is not None:
                # v2's history tells the sender's kind for the role that it gave: there the same message looks wanted.
                self._remember(message.id)
        elif message.id is None and self._pairing.is_second(message, source, now):
            self._metrics.dropped("duplicate")
        else:
            if message.conversation_id not in self.conversations:
                self.on_stranger(message, source)
            self._accept(message)

    def _accept(self, message: InboundMessage, *, guarded: bool = True) -> bool:
        """Send a message on its way into the journal, unless it is known or there is no room; whether it is.

        Args:
            guarded: whether it counts for the loop guard: what was missed came over hours and arrives at once.
        """
        key = message.id or uuid.uuid4().hex
        if key in self._recent:
            self._metrics.dropped("duplicate")
            return False
        size = size_of(message)
        intake = self._intake()
        ending = _ASLEEP if intake.asleep else _SKIPPED if message.skip_agent else None
        command = ending is None and intake.commands and command_in(message) is not None
        # A full inbox is what somebody may want to stop.
        limit = intake.limit + COMMAND_ROOM if command else intake.limit
        # While the disk refuses, what has arrived piles up here.
        if self.waiting >= limit or (self._journal.problem and self._memory.free_bytes < size):
            self._refuse(message.conversation_id, key, aloud=ending is None and message.said)
            return False
        self._remember(key)
        self._metrics.received(self._handler())
        self._activity.received()
        if ending is None and guarded and self._guard.blocks(message):
            ending = _LOOP
        self._arrivals.put(Arrival(message, key, self._clock.now(), size, ending, command))
        return True

    def take_task(self, message: InboundMessage) -> None:
        """Take a work or a reminder that a heartbeat has brought; returns at once."""
        self._accept(message, guarded=False)

    def hold(self, conversation_id: str) -> None:
        """Hold a conversation's new messages back until :meth:`fill` or :meth:`release`: older ones may be missing."""
        self._arrivals.hold(conversation_id)

    def holds_back(self, conversation_id: str) -> bool:
        """Whether a message of a conversation is held back."""
        return self._arrivals.holds_back(conversation_id)

    def release(self, conversation_id: str) -> None:
        """Let the messages that were held back go on; nothing happens where none are."""
        self._arrivals.resume(self._arrivals.take_held_back(conversation_id))

    def leave_held(self) -> int:
        """Forget the messages that are held back, since the platform's history has them; how many there were."""
        left = self._arrivals.drop_held_back()
        for arrival in left:
            self._recent.pop(arrival.key, None)
        return len(left)

    async def until_none_is_held(self) -> None:
        """Return once no message is held back."""
        await self._arrivals.until_none_is_held_back()

    def fill(self, conversation_id: str, messages: Iterable[InboundMessage]) -> int:
        """Take in what was missed, oldest first, each of what is held back at its place; how many were new."""
        held_back = self._arrivals.take_held_back(conversation_id)
        # Messages that came without an id have one in the history, and the journal does not have them yet.
        waiting = (one for one in (*held_back, *self._arrivals) if one.conversation_id == conversation_id)
        nameless = Counter(one.message.content for one in waiting if one.message.id is None)
        taken = 0
        for message in messages:
            # An earlier connection may have brought some of what is held back, and none what was said after it.
            heard = next((place for place, one in enumerate(held_back, 1) if _is_row_of(one, message)), 0)
            self._arrivals.resume(held_back[:heard])
            del held_back[:heard]
            if nameless[message.content]:
                nameless[message.content] -= 1
            elif self._unwanted(message) is None and message.id not in self._recent:
                taken += self._accept(message, guarded=False)
        self._arrivals.resume(held_back)
        return taken

    @property
    def waiting(self) -> int:
        """Messages that are not settled yet, those on their way into the journal included."""
        return self.unsettled + len(self._arrivals)

    @property
    def counts(self) -> InboxCounts:
        """Messages by where they are."""
        running = self._lanes.running
        return InboxCounts(max(0, self.waiting - running), running, self.dead)

    def settled(self, *, dead: bool) -> None:
        """A message reached its end."""
        self.changes += 1
        self.unsettled = max(0, self.unsettled - 1)
        self.dead += dead

    def tell_refused(self) -> None:
        """Log how many messages were refused that no line has named, once a minute at most."""
        now = self._clock.monotonic()
        if self._untold and now - self._told_at >= NOTICE_SECONDS:
            self._log.warning("inbox_full", refused=self._untold, limit=self._intake().limit)
            self._untold, self._told_at = 0, now

    def correct(self, *, unsettled: int, dead: int) -> None:
        """Take over the journal's own counts, unless messages are on their way: the journal may have them or not."""
        self.dead = dead
        if not self._arrivals.journaling:
            self.unsettled = unsettled

    def _unwanted(self, message: InboundMessage) -> str | None:
        reason = unwanted(message, self._agent_id, self._intake().roles)
        if reason == "type" and message.type not in TYPES:
            self._metrics.unknown("message_type")
        return reason

    def _remember(self, key: str) -> None:
        self._recent[key] = None
        if len(self._recent) > RECENT_KEYS:
            self._recent.popitem(last=False)

    def remember_own(self, message_id: str) -> None:
        """Remember an id by which the platform may know a reply of ours: its echo is no message."""
        if is_object_id(message_id):
            self._remember(message_id)

    def _refuse(self, conversation_id: str, key: str, *, aloud: bool = True) -> None:
        self._metrics.dropped("inbox_full")
        now = self._clock.monotonic()
        if aloud and now - self._noticed.get(conversation_id, -NOTICE_SECONDS) >= NOTICE_SECONDS:
            self._noticed = {c: at for c, at in self._noticed.items() if now - at < NOTICE_SECONDS}
            self._noticed[conversation_id] = now
            limit, self._told_at = self._intake().limit, now
            self._log.warning("inbox_full", conversation=conversation_id, message_id=key, limit=limit)
            self._on_full(conversation_id)
        else:
            self._untold += 1

    def _warn_of_loop(self, conversation_id: str) -> None:
        limit = self._intake().loop_limit
        self._log.warning("loop_guard", conversation=conversation_id, limit=limit, pause_seconds=PAUSE_SECONDS)

    def _write(self, arrival: Arrival) -> None:
        """Have a message journaled, claimed where it may run at once.

        Never raises: the messages behind it must not suffer.
        """
        self._places.take(arrival)
        journaled = partial(self._journaled, arrival, self._places.given_up)
        try:
            self._journal.add_then(
                self._agent_id,
                arrival.message,
                key=arrival.key,
                received_at=arrival.received_at,
                claim=arrival.claimed or arrival.command,
                then=journaled,
            )
        except Exception as error:  # noqa: BLE001  refused aloud, never silently
            journaled(None, error)

    def _journaled(
        self, arrival: Arrival, given_up: int, row: JournaledMessage | None, error: Exception | None
    ) -> None:
        """The journal has a message, knew it, or has refused it."""
        # Else nobody waits for it any more: what the journal has is taken up with the next restore.
        wanted = given_up == self._places.given_up
        try:
            if error is not None:
                where = arrival.conversation_id
                self._log.error("message_not_journaled", conversation=where, message_id=arrival.key, reason=str(error))
                self._recent.pop(arrival.key, None)
                self._refuse(where, arrival.key, aloud=arrival.ending is None and arrival.message.said)
            elif row is None:
                self._metrics.dropped("duplicate")
            elif wanted:
                self._deliver(arrival, row)
        finally:
            if wanted:
                self._places.leave(arrival, used=row is not None)
            self._arrivals.journaled(arrival)

    def _deliver(self, arrival: Arrival, row: JournaledMessage) -> None:
        """Hand a journaled message on to where it is worked on."""
        if row.message.said:
            self.conversations.touch(row.conversation_id)
        if arrival.ending is not None:
            self._end(row, arrival.ending)
            return
        row.fresh = True
        self.changes += 1
        self.unsettled += 1
        if arrival.command:
            self._on_command(row)
        elif arrival.claimed:
            self._lanes.run_reserved(row)
        else:
            self._lanes.put(row)

    def _end(self, row: JournaledMessage, ending: Ending) -> None:
        """Settle a message that nobody works on; nobody is told: that would go on with a loop, or wake a sleeper."""
        self._metrics.dropped(ending.drop)

        def settled(_replies: object, error: Exception | None) -> None:
            if error is not None:
                # It waits in the journal then, and runs after the next start.
                ids = {"conversation": row.conversation_id, "message_id": row.key}
                self._log.error("message_not_settled", **ids, reason=str(error))
            self.dead += ending.state is MessageState.DEAD
            self._traces.settled(row)

        try:
            self._journal.settle_then(row, ending.state, error=ending.reason, then=settled)
        except RegistryError as error:
            settled(None, error)

    async def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Wait until what has arrived is journaled, for ``timeout`` seconds at most; what is not then is counted."""
        self.left = left = await self._arrivals.close(timeout)
        self._places.give_up()
        if left:
            self._metrics.dropped("not_journaled", left)
            reason = self._journal.problem or "the disk is too slow"
            self._log.error("messages_not_journaled", count=left, reason=reason)


def _is_row_of(arrival: Arrival, message: InboundMessage) -> bool:
    """Whether a message of the history is one that has arrived."""
    return arrival.key == message.id or (arrival.message.id is None and arrival.message.content == message.content)
