"""Sockets as the platform speaks them: Engine.IO, Socket.IO's packets, CONNECT, events and their acks.

It may import the gateways, whose business every event is, and the switches that strike on the way.
"""
