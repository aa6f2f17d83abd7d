"""One open connection: calls with their acks, events in order, and its end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from supervisor.core.clock import Clock
from supervisor.core.errors import (
    AckTimeoutError,
    ConnectError,
    ConnectionLostError,
    PlatformError,
    SendRefusedError,
    Verdict,
)
from supervisor.platform.transport import failures
from supervisor.platform.transport.handshake import BY_US, SILENT, Handshake, Phase
from supervisor.platform.transport.wires import Dial, Listener, UpgradeError, Wire, frames
from supervisor.platform.transport.wires.face import NOTHING, Noise

#: The event under which malformed frames are reported to ``on_event``, with a short word as payload.
MALFORMED: Final = "__malformed__"
#: Typing signals and read receipts are dropped while this much waits for the network.
_EMIT_BUFFER_BYTES: Final = 256 * 1024
_CLOSE_SECONDS: Final = 4.0

_log = logging.getLogger("supervisor.transport")

#: Told once what came of a request: the ack's first argument that is not null, or why there is none.
OnAnswer = Callable[[object, PlatformError | None], None]


class Socket:
    """An agent's connection to the platform, whatever its wire. Made by :meth:`.opening.Transport.open`.

    Args:
        make_wire: makes the wire below it.
        dial: where to connect.
        agent_id: whose presence events are of interest.
        on_event: called with each event's name and payload, in order; must only enqueue.
        clock: wall time, for a ``Retry-After`` that is a date.

    Attributes:
        closed: ends with a short reason when the connection is no more, whoever ended it.
        sid: the socket's id in its namespace; empty where the server gives none.
        max_payload: the largest frame in bytes that the server takes.
        opened_at: when the namespace was joined, in seconds of :func:`time.monotonic`.
        dropped_emits: how many events were not sent because too much waited for the network.
    """

    def __init__(
        self,
        make_wire: Callable[[Dial, Listener], Wire],
        dial: Dial,
        *,
        agent_id: str,
        on_event: Callable[[str, object], None],
        clock: Clock,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._agent_id = agent_id
        self._on_event = on_event
        self._clock = clock
        self._dial = dial
        self._frames = frames.Namespace(dial.namespace)
        self._handshake = Handshake(self._frames, dial.auth)
        #: The presences of others, while nobody wants them.
        self.noise = Noise(self._frames.presence.encode(), agent_id.encode())
        self._wire = make_wire(dial, self)
        self._ack_ids = itertools.count(1)
        # The events whose ack is waited for, and who is told.
        self._acks: dict[int, tuple[str, OnAnswer]] = {}
        self._joined: asyncio.Future[None] = self._loop.create_future()
        # Whether OPEN was read: only then is a frame an event or an ack.
        self._live = False
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.sid = ""
        self.max_payload = frames.DEFAULT_MAX_PAYLOAD
        self.opened_at = 0.0
        self.dropped_emits = 0

    def __repr__(self) -> str:
        return f"Socket({self._dial.host}, {self._frames.name}, agent {self._agent_id}, connected={self.connected})"

    @property
    def connected(self) -> bool:
        """Whether the namespace is joined and the connection is not known to be gone."""
        return self.opened_at > 0.0 and not self.closed.done()

    async def join(self, token: str, timeout: float) -> ConnectError | None:
        """Connect and wait for the ack of the namespace's CONNECT. Called once, by :class:`.opening.Transport`.

        Args:
            token: the agent's token, which no reason may hold.
            timeout: seconds for all of it.

        Returns:
            Why the connection was not made; None for one that is open.
        """
        host, trouble = self._dial.host, None
        try:
            async with asyncio.timeout(timeout):
                await self._wire.open()
                await self._joined
        except TimeoutError:
            return failures.too_slow(self._handshake, host, timeout)
        except UpgradeError as error:
            trouble = error
        except Exception:  # noqa: BLE001 - a wire's library raises many kinds; the handshake knows what happened
            return self._not_joined(token)
        if trouble is not None:
            return failures.upgrade_failed(trouble, host, proxy=self._dial.proxy, now=self._clock.now())
        if self.closed.done() or self._handshake.opened is None:
            return self._not_joined(token)
        self.max_payload = self._handshake.opened.max_payload
        self.sid = self._handshake.sid
        self.opened_at = time.monotonic()
        return None

    def _not_joined(self, token: str) -> ConnectError:
        return failures.not_joined(self._handshake, self._dial.host, namespace=self._frames.name, token=token)

    def upgraded(self) -> None:
        """The wire has its WebSocket."""
        self._handshake.upgraded()

    def receive(self, text: str) -> bytes | None:
        """Take a text frame of the wire; the frame that answers it, for the wire to write."""
        if self._live:
            known = self._frames
            if text.startswith(known.event):
                noise = self.noise
                if noise.begins is not NOTHING and text.startswith(known.presence) and self._agent_id not in text:
                    noise.dropped += 1
                else:
                    self._receive_event(text)
                return None
            if text.startswith(known.ack):
                self._receive_ack(text)
                return None
        return self._receive_control(text)

    def receive_binary(self) -> None:
        """Take a binary frame of the wire: there are none in this protocol."""
        try:
            self._handshake.receive_binary()
        except frames.MalformedFrameError as error:
            self._deliver(MALFORMED, error.reason)
        self._follow()

    def closed_by_peer(self, code: int | None) -> None:
        """The wire's peer closed the WebSocket."""
        self._end(failures.closed_reason(code))

    def broken(self, code: int | None = None) -> None:
        """The wire's WebSocket is no more."""
        self._end(failures.broken_reason(code))

    def _receive_event(self, text: str) -> None:
        try:
            event, payload, ack_id = self._frames.read_event(text)
        except frames.MalformedFrameError as error:
            self._deliver(MALFORMED, error.reason)
            return
        if event == MALFORMED:
            self._deliver(MALFORMED, "reserved_event")
            return
        self._deliver(event, payload)
        if ack_id is not None:
            self._wire.write(self._frames.encode_ack(ack_id))

    def _receive_ack(self, text: str) -> None:
        try:
            ack_id, arguments = self._frames.read_ack(text)
        except frames.MalformedFrameError as error:
            self._deliver(MALFORMED, error.reason)
            return
        if arguments is None:
            self._deliver(MALFORMED, "bad_ack")
        waiting = self._acks.pop(ack_id, None)
        if waiting is None:
            return
        event, on_answer = waiting
        try:
            if arguments is None:
                on_answer(None, AckTimeoutError(f"the ack of {event} cannot be read"))
            else:
                # The first that says something: servers of Node's habits put an error, or null, before the answer.
                answer = arguments[0] if arguments else None
                if answer is None:
                    answer = next((one for one in arguments if one is not None), None)
                on_answer(answer, None)
        except Exception:  # noqa: BLE001 - a defect of ours, which must not cost the connection
            _log.exception("agent %s: whoever asked %s failed", self._agent_id, event)

    def _receive_control(self, text: str) -> bytes | None:
        try:
            answer = self._handshake.receive(text)
        except frames.MalformedFrameError as error:
            self._deliver(MALFORMED, error.reason)
            return None
        if answer is not None:
            # What is answered proves that the server lives: OPEN and PING.
            self._heard_at = self._loop.time()
        self._follow()
        return answer

    def _follow(self) -> None:
        """Do what the handshake's phase asks for."""
        match self._handshake.phase:
            case Phase.JOINING if not self._live:
                self._live = True
                self.noise.begin()
                self._watch_silence()
            case Phase.JOINED if not self._joined.done():
                # A frame that was read together with this one, such as a kick, counts first.
                self._joined.set_result(None)
            case Phase.ENDED if not self.closed.done():
                self._wind_up()

    def _watch_silence(self) -> None:
        """End the connection once the server has sent no ping for longer than it promised."""
        opened = self._handshake.opened
        if opened is None or self.closed.done():
            return
        left = self._heard_at + opened.silence_seconds - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._watch_silence)
        else:
            self._end(SILENT)

    def _deliver(self, event: str, payload: object) -> None:
        try:
            self._on_event(event, payload)
        except Exception:  # noqa: BLE001 - a defect of ours, which must not cost the connection
            _log.exception("agent %s: the receiver of %s failed", self._agent_id, event)

    def _end(self, reason: str) -> None:
        """The connection is no more; the first reason counts."""
        if self._handshake.lose(reason):
            self._wind_up()

    def _wind_up(self) -> None:
        """Hang up, and tell those who wait."""
        self._wire.hang_up()
        if self._watch is not None:
            self._watch.cancel()
        self.closed.set_result(self._handshake.end)
        asked, self._acks = self._acks, {}
        for event, on_answer in asked.values():
            self._loop.call_soon(on_answer, None, _lost(event, self._handshake.end))
        if not self._joined.done():
            self._joined.set_result(None)

    def request(self, event: str, payload: Mapping[str, Any] | bytes, on_answer: OnAnswer) -> int:
        """Send an event now and have its ack told.

        Args:
            event: the event's name.
            payload: its one argument; bytes are JSON already.
            on_answer: told once, after this call: the ack's first argument that is not null (None where it has none);
                or a ConnectionLostError, or an AckTimeoutError for an ack that cannot be read.

        Returns:
            What :meth:`forget` takes.

        Raises:
            ConnectionLostError: the connection is gone.
            SendRefusedError: the frame is larger than the server takes; sent, it would close the socket.
        """
        ack_id = next(self._ack_ids)
        frame = self._frames.encode_event(event, payload, ack_id)
        if len(frame) > self.max_payload:
            raise SendRefusedError(
                f"{event} takes {len(frame):,} bytes; the platform allows {self.max_payload:,}", Verdict.REJECT
            )
        if not self._wire.write(frame) or self.closed.done():
            raise _lost(event, self._handshake.end)
        self._acks[ack_id] = (event, on_answer)
        return ack_id

    def forget(self, ack_id: int) -> None:
        """Tell nobody of an ack that comes yet, or of its loss."""
        self._acks.pop(ack_id, None)

    async def call(self, event: str, payload: Mapping[str, Any] | bytes, timeout: float) -> object:
        """Send an event and wait for its ack.

        Args:
            timeout: seconds to wait for the ack.
            event, payload: as for :meth:`request`.

        Returns:
            The ack's first argument that is not null, None where it has none.

        Raises:
            ConnectionLostError: the connection is gone, or went before the ack came.
            AckTimeoutError: the ack did not come in time, or cannot be read.
            SendRefusedError: the frame is larger than the server takes; sent, it would close the socket.
        """
        # A result rather than an exception: a caller cancelled at this very moment would leave one unretrieved.
        answered: asyncio.Future[tuple[object, PlatformError | None]] = self._loop.create_future()
        ack_id = self.request(event, payload, partial(_answer, answered))
        try:
            async with asyncio.timeout(timeout):
                answer, error = await answered
        except TimeoutError:
            raise AckTimeoutError(f"{event} was not acknowledged within {timeout:g} s") from None
        finally:
            self.forget(ack_id)
        if error is not None:
            raise error
        return answer

    def emit(self, event: str, payload: Mapping[str, Any] | bytes) -> None:
        """Send an event that nobody waits for, where the connection and its buffer allow it; never waits."""
        frame = self._frames.encode_event(event, payload)
        if len(frame) > self.max_payload or self._wire.buffered_bytes > _EMIT_BUFFER_BYTES:
            self.dropped_emits += 1
            return
        self._wire.write(frame)

    async def close(self) -> None:
        """Leave the namespace and close the connection; returns within 5 s, with neither socket nor task left."""
        if self.connected:
            for frame in self._handshake.leave():
                self._wire.write(frame)
        self._end(BY_US)
        try:
            await self.settle(_CLOSE_SECONDS - 1)
        finally:
            self._wire.abort()
        await self.settle(1)

    def abort(self) -> None:
        """Cut the connection off at once; what runs for it ends by itself in the next turns of the event loop."""
        self._end(BY_US)
        self._wire.abort()

    async def settle(self, timeout: float) -> None:
        """Wait, for ``timeout`` seconds at most, until nothing runs for it any more."""
        await self._wire.settle(timeout)


def _lost(event: str, reason: str) -> ConnectionLostError:
    return ConnectionLostError(f"the connection was lost before {event} was acknowledged: {reason or 'not connected'}")


def _answer(answered: asyncio.Future[tuple[object, PlatformError | None]], *said: Any) -> None:
    if not answered.done():
        answered.set_result(said)
