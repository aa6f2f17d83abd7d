"""Who is let in: the namespace CONNECT, its ack, and what follows (docs/protocol.md#3-acceptance)."""

import secrets
import time
from collections.abc import Callable
from typing import Any

from supervisor.sandbox.events import Chat
from supervisor.sandbox.faults import Connect, Delay, KickAtExpiry, NoPresence, SecondSocket
from supervisor.sandbox.packets import Connection
from supervisor.sandbox.sessions import SocketSession, encode_json
from supervisor.sandbox.shared import Shared
from supervisor.sandbox.tokens import Identity, InvalidTokenError


class Admission:
    """Answers CONNECTs.

    Args:
        end: Disconnects a session without a reason.
    """

    def __init__(self, shared: Shared, chat: Chat, *, end: Callable[[SocketSession], None]) -> None:
        self._config = shared.config
        self._state = shared.state
        self._tokens = shared.tokens
        self._faults = shared.faults
        self._rooms = shared.rooms
        self._timers = shared.timers
        self._chat = chat
        self._end = end

    def connect(self, connection: Connection, namespace: str, auth: Any) -> None:
        """Answer a CONNECT: ack it, whoever it is from, and then register or disconnect the session."""
        if namespace == "/":
            self._accept_root(connection)
            return
        if namespace not in self._config.declared_namespaces:
            self._state.record_connect(None, namespace, "invalid namespace")
            connection.engine.post(f"44{namespace}," + encode_json({"message": "Invalid namespace"}))
            return
        identity = self._identify(connection, auth)
        connection.agent_id = identity.id if identity is not None and identity.kind == "agent" else None
        fault = self._faults.strike(Connect, connection.agent_id)
        if fault is None and identity is not None:
            fault = self._second_socket(connection, identity)
        outcome = fault.mode if fault else ("accepted" if identity else "refused")
        self._state.record_connect(connection.agent_id, namespace, outcome, connection.token_via, connection.token_id)
        if fault is not None and fault.mode != "kick":
            self._fail_connect(connection, namespace, fault)
            return
        delay = self._faults.get(Delay, connection.agent_id) or Delay()
        self._timers.later(delay.connect_ack_seconds, self._acknowledge, connection, namespace, identity, fault)

    def _second_socket(self, connection: Connection, identity: Identity) -> Connect | None:
        """What becomes of the CONNECT where an agent may have one socket; ``replace`` ends the older one."""
        older = [session for session in self._rooms.sockets_of(identity.id) if session.engine is not connection.engine]
        fault = self._faults.strike(SecondSocket, connection.agent_id) if older else None
        if fault is None:
            return None
        if fault.mode == "replace":
            for session in older:
                self._end(session)
            return None
        return Connect(mode="kick" if fault.mode == "refuse" else "error", message=fault.message)

    @staticmethod
    def _accept_root(connection: Connection) -> None:
        if not connection.joined_root:
            connection.joined_root = True
            connection.engine.post("40" + encode_json({"sid": _new_sid()}))

    @staticmethod
    def _fail_connect(connection: Connection, namespace: str, fault: Connect) -> None:
        if fault.mode == "error":
            connection.engine.post(f"44{namespace}," + encode_json({"message": fault.message}))
        elif fault.mode == "reset":
            connection.engine.terminate("transport error", abort=True)

    def _acknowledge(
        self, connection: Connection, namespace: str, identity: Identity | None, fault: Connect | None
    ) -> None:
        """Ack the CONNECT, whoever it is from; register, or disconnect without a reason."""
        if connection.engine.closed:
            return
        sid = _new_sid()
        connection.engine.post(f"40{namespace}," + encode_json({"sid": sid}))
        if identity is None or fault is not None:
            seconds = fault.after_seconds if fault else self._config.kick_delay_seconds
            self._timers.later(seconds, connection.engine.post, f"41{namespace},")
            return
        if (earlier := connection.sessions.get(namespace)) is not None:
            self._chat.depart(earlier)
        agent = self._state.agents.get(identity.id)
        role = agent.role if agent is not None else "owner"
        session = SocketSession(connection.engine, sid=sid, namespace=namespace, identity=identity, role=role)
        connection.sessions[namespace] = session
        self._rooms.add(session)
        if self._faults.strike(NoPresence, session.agent_id) is not None:
            return
        delay = self._faults.get(Delay, session.agent_id)
        presence_seconds = delay.presence_seconds if delay else 0.0
        self._timers.later(max(presence_seconds, self._config.presence_delay_seconds), self._register, session)

    def _register(self, session: SocketSession) -> None:
        if session not in self._rooms:
            return
        self._chat.register(session)
        if self._faults.get(KickAtExpiry, session.agent_id) is not None:
            remaining = session.identity.expires_at - time.time()
            self._timers.later(max(remaining, 0.001), self._end, session)

    def _identify(self, connection: Connection, auth: Any) -> Identity | None:
        """Whom the token speaks for; ``auth`` wins over the header, the header over the query."""
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


def _new_sid() -> str:
    return secrets.token_urlsafe(15)
