"""Wires: the WebSocket below the transport, one file for each way to have one, behind the face of ``face``.

A wire opens a WebSocket and passes frames. ``socketio`` is the reference, python-socketio's own client; ``picows`` is
the fast one, an extra, which nobody but :mod:`supervisor.platform.transport.choice` imports. A further wire is a module
here that implements :class:`Wire`, and a line in ``tests/support/wires.py``: then the transport's whole suite runs on
it.

May import net and the frames, and nobody but the transport imports a wire. The handshake, silence, events, and what a
failure means belong above, once for all wires: :mod:`supervisor.platform.transport`.
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
