"""Who is let in: the namespace CONNECT, its ack, and what follows (docs/protocol.md#3-acceptance)."""

import secrets
import time
from collections.abc import Callable
from typing import Any

from supervisor.sandbox.gateways.base import Gateway
from supervisor.sandbox.gateways.endpoints import ROOT, Endpoints
from supervisor.sandbox.sockets.packets import Connection
from supervisor.sandbox.sockets.session import SocketSession
from supervisor.sandbox.world.faults import Connect, Delay, KickAtExpiry, NoPresence, SecondSocket
from supervisor.sandbox.world.sessions import encode_json, encode_packet
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.tokens import Identity, InvalidTokenError


class Admission:
    """Answers CONNECTs.

    Args:
        end: Disconnects a session without a reason.
    """

    def __init__(self, shared: Shared, endpoints: Endpoints, *, end: Callable[[SocketSession], None]) -> None:
        self._config = shared.config
        self._state = shared.state
        self._tokens = shared.tokens
        self._faults = shared.faults
        self._rooms = shared.rooms
        self._timers = shared.timers
        self._endpoints = endpoints
        self._end = end

    def connect(self, connection: Connection, namespace: str, auth: Any) -> None:
        """Answer a CONNECT: ack it, whoever it is from, and then register or disconnect the session."""
        gateway = self._endpoints.find(connection.path, namespace)
        if gateway is None and namespace == ROOT:
            self._accept_deaf_root(connection)
            return
        if gateway is None:
            self._state.record_connect(None, namespace, "invalid namespace")
            self._refuse(connection, namespace, "Invalid namespace")
            return
        identity = self._identify(connection, gateway, auth)
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
        fate = fault if identity is None else fault or identity
        self._timers.later(delay.connect_ack_seconds, self._acknowledge, connection, gateway, namespace, fate)

    def _second_socket(self, connection: Connection, identity: Identity) -> Connect | None:
        """What becomes of the CONNECT where an agent may have one socket; ``replace`` ends the older one."""
        older = [
            session
            for session in self._rooms.of_owner(identity.id)
            if isinstance(session, SocketSession) and session.engine is not connection.engine
        ]
        fault = self._faults.strike(SecondSocket, connection.agent_id) if older else None
        if fault is None:
            return None
        if fault.mode == "replace":
            for session in older:
                self._end(session)
            return None
        return Connect(mode="kick" if fault.mode == "refuse" else "error", message=fault.message)

    @staticmethod
    def _accept_deaf_root(connection: Connection) -> None:
        if not connection.is_deaf_root:
            connection.is_deaf_root = True
            connection.engine.post(encode_packet("0", ROOT, encode_json({"sid": _new_sid()})))

    @staticmethod
    def _refuse(connection: Connection, namespace: str, message: str) -> None:
        connection.engine.post(encode_packet("4", namespace, encode_json({"message": message})))

    def _fail_connect(self, connection: Connection, namespace: str, fault: Connect) -> None:
        if fault.mode == "error":
            self._refuse(connection, namespace, fault.message)
        elif fault.mode == "reset":
            connection.engine.terminate("transport error", abort=True)

    def _acknowledge(
        self, connection: Connection, gateway: Gateway, namespace: str, fate: Identity | Connect | None
    ) -> None:
        """Ack the CONNECT, whoever it is from; register an identity, or disconnect without a reason."""
        if connection.engine.closed:
            return
        sid = _new_sid()
        connection.engine.post(encode_packet("0", namespace, encode_json({"sid": sid})))
        if not isinstance(fate, Identity):
            seconds = fate.after_seconds if fate else self._config.kick_delay_seconds
            self._timers.later(seconds, connection.engine.post, encode_packet("1", namespace))
            return
        if (earlier := connection.sessions.get(namespace)) is not None:
            earlier.gateway.depart(earlier)
        session = SocketSession(connection.engine, gateway, sid=sid, namespace=namespace, identity=fate)
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
        session.gateway.register(session)
        if self._faults.get(KickAtExpiry, session.agent_id) is not None:
            remaining = session.identity.expires_at - time.time()
            self._timers.later(max(remaining, 0.001), self._end, session)

    def _identify(self, connection: Connection, gateway: Gateway, auth: Any) -> Identity | None:
        """Whom the token speaks for, if the gateway admits it; ``auth`` wins over the header, that over the query."""
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
        return identity if gateway.admits(identity) else None


def _new_sid() -> str:
    return secrets.token_urlsafe(15)
