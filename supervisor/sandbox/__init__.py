"""A local AIWM platform for development and tests, which behaves as docs/protocol.md says, quirks included.

It imports nothing of the supervisor: what plays the other side must not share its mistakes. What a supervisor
does about the platform's quirks belongs to :mod:`supervisor.platform`; faults that no platform has belong to the tests.
"""

from supervisor.sandbox.gateways.validation import RefusedError
from supervisor.sandbox.sandbox import Sandbox
from supervisor.sandbox.user import SandboxUser
from supervisor.sandbox.world.config import Profile, SandboxConfig
from supervisor.sandbox.world.log import TokenRequest
from supervisor.sandbox.world.state import StoredMessage
from supervisor.sandbox.world.switchboard import Faults

__all__ = [
    "Faults",
    "Profile",
    "RefusedError",
    "Sandbox",
    "SandboxConfig",
    "SandboxUser",
    "StoredMessage",
    "TokenRequest",
]
