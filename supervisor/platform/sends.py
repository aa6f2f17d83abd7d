"""The sends in flight on one socket, and what the platform says of each (docs/protocol.md#4-sending)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from supervisor.core.errors import AckTimeoutError, ConnectionLostError, PlatformError, SendRefusedError, Verdict
from supervisor.platform.repeats import DROPPED
from supervisor.platform.transport import Socket
from supervisor.protocol import InvalidEventError, parse_event
from supervisor.protocol.events import SendOutcome, parse_ack

#: How long after message:sent or message:error the ack may still come before the event itself settles the send.
ACKLESS_GRACE_SECONDS: Final = 1.0
#: After so many sends in a row without an ack the server counts as one that never acks.
ACKLESS_SENDS: Final = 3

#: Told once what became of a send: what the platform said of it, or why nobody knows.
OnOutcome = Callable[[SendOutcome | None, PlatformError | None], None]

#: How refusals begin after which a join and one resend help.
_WANT_JOIN: Final = ("No conversation found", "You must join the conversation")
#: How refusals begin after which trying again is pointless; others may be the platform's own trouble.
_FINAL_REFUSALS: Final = (
    "Message validation failed",
    "Action validation failed",
    "Invalid attachments",
    "You do not have permission",
    "Cast to ",
    "Invalid ID format",
    "Entity with ID",
    "Cannot read properties",
)
#: The database's word for a key that is taken: the message's own id, or any other that the platform wrote.
_TAKEN: Final = "E11000"


def refusal(error: str) -> SendRefusedError:
    """The error for a refused send or question, with what the platform's text asks for."""
    return SendRefusedError(error, Verdict.REJECT if error.startswith(_FINAL_REFUSALS) else Verdict.RETRY)


def is_stored(error: str, message_id: str) -> bool:
    """Whether a send was refused because the platform has a message of that ``_id`` already."""
    return _TAKEN in error and message_id in error


def wants_join(outcome: SendOutcome) -> bool:
    """Whether a send was refused because the socket is in no conversation, or not in the message's."""
    return not outcome.success and (outcome.error or "").startswith(_WANT_JOIN)


class _Content(msgspec.Struct):
    content: str = ""


class _Send(msgspec.Struct, eq=False):
    """One ``message:send`` that waits for its outcome.

    Attributes:
        ack_id: the number of its ack.
        due: until when its outcome is waited for, in the loop's seconds.
        reported: what ``message:sent`` or ``message:error`` said of it.
        wordless: the ack came and said nothing: the event alone can say what became of it.
        platform_id: the id that its echo had, where the platform gave it another than ours.
        doubtful: an outcome came that may be this send's, and nothing ties the two together.
        dropped: while it was in flight the platform dropped a message as a repetition, perhaps this one.
    """

    message_id: str
    conversation_id: str
    body: bytes
    timeout: float
    on_outcome: OnOutcome
    ack_id: int = 0
    due: float = 0.0
    reported: SendOutcome | None = None
    wordless: bool = False
    platform_id: str | None = None
    doubtful: bool = False
    dropped: bool = False

    def is_echoed_by(self, message: Mapping[str, Any]) -> bool:
        """Whether a message of the agent's own is this one, by conversation and text.

        A conversation has one send in flight; beside it only notices go out, whose text is another.
        """
        if self.platform_id is not None or message.get("conversationId") != self.conversation_id:
            return False
        return msgspec.json.decode(self.body, type=_Content).content == message.get("content")


