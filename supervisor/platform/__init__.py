"""The platform as one agent meets it: tokens, a way in, a registered connection, sends, history, outages.

May import telemetry, settings, net and the core; neither the store nor the handlers. The shape of a message belongs to
:mod:`supervisor.protocol`; when an agent connects, to :mod:`supervisor.fleet`; what an arriving message sets off, to
:mod:`supervisor.messages`. A second wire belongs into :mod:`supervisor.platform.transport.wires`.
"""

__all__ = ["connection", "connector", "endpoint", "heartbeats", "history", "hosts", "joins", "tokens", "transport"]
