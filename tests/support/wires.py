"""The wires on which the transport's whole suite runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from supervisor.platform.transport.choice import around_proxies
from supervisor.platform.transport.wires import Wire
from supervisor.platform.transport.wires.picows import PicowsWire
from supervisor.platform.transport.wires.socketio import SocketIOWire
from tests.support.websockets_wire import WebsocketsWire

#: Each by the name of the package below it. A further wire is a line here; besides what the face wants of a wire, its
#: constructor takes ``goodbye_seconds``, so that no test waits for a goodbye.
WIRES: Final[Mapping[str, Callable[..., Wire]]] = {
    "socketio": SocketIOWire,
    "picows": around_proxies(PicowsWire),
    "websockets": WebsocketsWire,
}