class Sends:
    """Sends messages over one socket and ties each outcome to its send.

    An ack belongs to its send beyond doubt. A server that never acks reports the outcome in ``message:sent`` or
    ``message:error`` only. There the message's id ties the outcome to a send:

    - v1 keeps the id that we chose;
    - v2 gives an id of its own, which the echo of the message had a moment before.

    An outcome whose id fits no send may be that of a notice, for which nobody waits. So such an outcome settles the
    only send in flight in two cases alone: the outcome has no id at all, or the server is known never to ack.

    Nothing is made for a send but its entry here: all of a connection's share one timer.

    Args:
        agent_id: the agent's id, which marks its own messages.
        ackless_grace_seconds: how long an ack may come after the event that says the same.
    """

    def __init__(self, agent_id: str, ackless_grace_seconds: float = ACKLESS_GRACE_SECONDS) -> None:
        self._agent_id = agent_id
        self._grace = ackless_grace_seconds
        self._loop = asyncio.get_running_loop()
        self._socket: Socket | None = None
        self._in_flight: dict[str, _Send] = {}
        # Where there are no acks: those whose turn it is not yet.
        self._waiting: list[_Send] = []
        self._unacked = 0
        # Goes off when the first is due that may be late.
        self._timer: asyncio.TimerHandle | None = None
        # While somebody waits for it.
        self._idle: asyncio.Event | None = None

    def bind(self, socket: Socket) -> None:
        """Send over a socket; called once."""
        self._socket = socket
        socket.closed.add_done_callback(self._lost)

    def send(self, message_id: str, conversation_id: str, body: bytes, timeout: float, on_outcome: OnOutcome) -> None:
        """Send one message now, or in its turn where there are no acks.

        Args:
            on_outcome: told once, after this call: what the platform said, with the id :data:`DROPPED` where the
                message may have been dropped; or a ConnectionLostError or AckTimeoutError where nobody knows, or a
                SendRefusedError where it is too large to be sent.
        """
        send = _Send(message_id, conversation_id, body, timeout, on_outcome)
        # Without acks nothing may tie an outcome to a send, so there may be only one in flight.
        if self._in_flight and self._ackless:
            self._waiting.append(send)
        else:
            self._begin(send)

    @property
    def _ackless(self) -> bool:
        return self._unacked >= ACKLESS_SENDS

    def _begin(self, send: _Send) -> None:
        earlier = self._in_flight.get(send.message_id)
        if earlier is not None:
            self._fail(earlier, AckTimeoutError("the message was sent again before it was acknowledged"))
        try:
            if self._socket is None:
                raise ConnectionLostError("not connected")
            send.ack_id = self._socket.request("message:send", send.body, partial(self._answered, send))
        except PlatformError as error:
            self._loop.call_soon(send.on_outcome, None, error)
        else:
            self._in_flight[send.message_id] = send
            self._wait(send, send.timeout)

    def _answered(self, send: _Send, answer: object, error: PlatformError | None) -> None:
        """An ack came, or cannot come any more."""
        if error is None:
            said = parse_ack(answer)
            if said is not None:
                self._unacked = 0
                dropped = said.success and send.dropped
                self._end(send, SendOutcome(success=True, message_id=DROPPED) if dropped else said)
                return
            # An ack that says nothing is no refusal: the event that says it may be behind it.
            send.wordless = True
            if send.reported is None:
                self._wait(send, self._grace)
                return
            error = _late(send)
        self._fail(send, error)

    def _fail(self, send: _Send, error: PlatformError) -> None:
        """The ack does not say what became of a send; the event may have."""
        if self._in_flight.get(send.message_id) is not send:
            return
        if send.reported is not None:
            self._unacked += 1
            self._end(send, send.reported)
            return
        if isinstance(error, AckTimeoutError):
            # An outcome came that may be this send's: three times in a row, and it is this server's way.
            self._unacked += send.doubtful
        self._end(send, None, error)

    def _end(self, send: _Send, outcome: SendOutcome | None, error: PlatformError | None = None) -> None:
        if self._in_flight.get(send.message_id) is not send:
            return
        del self._in_flight[send.message_id]
        if self._socket is not None:
            self._socket.forget(send.ack_id)
        while self._waiting and not (self._ackless and self._in_flight):
            self._begin(self._waiting.pop(0))
        if self._idle is not None and not self._in_flight:
            self._idle.set()
        send.on_outcome(outcome, error)

    def _wait(self, send: _Send, seconds: float) -> None:
        """Wait for the outcome of a send for so long and no longer."""
        send.due = due = self._loop.time() + seconds
        if self._timer is None or due < self._timer.when():
            self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._time_is_up, due)

    def _time_is_up(self, due: float) -> None:
        """Some are late, or the one that was due first has come."""
        self._timer = None
        for send in self._in_flight.values():
            if send.due <= due:
                # Each by itself: a caller that fails is not to keep it from the others.
                self._loop.call_soon(self._fail, send, _late(send))
        if left := [send.due for send in self._in_flight.values() if send.due > due]:
            self._set_timer(min(left))

    def _lost(self, _closed: asyncio.Future[str]) -> None:
        """The socket is no more: what waits for an ack is told by it, and no event comes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for send in self._in_flight.values():
            if send.wordless:
                self._loop.call_soon(self._fail, send, _late(send))

    async def idle(self, timeout: float) -> None:
        """Wait until no send is in flight, for ``timeout`` seconds at most."""
        if not self._in_flight:
            return
        if self._idle is None or self._idle.is_set():
            self._idle = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    def match_echo(self, payload: object) -> None:
        """Look at a ``message:new``: the echo of a send shows the id that the platform gave it."""
        if not self._in_flight or not isinstance(payload, dict):
            return
        message_id = payload.get("_id")
        if payload.get("participantId") != self._agent_id or not isinstance(message_id, str):
            return
        if message_id not in self._in_flight:
            for send in self._in_flight.values():
                if send.is_echoed_by(payload):
                    send.platform_id = message_id
                    return

    def match_outcome(self, payload: object) -> None:
        """Look at a ``message:sent`` or ``message:error``: settle the send that it belongs to."""
        try:
            outcome = parse_event(SendOutcome, payload)
        except InvalidEventError:
            return
        if outcome.message_id == DROPPED:
            # It names no message: each one in flight may be meant, and is made sure of.
            for one in self._in_flight.values():
                one.dropped = True
            return
        send = self._send_of(outcome)
        if send is None or send.reported is not None:
            return
        send.reported = outcome
        if send.wordless or self._ackless:
            self._fail(send, _late(send))
        else:
            self._wait(send, min(self._grace, send.due - self._loop.time()))

    def _send_of(self, outcome: SendOutcome) -> _Send | None:
        """The send whose outcome this is, where that is certain enough."""
        message_id = outcome.message_id
        if message_id is not None:
            if message_id in self._in_flight:
                return self._in_flight[message_id]
            for send in self._in_flight.values():
                if send.platform_id == message_id:
                    return send
        if len(self._in_flight) != 1:
            return None
        [only] = self._in_flight.values()
        if message_id is None or self._ackless:
            return only
        only.doubtful = True
        return None


def _late(send: _Send) -> AckTimeoutError:
    """Why nobody knows what became of a send whose time is up."""
    if send.wordless:
        return AckTimeoutError("message:send was acknowledged without a word of what became of it")
    return AckTimeoutError(f"message:send was not acknowledged within {send.timeout:g} s")
