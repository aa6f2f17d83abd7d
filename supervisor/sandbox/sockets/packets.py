"""Socket.IO packets as the platform's parser takes them, on one Engine.IO connection."""

import json
from dataclasses import dataclass, field
from typing import Any

from socketio import packet

from supervisor.sandbox.sockets.engine import EngineSocket
from supervisor.sandbox.sockets.session import SocketSession


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
class Connection:
    """One Engine.IO session, at the engine path by which it came, and its Socket.IO sessions."""

    engine: EngineSocket
    path: str
    headers: dict[str, str]
    query: dict[str, list[str]]
    #: The agent that last tried to connect here, whether accepted or not: whom the switches concern.
    agent_id: str | None = None
    #: Whether it joined the root namespace of v1 or v2, which never delivers.
    is_deaf_root: bool = False
    token_via: str = ""
    token_id: str = ""
    sessions: dict[str, SocketSession] = field(default_factory=dict)
    pending_binary: Any = None


class MalformedError(Exception):
    """The platform's parser refuses the packet, and closes the socket."""


def decode_packet(connection: Connection, data: Any) -> Any:
    """The packet that ``data`` completes, or None while attachments are missing.

    Raises:
        MalformedError: It is no packet.
    """
    try:
        return _decode(connection, data)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise MalformedError from error


def _decode(connection: Connection, data: Any) -> Any:
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
