"""The sends in flight on one socket, and what the platform says of them (PROTOCOL §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from supervisor.core.errors import AckTimeoutError
from supervisor.platform.transport import Socket
from supervisor.protocol import InvalidEventError, SendOutcome, parse_event

#: How long after message:sent or message:error the ack may still come before the event itself settles the send.
ACKLESS_GRACE_SECONDS = 1.0
#: After so many sends in a row without an ack the server counts as one that never acks.
ACKLESS_SENDS = 3


class _Content(msgspec.Struct):
    content: str = ""


@dataclass(slots=True, eq=False)
class _Send:
    """One ``message:send`` that waits for its outcome.

    Attributes:
        told: what ``message:sent`` or ``message:error`` said.
        known_as: the id that its echo had, where the platform gave it another than ours.
        doubtful: an outcome came that may be this send's, and nothing ties it to it.
    """

    conversation_id: str
    body: bytes
    told: asyncio.Future[SendOutcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    known_as: str | None = None
    doubtful: bool = False

    def is_echoed_by(self, message: Mapping[str, Any]) -> bool:
        """Whether a message of our own is this one: there is one send of a conversation in flight, and notices."""
        if self.known_as is not None or message.get("conversationId") != self.conversation_id:
            return False
        return msgspec.json.decode(self.body, type=_Content).content == message.get("content")


class Sends:
    """Sends messages over one socket and ties outcomes to them.

    The ack says it best. A server that never acks still tells ``message:sent`` with an id: ours on v1; on v2 the one
    that our echo had a moment before. An outcome that neither id ties to a send may be that of a notice which nobody
    waits for, so it settles the only send in flight just where it carries no id at all, or no acks ever come.
    """

    def __init__(self, agent_id: str) -> None:
        self._agent_id = agent_id
        self._in_flight: dict[str, _Send] = {}
        self._unacked = 0
        self._alone = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    async def send(
        self, socket: Socket, message_id: str, conversation_id: str, body: bytes, timeout: float
    ) -> SendOutcome:
        """Send one message; what became of it.

        Raises:
            ConnectionLostError, AckTimeoutError: nobody knows.
            SendRefusedError: it is too large to be sent.
        """
        if not self._ackless:
            return await self._send(socket, message_id, _Send(conversation_id, body), timeout)
        # Without acks nothing may tie an outcome to a send, so there may be only one in flight.
        async with self._alone:
            return await self._send(socket, message_id, _Send(conversation_id, body), timeout)

    @property
    def _ackless(self) -> bool:
        return self._unacked >= ACKLESS_SENDS

    async def _send(self, socket: Socket, message_id: str, send: _Send, timeout: float) -> SendOutcome:
        self._in_flight[message_id] = send
        self._idle.clear()
        ack = asyncio.ensure_future(socket.call("message:send", send.body, timeout))
        either: list[asyncio.Future[Any]] = [ack, send.told]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not ack.done() and not self._ackless:
                await asyncio.wait([ack], timeout=ACKLESS_GRACE_SECONDS)
            if send.told.done() and (not ack.done() or ack.exception()):
                self._unacked += 1
                return send.told.result()
            answer = ack.result()
            self._unacked = 0
            return _outcome(answer)
        except AckTimeoutError:
            # Something was said of a send all the same: three times in a row, and it is this server's way.
            self._unacked += send.doubtful
            raise
        finally:
            self._in_flight.pop(message_id, None)
            if not self._in_flight:
                self._idle.set()
            ack.cancel()
            await asyncio.gather(ack, return_exceptions=True)

    async def idle(self, timeout: float) -> None:
        """Wait until no send is in flight, for ``timeout`` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    def note_message(self, payload: object) -> None:
        """A ``message:new``: the echo of a send tells the id that the platform gave it."""
        if not self._in_flight or not isinstance(payload, Mapping):
            return
        known_as = payload.get("_id")
        if payload.get("participantId") != self._agent_id or not isinstance(known_as, str):
            return
        if known_as not in self._in_flight:
            for send in self._in_flight.values():
                if send.is_echoed_by(payload):
                    send.known_as = known_as
                    return

    def note_outcome(self, payload: object) -> None:
        """A ``message:sent`` or ``message:error``."""
        try:
            outcome = parse_event(SendOutcome, payload)
        except InvalidEventError:
            return
        send = self._send_of(outcome)
        if send is not None and not send.told.done():
            send.told.set_result(outcome)

    def _send_of(self, outcome: SendOutcome) -> _Send | None:
        """The send whose outcome this is, where that is certain enough."""
        known_as = outcome.message_id
        if known_as is not None:
            if known_as in self._in_flight:
                return self._in_flight[known_as]
            for send in self._in_flight.values():
                if send.known_as == known_as:
                    return send
        if len(self._in_flight) != 1:
            return None
        [only] = self._in_flight.values()
        if known_as is None or self._ackless:
            return only
        only.doubtful = True
        return None


def _outcome(answer: object) -> SendOutcome:
    """What an ack says."""
    if not isinstance(answer, Mapping):
        return SendOutcome(success=False, error=f"the acknowledgement is a {type(answer).__name__}, not an object")
    if answer.get("success") is True:
        message = answer.get("message")
        message_id = message.get("_id") if isinstance(message, Mapping) else None
        return SendOutcome(success=True, message_id=message_id if isinstance(message_id, str) else None)
    error = answer.get("error")
    return SendOutcome(success=False, error=error if isinstance(error, str) else "no reason given")
