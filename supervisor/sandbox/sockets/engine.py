"""Engine.IO as the platform speaks it, over python-engineio's server, with a synchronous WebSocket path.

python-engineio starts two tasks for each frame and one writer for each socket. A sandbox with 1,000 agents has
1,000,000 presence frames to write, so WebSocket frames are written and read here without tasks:
uvicorn's protocol hands each inbound frame straight to the socket, and outbound frames are gathered and written
once per loop turn. Long polling and the upgrade from it stay with the library.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import engineio
from engineio import async_socket, exceptions, packet
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from supervisor.sandbox.world.sessions import encode_text_frame

#: Where the protocol is found in the ASGI scope of its WebSocket.
WIRE = "sandbox.wire"

#: How long broadcast frames may wait to be written together with others.
_BROADCAST_TICK_SECONDS = 0.02


class WireProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol with a gathered, ordered, synchronous way out and in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outbox: list[bytes] = []
        self._flush_due: asyncio.Handle | None = None
        self._sink: Callable[[str | bytes], None] | None = None
        #: Whether packets vanished here; such a socket is reset when the hang is over.
        self.tainted = False
        #: Whether packets to and from this socket vanish; set by the socket's owner, asked for every chunk.
        self.hung: Callable[[], bool] = bool

    def handle_connect(self, event: Request) -> None:
        """As uvicorn does, and put the protocol where the application finds it."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast("dict[str, Any]", self.scope["extensions"])[WIRE] = self

    def attach(self, sink: Callable[[str | bytes], None]) -> None:
        """Hand every inbound frame to ``sink`` from now on, those that wait already included."""
        self._sink = sink
        for _ in range(self.queue.qsize()):
            event = self.queue.get_nowait()
            if event["type"] == "websocket.receive":
                sink(event.get("text") or event.get("bytes") or "")
            else:
                self.queue.put_nowait(event)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def write(self, frame: bytes) -> None:
        """Write a complete frame at the end of this loop turn, after those written before it."""
        self._outbox.append(frame)
        if self._flush_due is None:
            self._flush_due = self.loop.call_soon(self.flush)

    def write_lazily(self, frame: bytes) -> None:
        """Write a complete frame soon, or with the next that is written."""
        self._outbox.append(frame)
        if self._flush_due is None and len(self._outbox) == 1:
            self.loop.call_later(_BROADCAST_TICK_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was gathered; a no-op once the socket is going down."""
        self._flush_due = None
        frames, self._outbox = self._outbox, []
        if not frames or self.close_sent or self.transport.is_closing():
            return
        if self.hung():
            self.tainted = True
        else:
            self.transport.write(b"".join(frames))

    def close(self, code: int = 1000) -> None:
        """Close the WebSocket; what was written before goes out first."""
        self.flush()
        if self.hung():
            self.tainted = True
        if self.close_sent or self.transport.is_closing() or self.tainted or self.conn.state is not State.OPEN:
            return
        self.conn.send_close(code)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def abort(self) -> None:
        """Reset the TCP connection: nothing that was gathered is written."""
        self._outbox = []
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """As uvicorn does, unless the socket hangs: then the bytes vanish."""
        if self.hung():
            self.tainted = True
        elif self.tainted:
            self.abort()
        else:
            super().data_received(data)

    async def send(self, message: Any) -> None:
        """ASGI's way out; used for the handshake and by the upgrade from polling."""
        self.flush()
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # Refused in full: uvicorn would call the handshake unfinished until the peer has closed.
            self.handshake_complete = True

    def send_receive_event_to_app(self) -> None:
        """Hand a complete message to the sink, or queue it for ASGI while there is none."""
        if self._sink is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self._sink(bytes(data))
            return
        try:
            text = bytes(data).decode()
        except UnicodeDecodeError:
            self.close(1007)
            return
        self._sink(text)


class EngineSocket(async_socket.AsyncSocket):
    """One Engine.IO session, over either transport."""

    def __init__(self, server: "EngineServer", sid: str) -> None:
        super().__init__(server, sid)
        self.wire: WireProtocol | None = None
        self.last_ping: float | None = None
        self.connected: bool = False
        self.closed: bool = False
        self._writing = False
        self._loop = asyncio.get_running_loop()
        self._heartbeat: asyncio.TimerHandle | None = None
        #: Whether packets to and from this session vanish; replaced by the gateway.
        self.hung: Callable[[], bool] = bool

    def post(self, text: str) -> None:
        """Send an Engine.IO packet in its text form, in order, without waiting."""
        if self.closed:
            return
        if self._writing and self.wire is not None:
            self.wire.write(encode_text_frame(text))
        elif not self.hung():
            self.queue.put_nowait(packet.Packet(int(text[0]), data=text[1:]))

    def post_binary(self, data: bytes) -> None:
        """Send a binary attachment or any bytes, in order, without waiting."""
        if self.closed:
            return
        if self._writing and self.wire is not None:
            self.wire.write(Frame(Opcode.BINARY, data).serialize(mask=False, extensions=[]))
        elif not self.hung():
            self.queue.put_nowait(packet.Packet(packet.MESSAGE, data=data))

    def post_broadcast(self, text: str, frame: bytes, *, lazily: bool) -> None:
        """Send ``text``, already encoded as ``frame`` for WebSockets."""
        if self.closed:
            return
        if not (self._writing and self.wire is not None):
            self.post(text)
        elif lazily:
            self.wire.write_lazily(frame)
        else:
            self.wire.write(frame)

    async def send(self, pkt: Any) -> None:
        """The library's way out (OPEN, NOOP, CLOSE)."""
        encoded = pkt.encode()
        if isinstance(encoded, str):
            self.post(encoded)
        else:
            self.post_binary(encoded)

    def schedule_ping(self) -> None:
        """Send the next PING after the interval; a PONG that is late closes the session."""
        self._stop_heartbeat()
        self.last_ping = None
        self._heartbeat = self._loop.call_later(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        if self.closing or self.closed:
            return
        self.last_ping = time.time()
        self.post("2")
        self._heartbeat = self._loop.call_later(self.server.ping_timeout, self.terminate, "ping timeout")

    def _stop_heartbeat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None

    async def check_ping_timeout(self) -> bool:
        """The timer above does this; the library's own check is not needed."""
        return not self.closed

    def terminate(self, reason: str, *, abort: bool = False) -> None:
        """End the session from the server's side, at once; ``abort`` resets the TCP connection."""
        self._stop_heartbeat()
        if not self.closed:
            self.closing = True
            self.server.session_closed(self.sid, reason)
            self.closed = True
            self.queue.put_nowait(None)
        if self.wire is not None:
            if abort:
                self.wire.abort()
            else:
                self.wire.close()

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """The library's way to end it, ``wait`` and ``abort`` being its concern with queues that are not used here."""
        del wait, abort
        self.terminate(reason or "server disconnect")

    async def _upgrade_websocket(self, environ: dict[str, Any]) -> Any:
        self.wire = environ["asgi.scope"]["extensions"][WIRE]
        self.wire.hung = self._hung_now
        return await super()._upgrade_websocket(environ)

    def _hung_now(self) -> bool:
        return self.hung()

    async def _websocket_handler(self, ws: Any) -> None:
        """Serve the WebSocket until it closes; a polling session is upgraded first."""
        if self.wire is None:
            raise RuntimeError("the sandbox's Engine.IO needs the sandbox's WebSocket protocol")
        if self.connected:
            if not await self._upgrade(ws):
                return
        else:
            self.connected = self.upgraded = True
        self._start_writing()
        self.wire.attach(self._frame_received)
        try:
            while True:
                # With the sink attached only the disconnect still comes this way, and it raises.
                await ws.wait()
        except OSError:
            pass
        finally:
            self.terminate("transport close")

    def _start_writing(self) -> None:
        self._writing = True
        while not self.queue.empty():
            waiting = self.queue.get_nowait()
            if waiting is not None:
                encoded = waiting.encode()
                self.post(encoded) if isinstance(encoded, str) else self.post_binary(encoded)

    async def _upgrade(self, ws: Any) -> bool:
        """Move a polling session to its WebSocket: probe, NOOP to end the open poll, UPGRADE."""
        self.upgrading = True
        try:
            if await ws.wait() != "2probe":
                return False
            await ws.send("3probe")
            self.queue.put_nowait(packet.Packet(packet.NOOP))
            self.upgraded = await ws.wait() == "5"
        except OSError:
            return False
        finally:
            self.upgrading = False
        return self.upgraded

    def _frame_received(self, data: str | bytes) -> None:
        if self.closed or self.hung():
            return
        try:
            self.packet_received(packet.Packet(encoded_packet=data))
        except (ValueError, exceptions.EngineIOError):
            self.terminate("parse error")

    def packet_received(self, pkt: Any) -> None:
        """Act on one packet from the client."""
        if pkt.packet_type == packet.MESSAGE:
            self.server.message_received(self.sid, pkt.data)
        elif pkt.packet_type == packet.PONG:
            self.schedule_ping()
        elif pkt.packet_type == packet.CLOSE:
            self.terminate("client disconnect")
        else:
            raise exceptions.UnknownPacketError

    async def receive(self, pkt: Any) -> None:
        """The library's way in, for polling."""
        if not self.hung():
            self.packet_received(pkt)


class EngineServer(engineio.AsyncServer):
    """python-engineio's server with the sockets above and the platform's OPEN packet."""

    def __init__(
        self,
        *,
        on_open: Callable[[EngineSocket, dict[str, Any]], None],
        on_message: Callable[[str, Any], None],
        on_close: Callable[[str, str], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(
            async_mode="asgi", cors_allowed_origins="*", cookie=None, monitor_clients=False, logger=False, **kwargs
        )
        self._on_open = on_open
        self._on_message = on_message
        self._on_close = on_close

    def message_received(self, sid: str, data: Any) -> None:
        """Pass a message on to the gateway."""
        self._on_message(sid, data)

    def session_closed(self, sid: str, reason: str) -> None:
        """Forget a session and tell the gateway."""
        self.sockets.pop(sid, None)
        self._on_close(sid, reason)

    async def _handle_connect(self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None) -> Any:
        # The library rounds pingInterval to whole seconds and makes sockets of its own class; hence this override.
        sid = self.generate_id()
        socket = EngineSocket(self, sid)
        self.sockets[sid] = socket
        self._on_open(socket, environ)
        await socket.send(
            packet.Packet(
                packet.OPEN,
                {
                    "sid": sid,
                    "upgrades": self._upgrades(sid, transport),
                    "pingInterval": round(self.ping_interval * 1000),
                    "pingTimeout": round(self.ping_timeout * 1000),
                    "maxPayload": self.max_http_buffer_size,
                },
            )
        )
        socket.schedule_ping()
        if transport == "websocket":
            return await socket.handle_get_request(environ)
        socket.connected = True
        try:
            return self._ok(await socket.poll(), jsonp_index=jsonp_index)
        except exceptions.QueueEmpty:
            return self._bad_request()
