"""The sends in flight on one socket, and what the platform says of each (docs/protocol.md#4-sending)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from supervisor.core.errors import AckTimeoutError, ConnectionLostError, SendRefusedError, Verdict
from supervisor.platform.repeats import DROPPED, Repeats
from supervisor.platform.transport import Socket
from supervisor.protocol import InvalidEventError, parse_event
from supervisor.protocol.events import SendOutcome, parse_ack

#: How long after message:sent or message:error the ack may still come before the event itself settles the send.
ACKLESS_GRACE_SECONDS: Final = 1.0
#: After so many sends in a row without an ack the server counts as one that never acks.
ACKLESS_SENDS: Final = 3

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


@dataclass(slots=True, eq=False)
class _Send:
    """One ``message:send`` that waits for its outcome.

    Attributes:
        reported: what ``message:sent`` or ``message:error`` said of it.
        platform_id: the id that its echo had, where the platform gave it another than ours.
        doubtful: an outcome came that may be this send's, and nothing ties the two together.
        dropped: while it was in flight the platform dropped a message as a repetition, perhaps this one.
    """

    conversation_id: str
    body: bytes
    reported: asyncio.Future[SendOutcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
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

    Args:
        agent_id: the agent's id, which marks its own messages.
        repeats: what the agent has sent lately, over whichever connection.
        ackless_grace_seconds: how long an ack may come after the event that says the same.
    """

    def __init__(self, agent_id: str, repeats: Repeats, ackless_grace_seconds: float = ACKLESS_GRACE_SECONDS) -> None:
        self._agent_id = agent_id
        self._repeats = repeats
        #: Whether the platform drops what repeats another message.
        self.drops_equal = False
        self._grace = ackless_grace_seconds
        self._in_flight: dict[str, _Send] = {}
        self._unacked = 0
        self._alone = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    async def send(
        self, socket: Socket, message_id: str, conversation_id: str, body: bytes, timeout: float
    ) -> SendOutcome:
        """Send one message; what became of it, with the id :data:`DROPPED` where it may have been dropped.

        Raises:
            ConnectionLostError, AckTimeoutError: nobody knows.
            SendRefusedError: it is too large to be sent.
        """
        if self.drops_equal:
            self._repeats.sent(body, asyncio.get_running_loop().time())
        if not self._ackless:
            return await self._send(socket, message_id, _Send(conversation_id, body), timeout)
        # Without acks nothing may tie an outcome to a send, so there may be only one in flight.
        async with self._alone:
            return await self._send(socket, message_id, _Send(conversation_id, body), timeout)

    async def wait_for_equal(self, body: bytes) -> None:
        """Wait while the platform would drop a message as a repetition, and acknowledge it as if it had not."""
        if (wait := self._repeats.wait_seconds(body, asyncio.get_running_loop().time())) > 0:
            await asyncio.sleep(wait)

    @property
    def _ackless(self) -> bool:
        return self._unacked >= ACKLESS_SENDS

    async def _send(self, socket: Socket, message_id: str, send: _Send, timeout: float) -> SendOutcome:
        self._in_flight[message_id] = send
        self._idle.clear()
        try:
            return await self._outcome(socket, send, timeout)
        except AckTimeoutError:
            # An outcome came that may be this send's: three times in a row, and it is this server's way.
            self._unacked += send.doubtful
            raise
        finally:
            self._in_flight.pop(message_id, None)
            if not self._in_flight:
                self._idle.set()

    async def _outcome(self, socket: Socket, send: _Send, timeout: float) -> SendOutcome:
        """What the ack says of a send; where there is none, or it says nothing, what the events said."""
        grace = 0.0 if self._ackless else self._grace
        failed: AckTimeoutError | ConnectionLostError
        try:
            ack = await socket.call("message:send", send.body, timeout, said=send.reported, grace_seconds=grace)
        except (AckTimeoutError, ConnectionLostError) as error:
            failed = error
        else:
            if (said := parse_ack(ack)) is not None:
                self._unacked = 0
                return SendOutcome(success=True, message_id=DROPPED) if said.success and send.dropped else said
            # An ack that says nothing is no refusal: the event that says it may be behind it.
            await asyncio.wait([send.reported], timeout=self._grace)
            failed = AckTimeoutError("message:send was acknowledged without a word of what became of it")
        if send.reported.done():
            self._unacked += 1
            return send.reported.result()
        raise failed

    async def idle(self, timeout: float) -> None:
        """Wait until no send is in flight, for ``timeout`` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    def match_echo(self, payload: object) -> None:
        """Look at a ``message:new``: the echo of a send shows the id that the platform gave it."""
        if not self._in_flight or not isinstance(payload, Mapping):
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
        if send is not None and not send.reported.done():
            send.reported.set_result(outcome)

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
