"""A session over Engine.IO."""

from typing import Any

from supervisor.sandbox.gateways.base import Gateway
from supervisor.sandbox.sockets.engine import EngineSocket
from supervisor.sandbox.world.sessions import EncodedEvents, Session, encode_event, encode_json, encode_packet
from supervisor.sandbox.world.tokens import Identity


class SocketSession(Session):
    """One identity's socket in one namespace."""

    def __init__(self, engine: EngineSocket, gateway: Gateway, *, sid: str, namespace: str, identity: Identity) -> None:
        super().__init__(gateway, sid=sid, namespace=namespace, identity=identity)
        self.engine = engine

    def emit(self, event: str, payload: Any) -> None:
        """Send one event."""
        self.engine.post(encode_event(self.namespace, event, payload))

    def broadcast(self, event: str, payload: Any, frames: EncodedEvents) -> None:
        """Send what was encoded once for all sockets of the namespace."""
        text, frame = frames.of(self.namespace, event, payload)
        self.engine.post_broadcast(text, frame, lazily=frames.lazily)

    def ack(self, ack_id: int, *arguments: Any) -> None:
        """Acknowledge an event."""
        self.engine.post(encode_packet("3", self.namespace, f"{ack_id}{encode_json(arguments)}"))

    def disconnect(self) -> None:
        """Send a DISCONNECT, which never carries a reason; the engine stays open."""
        self.engine.post(encode_packet("1", self.namespace))
