"""Socket.IO as the platform speaks it: namespaces, CONNECT, events, acks (PROTOCOL.md §2 to §4).

The packets are python-socketio's, the rest of its server is not used: the platform acks a CONNECT before it looks at
the token, says ``Invalid namespace``, never answers on the root namespace and never acks an unknown event.
"""

import asyncio
import json
import secrets
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from socketio import packet

from supervisor.sandbox.calls import Calls
from supervisor.sandbox.config import SandboxConfig
from supervisor.sandbox.engine import EngineServer, EngineSocket
from supervisor.sandbox.events import MISSING, Chat
from supervisor.sandbox.faults import Connect, Delay, Faults, Hang, KickAtExpiry, NoPresence, SecondSocket
from supervisor.sandbox.sessions import Rooms, SocketSession, encode_json
from supervisor.sandbox.state import PlatformState
from supervisor.sandbox.tokens import Identity, InvalidTokenError, TokenMint


class _StrictJson:
    """JSON without Python's NaN and Infinity, which Node's parser refuses."""

    dumps = staticmethod(json.dumps)

    @staticmethod
    def loads(text: str) -> Any:
        return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _Packet(packet.Packet):
    json = _StrictJson


@dataclass(slots=True, eq=False)
class _Connection:
    """One Engine.IO session and its Socket.IO sessions."""

    engine: EngineSocket
    headers: dict[str, str]
    query: dict[str, list[str]]
    #: The agent that last tried to connect here, whether accepted or not: whom the switches concern.
    agent_id: str | None = None
    joined_root: bool = False
    token_via: str = ""
    token_id: str = ""
    sessions: dict[str, SocketSession] = field(default_factory=dict)
    pending_binary: Any = None


class _MalformedError(Exception):
    """The platform's parser refuses the packet, and closes the socket."""


def _decode_packet(connection: _Connection, data: Any) -> Any:
    if connection.pending_binary is not None:
        pkt = connection.pending_binary
        if not pkt.add_attachment(data):
            return None
        connection.pending_binary = None
        pkt.data = _with_buffers(pkt.data)
        return pkt
    if not isinstance(data, str):
        raise TypeError("binary without an event")
    pkt = _Packet(encoded_packet=data)
    if pkt.packet_type in (packet.EVENT, packet.BINARY_EVENT) and not (
        isinstance(pkt.data, list) and pkt.data and isinstance(pkt.data[0], str | int)
    ):
        raise ValueError("invalid payload")
    if pkt.attachment_count:
        connection.pending_binary = pkt
        return None
    return pkt


def _with_buffers(value: Any) -> Any:
    """Binary attachments as Node's JSON shows them."""
    if isinstance(value, bytes | bytearray):
        return {"type": "Buffer", "data": list(value)}
    if isinstance(value, dict):
        return {key: _with_buffers(item) for key, item in value.items()}
    return [_with_buffers(item) for item in value] if isinstance(value, list) else value


