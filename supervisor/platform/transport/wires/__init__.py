"""Wires: the WebSocket below the transport, one file for each way to have one, behind the face of ``face``.

A wire opens a WebSocket and passes frames. It knows neither Socket.IO nor what a failure means: both stand above it,
once for all wires. ``socketio`` is the reference, python-socketio's own client. A further wire is a module here that
implements :class:`Wire`, and a line in ``tests/support/wires.py``, whereupon the transport's whole suite runs on it.

May import ``net``, ``core`` and the frames; nobody but the transport imports a wire.
"""

from supervisor.platform.transport.wires.face import (
    AnsweredError,
    Dial,
    InvalidUrlError,
    Listener,
    MakeWire,
    ProxyAnsweredError,
    RedirectedError,
    UnreachableError,
    UpgradeError,
    Wire,
)

__all__ = [
    "AnsweredError",
    "Dial",
    "InvalidUrlError",
    "Listener",
    "MakeWire",
    "ProxyAnsweredError",
    "RedirectedError",
    "UnreachableError",
    "UpgradeError",
    "Wire",
]
