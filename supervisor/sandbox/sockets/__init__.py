"""Sockets as the platform speaks them: Engine.IO, Socket.IO's packets, CONNECT, events and their acks.

It may import the gateways, whose business every event is, and the switches that strike on the way. Who is connected and
who is in which conversation belongs to :mod:`supervisor.sandbox.world.sessions`.
"""

from supervisor.sandbox.sockets.server import SocketServer
from supervisor.sandbox.sockets.session import SocketSession

__all__ = ["SocketServer", "SocketSession"]