class Gateway:
    """All sockets of the sandbox."""

    def __init__(
        self,
        config: SandboxConfig,
        *,
        state: PlatformState,
        tokens: TokenMint,
        faults: Faults,
        rooms: Rooms,
        chat: Chat,
    ) -> None:
        self._config = config
        self._state = state
        self._tokens = tokens
        self._faults = faults
        self._rooms = rooms
        self._chat = chat
        self._connections: dict[str, _Connection] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._calls = Calls(state=state, faults=faults, chat=chat, later=self._later)
        self.engine = EngineServer(
            on_open=self._opened,
            on_message=self._message,
            on_close=self._closed,
            ping_interval=config.ping_interval_seconds,
            ping_timeout=config.ping_timeout_seconds,
            max_http_buffer_size=config.max_payload_bytes,
        )

    # For the owner of the sandbox

    def sockets_of(self, agent_id: str) -> list[SocketSession]:
        """The registered sockets of an agent."""
        sessions = self._rooms.of_owner(agent_id)
        return [session for session in sessions if isinstance(session, SocketSession) and session.registered]

    def kick(self, agent_ids: list[str] | None = None) -> int:
        """Disconnect sockets without a reason (PROTOCOL.md §3.2); returns how many."""
        sessions = self._chosen(agent_ids)
        for session in sessions:
            self._kick(session)
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
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._calls.forget()

    def _chosen(self, agent_ids: list[str] | None) -> list[SocketSession]:
        owners = None if agent_ids is None else set(agent_ids)
        return [
            session
            for session in self._rooms
            if isinstance(session, SocketSession) and (owners is None or session.identity.id in owners)
        ]

    def _kick(self, session: SocketSession) -> None:
        if session in self._rooms:
            session.disconnect()
            self._forget(session)

    def _forget(self, session: SocketSession) -> None:
        connection = self._connections.get(session.engine.sid)
        if connection is not None and connection.sessions.get(session.namespace) is session:
            del connection.sessions[session.namespace]
        self._chat.depart(session)

    def _later(self, seconds: float, callback: Any, *args: Any) -> None:
        """Call back after ``seconds``; at once when that is nothing."""
        if seconds <= 0:
            callback(*args)
            return

        def due() -> None:
            self._timers.discard(timer)
            callback(*args)

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._timers.add(timer)

    # Engine.IO

    def _opened(self, engine: EngineSocket, environ: dict[str, Any]) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in environ["asgi.scope"]["headers"]
        }
        connection = _Connection(engine, headers, urllib.parse.parse_qs(environ.get("QUERY_STRING", "")))
        self._connections[engine.sid] = connection
        engine.hung = lambda: self._faults.get(Hang, connection.agent_id) is not None
        self._state.log.add("open", None, sid=engine.sid, cookie=headers.get("cookie"))

    def _closed(self, engine_sid: str, reason: str) -> None:
        connection = self._connections.pop(engine_sid, None)
        if connection is not None:
            for session in list(connection.sessions.values()):
                self._chat.depart(session)
            self._state.log.add("close", connection.agent_id, sid=engine_sid, reason=reason)

    def _message(self, engine_sid: str, data: Any) -> None:
        connection = self._connections.get(engine_sid)
        if connection is None:
            return
        try:
            pkt = self._decode(connection, data)
            if pkt is not None:
                self._packet(connection, pkt)
        except (_MalformedError, RecursionError):
            connection.engine.terminate("parse error")

    @staticmethod
    def _decode(connection: _Connection, data: Any) -> Any:
        """The packet that ``data`` completes, or None while attachments are missing."""
        try:
            return _decode_packet(connection, data)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise _MalformedError from error

    def _packet(self, connection: _Connection, pkt: Any) -> None:
        namespace = pkt.namespace or "/"
        session = connection.sessions.get(namespace)
        if pkt.packet_type == packet.CONNECT:
            self._connect(connection, namespace, pkt.data)
        elif pkt.packet_type == packet.DISCONNECT and session is not None:
            self._forget(session)
        elif pkt.packet_type in (packet.EVENT, packet.BINARY_EVENT) and session is not None:
            self._event(session, pkt)

    # CONNECT

    def _connect(self, connection: _Connection, namespace: str, auth: Any) -> None:
        if namespace == "/":
            self._accept_root(connection)
            return
        if namespace not in self._config.declared_namespaces:
            self._state.note_connect(None, namespace, "invalid namespace")
            connection.engine.post(f"44{namespace}," + encode_json({"message": "Invalid namespace"}))
            return
        identity = self._identify(connection, auth)
        connection.agent_id = identity.id if identity is not None and identity.kind == "agent" else None
        fault = self._faults.strike(Connect, connection.agent_id)
        if fault is None and identity is not None:
            fault = self._second_socket(connection, identity)
        outcome = fault.mode if fault else ("accepted" if identity else "refused")
        self._state.note_connect(connection.agent_id, namespace, outcome, connection.token_via, connection.token_id)
        if fault is not None and fault.mode != "kick":
            self._fail_connect(connection, namespace, fault)
            return
        delay = self._faults.get(Delay, connection.agent_id) or Delay()
        self._later(delay.connect_ack_seconds, self._acknowledge, connection, namespace, identity, fault)

    def _second_socket(self, connection: _Connection, identity: Identity) -> Connect | None:
        """What becomes of the CONNECT where an agent may have one socket; ``replace`` ends the older one."""
        older = [session for session in self._chosen([identity.id]) if session.engine is not connection.engine]
        fault = self._faults.strike(SecondSocket, connection.agent_id) if older else None
        if fault is None:
            return None
        if fault.mode == "replace":
            for session in older:
                self._kick(session)
            return None
        return Connect(mode="kick" if fault.mode == "refuse" else "error", message=fault.message)

    @staticmethod
    def _accept_root(connection: _Connection) -> None:
        if not connection.joined_root:
            connection.joined_root = True
            connection.engine.post("40" + encode_json({"sid": _new_sid()}))

    @staticmethod
    def _fail_connect(connection: _Connection, namespace: str, fault: Connect) -> None:
        if fault.mode == "error":
            connection.engine.post(f"44{namespace}," + encode_json({"message": fault.message}))
        elif fault.mode == "reset":
            connection.engine.terminate("transport error", abort=True)

    def _acknowledge(
        self, connection: _Connection, namespace: str, identity: Identity | None, fault: Connect | None
    ) -> None:
        """Ack the CONNECT, whoever it is from; register, or disconnect without a reason (PROTOCOL.md §3.1, §3.2)."""
        if connection.engine.closed:
            return
        sid = _new_sid()
        connection.engine.post(f"40{namespace}," + encode_json({"sid": sid}))
        if identity is None or fault is not None:
            seconds = fault.after_seconds if fault else self._config.kick_delay_seconds
            self._later(seconds, connection.engine.post, f"41{namespace},")
            return
        if (earlier := connection.sessions.get(namespace)) is not None:
            self._forget(earlier)
        agent = self._state.agents.get(identity.id)
        role = agent.role if agent is not None else "owner"
        session = SocketSession(connection.engine, sid=sid, namespace=namespace, identity=identity, role=role)
        connection.sessions[namespace] = session
        self._rooms.add(session)
        if self._faults.strike(NoPresence, session.agent_id) is not None:
            return
        delay = self._faults.get(Delay, session.agent_id)
        presence_seconds = delay.presence_seconds if delay else 0.0
        self._later(max(presence_seconds, self._config.presence_delay_seconds), self._register, session)

    def _register(self, session: SocketSession) -> None:
        if session not in self._rooms:
            return
        self._chat.register(session)
        if self._faults.get(KickAtExpiry, session.agent_id) is not None:
            remaining = session.identity.expires_at - time.time()
            self._later(max(remaining, 0.001), self._kick, session)

    def _identify(self, connection: _Connection, auth: Any) -> Identity | None:
        """Whom the token speaks for; ``auth`` wins over the header, the header over the query (PROTOCOL.md §2)."""
        tokens = {
            "auth": auth.get("token") if isinstance(auth, dict) else None,
            "header": connection.headers.get("authorization", "").removeprefix("Bearer "),
            "query": connection.query.get("token", [""])[0],
        }
        connection.token_via, token = next(((via, token) for via, token in tokens.items() if token), ("", ""))
        connection.token_id = self._tokens.id_of(token)
        try:
            identity = self._tokens.verify(token)
        except InvalidTokenError:
            return None
        agent = self._state.agents.get(identity.id)
        if identity.kind == "agent" and (agent is None or agent.status in ("deleted", "suspended")):
            return None
        return identity

    # Events

    def _event(self, session: SocketSession, pkt: Any) -> None:
        event = str(pkt.data[0])
        payload = pkt.data[1] if len(pkt.data) > 1 else MISSING
        if event != "message:send" and not self._chat.handles(event):
            self._state.log.add("unknown_event", session.agent_id, event=event)
            return
        call = self._calls.begin(session, event, pkt.id)
        if event == "message:send":
            self._calls.send(call, payload)
        else:
            self._calls.handle(call, payload)


def _new_sid() -> str:
    return secrets.token_urlsafe(15)
