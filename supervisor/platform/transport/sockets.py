"""One open connection: calls with their acks, events in order, and its end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
import socketio

from supervisor.core.clock import Clock
from supervisor.core.errors import AckTimeoutError, ConnectError, ConnectionLostError, SendRefusedError, Verdict
from supervisor.platform.transport import failures, frames, wire

#: The event under which malformed frames are reported to ``on_event``, with a short word as payload.
MALFORMED: Final = "__malformed__"
#: Typing signals and read receipts are dropped while this much waits for the network.
_EMIT_BUFFER_BYTES: Final = 256 * 1024
_CLOSE_SECONDS: Final = 4.0

_log = logging.getLogger("supervisor.transport")
# Belongs to no hierarchy, so no configuration can make it speak: at INFO engineio prints CONNECT with its token.
_SILENT = logging.Logger("supervisor.transport.silent")
_SILENT.disabled = True

_LOST: Final = object()
_UNREADABLE: Final = object()


class Socket:
    """An agent's connection to the platform. Made by :meth:`Transport.open`.

    Attributes:
        closed: ends with a short reason when the connection is no more, whoever ended it.
        sid: the socket's id in its namespace.
        max_payload: the largest frame in bytes that the server takes.
        opened_at: when the namespace was joined, in seconds of :func:`time.monotonic`.
        foreign_presences: how many presence events of others were dropped unread (PROTOCOL §3.6).
        keeps_presences: whether those are delivered all the same, because somebody wants them.
        dropped_emits: how many events were not sent because too much waited for the network.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        host: str,
        namespace: str,
        proxy: str | None,
        clock: Clock,
        agent_id: str,
        on_event: Callable[[str, object], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._host = host
        self._agent_id = agent_id
        self._on_event = on_event
        self._frames = frames.Namespace(namespace)
        self._wire = wire.Wire(
            session, host, proxy, clock, on_text=self._text, on_malformed=self._malformed, on_lost=self._lost
        )
        self._client = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            logger=_SILENT,
            engineio_logger=_SILENT,
            http_session=self._wire,
            timestamp_requests=False,
        )
        self._ack_ids = itertools.count(1)
        self._acks: dict[int, asyncio.Future[object]] = {}
        self._joined: asyncio.Future[None] = self._loop.create_future()
        self._refusal: str | None = None
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.sid = ""
        self.max_payload = frames.DEFAULT_MAX_PAYLOAD
        self.opened_at = 0.0
        self.foreign_presences = 0
        self.keeps_presences = False
        self.dropped_emits = 0

    def __repr__(self) -> str:
        return f"Socket({self._host}, {self._frames.name}, agent {self._agent_id}, connected={self.connected})"

    @property
    def connected(self) -> bool:
        """Whether the namespace is joined and the connection is not known to be gone."""
        return self.opened_at > 0.0 and not self.closed.done()

    # ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def join(self, url: str, engine_path: str, headers: dict[str, str], token: str, *, in_auth: bool) -> None:
        """Connect and wait for the ack of the namespace's CONNECT. Called once, by :class:`Transport`.

        Raises:
            ConnectError: the connection was not made, or was refused.
            socketio.exceptions.ConnectionError: the same, with nothing more to say about it.
        """
        await self._client.connect(
            url,
            headers=headers,
            auth={"token": token} if in_auth else None,
            transports=["websocket"],
            namespaces=[self._frames.name],
            socketio_path=engine_path,
            # Its own wait ignores a connection that is lost meanwhile.
            wait=False,
        )
        await self._joined
        if self._refusal is not None:
            raise failures.refused(self._refusal, self._frames.name, token)
        if self.closed.done():
            raise self._ended_early(self.closed.result())
        if self._wire.opened is not None:
            self.max_payload = self._wire.opened.max_payload
        self.opened_at = time.monotonic()

    def _ended_early(self, reason: str) -> ConnectError:
        if reason == "server disconnect":
            return ConnectError(
                f"{self._host} disconnected the agent right after it connected (a bad token, or an ill platform)",
                Verdict.REAUTHENTICATE,
                kicked=True,
            )
        return ConnectError(f"{self._host} ended the connection before the namespace was joined: {reason}")

    def failure(self, timeout: float | None = None) -> ConnectError:
        """What to say of an attempt that failed: timed out, or with an error that does not speak for itself."""
        if timeout is not None:
            return ConnectError(f"no {self._wire.stage} from {self._host} within {timeout:g} s")
        return self._wire.failure or ConnectError(f"the connection to {self._host} failed")

    # ── receiving; all of this runs inside Wire.receive, one frame after the other ──────────────────────────────────

    def _text(self, text: str) -> bool:
        """Deal with a frame; whether the library is to have it too."""
        known = self._frames
        if text.startswith(known.event):
            if text.startswith(known.presence) and self._agent_id not in text and not self.keeps_presences:
                self.foreign_presences += 1
            else:
                self._receive_event(text)
            return False
        if text.startswith(known.ack):
            self._receive_ack(text)
            return False
        return self._receive_other(text)

    def _receive_event(self, text: str) -> None:
        try:
            event, payload, ack_id = self._frames.read_event(text)
        except frames.MalformedFrameError as error:
            self._malformed(error.reason)
            return
        if event == MALFORMED:
            self._malformed("reserved_event")
            return
        self._deliver(event, payload)
        if ack_id is not None:
            self._wire.write(self._frames.encode_ack(ack_id))

    def _receive_ack(self, text: str) -> None:
        try:
            ack_id, arguments = self._frames.read_ack(text)
        except frames.MalformedFrameError as error:
            self._malformed(error.reason)
            return
        waiting = self._acks.pop(ack_id, None)
        if arguments is None:
            self._malformed("bad_ack")
        if waiting is not None and not waiting.done():
            answer = _UNREADABLE if arguments is None else arguments[0] if arguments else None
            waiting.set_result(answer)

    def _receive_other(self, text: str) -> bool:
        known = self._frames
        if text.startswith("2") and len(text) < 64:
            return True
        if text in known.disconnects:
            self._wire.lose("server disconnect")
        elif known.begins(text, known.connect):
            self._receive_connect(text)
        elif known.begins(text, known.connect_error):
            self._refusal = known.read_refusal(text)
            self._wire.lose("refused")
        elif text == "1":
            self._wire.lose("transport close")
        elif text != "6":
            self._malformed("unknown_packet")
        return False

    def _receive_connect(self, text: str) -> None:
        """The namespace is joined. The library is not told: a frame read with this one, such as a kick, comes first."""
        if self._joined.done():
            self._malformed("second_connect")
            return
        try:
            self.sid = self._frames.read_connect(text)
        except frames.MalformedFrameError as error:
            self._malformed(error.reason)
            return
        self._joined.set_result(None)

    def _malformed(self, reason: str) -> None:
        self._deliver(MALFORMED, reason)

    def _deliver(self, event: str, payload: object) -> None:
        try:
            self._on_event(event, payload)
        except Exception:  # noqa: BLE001 - a defect of ours, which must not cost the connection
            _log.exception("agent %s: the receiver of %s failed", self._agent_id, event)

    def _lost(self, reason: str) -> None:
        self.closed.set_result(reason)
        # Results rather than exceptions: a caller cancelled at this very moment would leave one unretrieved.
        for waiting in self._acks.values():
            if not waiting.done():
                waiting.set_result(_LOST)
        self._acks.clear()
        if not self._joined.done():
            self._joined.set_result(None)

    # ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def call(self, event: str, payload: Mapping[str, Any] | bytes, timeout: float) -> object:
        """Send an event and wait for its ack.

        Args:
            event: the event's name.
            payload: its one argument; bytes are JSON already.
            timeout: seconds to wait for the ack, and before it for room in the socket's buffer.

        Returns:
            The ack's first argument, None where it has none.

        Raises:
            ConnectionLostError: the connection is gone, or went before the ack came.
            AckTimeoutError: the ack did not come in time, or cannot be read.
            SendRefusedError: the frame is larger than the server takes; sent, it would close the socket.
        """
        ack_id = next(self._ack_ids)
        frame = self._frames.encode_event(event, payload, ack_id)
        if len(frame) > self.max_payload:
            raise SendRefusedError(
                f"{event} takes {len(frame):,} bytes; the platform allows {self.max_payload:,}", Verdict.REJECT
            )
        waiting: asyncio.Future[object] = self._loop.create_future()
        self._acks[ack_id] = waiting
        try:
            async with asyncio.timeout(timeout):
                answer = await waiting if await self._wire.send(frame) else _LOST
        except TimeoutError:
            raise AckTimeoutError(f"{event} was not acknowledged within {timeout:g} s") from None
        finally:
            self._acks.pop(ack_id, None)
        if answer is _LOST:
            raise ConnectionLostError(f"the connection was lost before {event} was acknowledged: {self._end()}")
        if answer is _UNREADABLE:
            raise AckTimeoutError(f"the ack of {event} cannot be read")
        return answer

    def _end(self) -> str:
        return self.closed.result() if self.closed.done() else "not connected"

    def emit(self, event: str, payload: Mapping[str, Any] | bytes) -> None:
        """Send an event that nobody waits for, where the connection and its buffer allow it; never waits."""
        frame = self._frames.encode_event(event, payload)
        if len(frame) > self.max_payload or self._wire.buffered_bytes > _EMIT_BUFFER_BYTES:
            self.dropped_emits += 1
            return
        self._wire.write(frame)

    # ── ending ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def close(self) -> None:
        """Leave the namespace and close the connection; returns within 5 s, with neither socket nor task left."""
        if self.connected:
            self._wire.write(self._frames.disconnect.encode())
            self._wire.write(b"1")
        self._wire.lose("closed by us")
        try:
            await self.settle(_CLOSE_SECONDS - 1)
        finally:
            self._wire.abort()
        await self.settle(1)

    def abort(self) -> None:
        """Cut the connection off at once; its tasks end by themselves in the next turns of the event loop."""
        self._wire.abort()

    async def settle(self, timeout: float) -> None:
        """Wait until the library's loops have noticed the end."""
        engine = self._client.eio
        tasks = [task for task in (engine.read_loop_task, engine.write_loop_task) if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
