"""What the sandbox's platform knows and decides: agents, conversations, tokens, presences, works, faults. No sockets.

May import nothing of the supervisor. How a generation speaks belongs to :mod:`supervisor.sandbox.gateways`, what is
answered over HTTP to :mod:`supervisor.sandbox.rest`, and how sockets are served to :mod:`supervisor.sandbox.sockets`.
"""

__all__ = ["config", "faults", "heartbeats", "ids", "log", "presence", "sessions", "shared", "state", "tokens"]
