"""What the platform does on each event, one gateway for each generation; no I/O but through sessions.

It may import the sandbox's state, sessions and switches. Frames and CONNECTs belong to
:mod:`supervisor.sandbox.sockets`, HTTP to :mod:`supervisor.sandbox.rest`.
"""

from supervisor.sandbox.gateways.base import Gateway, Receipt
from supervisor.sandbox.gateways.endpoints import Endpoints
from supervisor.sandbox.gateways.validation import RefusedError

__all__ = ["Endpoints", "Gateway", "Receipt", "RefusedError"]
