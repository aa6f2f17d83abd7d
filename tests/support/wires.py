"""The wires on which the transport's whole suite runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.platform.transport.wires import MakeWire
from supervisor.platform.transport.wires.socketio import SocketIOWire
from tests.support.websockets_wire import WebsocketsWire

#: Each by the name of the package below it. A further wire is a line here.
WIRES: Final[Mapping[str, MakeWire]] = {"socketio": SocketIOWire, "websockets": WebsocketsWire}
