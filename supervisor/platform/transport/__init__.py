"""The platform's Socket.IO gateway: the only importer of the socketio client.

python-socketio does what is slow and seldom: the handshake, the namespace, the heartbeat. What is hot or delicate is
ours. :mod:`~supervisor.platform.transport.wire` stands between python-engineio and aiohttp, owns the WebSocket and
sees every frame first. :mod:`~supervisor.platform.transport.sockets` deals with events and acks there and then, in
order and without a task for each.
"""

from supervisor.platform.transport.opening import Target, TokenVia, Transport
from supervisor.platform.transport.sockets import MALFORMED, Socket

__all__ = ["MALFORMED", "Socket", "Target", "TokenVia", "Transport"]
