"""Socket.IO as the platform speaks it: connections, packets, events.

The packets are python-socketio's, the rest of its server is not used: the platform acks a CONNECT before it looks at
the token, says ``Invalid namespace``, never answers on the root namespace and never acks an unknown event.
"""

import urllib.parse
from itertools import chain
from typing import Any

from socketio import packet

from supervisor.sandbox.gateways.base import MISSING
from supervisor.sandbox.gateways.endpoints import Endpoints
from supervisor.sandbox.sockets.admission import Admission
from supervisor.sandbox.sockets.calls import Calls
from supervisor.sandbox.sockets.engine import EngineServer, EngineSocket
from supervisor.sandbox.sockets.packets import Connection, MalformedError, decode_packet
from supervisor.sandbox.sockets.session import SocketSession
from supervisor.sandbox.world.faults import Hang
from supervisor.sandbox.world.shared import Shared


class SocketServer:
    """All sockets of the sandbox."""

    def __init__(self, shared: Shared, endpoints: Endpoints) -> None:
        self._state = shared.state
        self._faults = shared.faults
        self._rooms = shared.rooms
        self._timers = shared.timers
        self._endpoints = endpoints
        self._connections: dict[str, Connection] = {}
        self._calls = Calls(shared)
        self._admission = Admission(shared, endpoints, end=self._end)
        self.engine = EngineServer(
            on_open=self._opened,
            on_message=self._message,
            on_close=self._closed,
            ping_interval=shared.config.ping_interval_seconds,
            ping_timeout=shared.config.ping_timeout_seconds,
            max_http_buffer_size=shared.config.max_payload_bytes,
        )

    def sockets_of(self, agent_id: str) -> list[SocketSession]:
        """The registered sockets of an agent."""
        return [session for session in self._chosen([agent_id]) if session.registered]

    def kick(self, agent_ids: list[str] | None = None) -> int:
        """Disconnect sockets without a reason; returns how many."""
        sessions = self._chosen(agent_ids)
        for session in sessions:
            self._end(session)
        return len(sessions)

    def cut(self, agent_ids: list[str] | None = None) -> int:
        """Reset the TCP connections of agents, or of everyone who is connected."""
        if agent_ids is None:
            engines = [connection.engine for connection in self._connections.values()]
        else:
            engines = [session.engine for session in self._chosen(agent_ids)]
        for engine in engines:
            engine.terminate("transport error", abort=True)
        return len(engines)

    def shut_down(self) -> None:
        """Reset every connection and forget what was due."""
        self.cut()
        self._timers.forget()
        self._calls.forget()

    def _chosen(self, agent_ids: list[str] | None) -> list[SocketSession]:
        sessions = self._rooms if agent_ids is None else chain.from_iterable(map(self._rooms.of_owner, agent_ids))
        return [session for session in sessions if isinstance(session, SocketSession)]

    def _end(self, session: SocketSession) -> None:
        """Disconnect a session without a reason; a no-op when it is gone."""
        if session in self._rooms:
            session.disconnect()
            self._forget(session)

    def _forget(self, session: SocketSession) -> None:
        connection = self._connections.get(session.engine.sid)
        if connection is not None and connection.sessions.get(session.namespace) is session:
            del connection.sessions[session.namespace]
        session.gateway.depart(session)

    def _opened(self, engine: EngineSocket, environ: dict[str, Any]) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in environ["asgi.scope"]["headers"]
        }
        path = environ["asgi.scope"]["path"].removesuffix("/")
        connection = Connection(engine, path, headers, urllib.parse.parse_qs(environ.get("QUERY_STRING", "")))
        self._connections[engine.sid] = connection
        engine.hung = lambda: self._faults.get(Hang, connection.agent_id) is not None
        self._state.log.add("open", None, sid=engine.sid, cookie=headers.get("cookie"))

    def _closed(self, engine_sid: str, reason: str) -> None:
        connection = self._connections.pop(engine_sid, None)
        if connection is not None:
            for session in list(connection.sessions.values()):
                session.gateway.depart(session)
            self._state.log.add("close", connection.agent_id, sid=engine_sid, reason=reason)

    def _message(self, engine_sid: str, data: Any) -> None:
        connection = self._connections.get(engine_sid)
        if connection is None:
            return
        try:
            pkt = decode_packet(connection, data)
            if pkt is not None:
                self._packet(connection, pkt)
        except (MalformedError, RecursionError):
            connection.engine.terminate("parse error")

    def _packet(self, connection: Connection, pkt: Any) -> None:
        namespace = pkt.namespace or "/"
        session = connection.sessions.get(namespace)
        if pkt.packet_type == packet.CONNECT:
            self._admission.connect(connection, namespace, pkt.data)
        elif pkt.packet_type == packet.DISCONNECT and session is not None:
            self._forget(session)
        elif pkt.packet_type in (packet.EVENT, packet.BINARY_EVENT) and session is not None:
            self._event(session, pkt)

    def _event(self, session: SocketSession, pkt: Any) -> None:
        event = str(pkt.data[0])
        payload = pkt.data[1] if len(pkt.data) > 1 else MISSING
        if not session.gateway.handles(event):
            self._state.log.add("unknown_event", session.agent_id, event=event)
            return
        call = self._calls.begin(session, event, pkt.id)
        if event == "message:send":
            self._calls.send(call, payload)
        else:
            self._calls.handle(call, payload)
