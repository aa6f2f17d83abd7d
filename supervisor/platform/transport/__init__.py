"""Sockets of the platform's Socket.IO gateway: calls with their acks, events in order, one reason for each end.

From the frames upwards: :mod:`.wires` carry them and are all that knows a WebSocket library; :mod:`.handshake` is what
Engine.IO and Socket.IO want of them, without I/O; :mod:`.sockets` deals with events and acks there and then, in order
and without a task for each; :mod:`.failures` says what a failed attempt means, the same for every wire;
:mod:`.opening` opens and closes; :mod:`.choice` says over which wire.

May import net and the core. What an event means belongs to :mod:`supervisor.platform.connection`, how many attempts
there may be to :mod:`supervisor.platform.hosts.gates`.
"""

from supervisor.platform.transport.choice import choose_wire
from supervisor.platform.transport.handshake import KICKED
from supervisor.platform.transport.opening import Target, TokenVia, Transport
from supervisor.platform.transport.sockets import MALFORMED, Socket
from supervisor.platform.transport.wires import MakeWire

__all__ = ["KICKED", "MALFORMED", "MakeWire", "Socket", "Target", "TokenVia", "Transport", "choose_wire"]
