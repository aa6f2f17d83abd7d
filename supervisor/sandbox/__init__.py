"""A local AIWM platform for development and tests, which behaves as PROTOCOL.md says, quirks included."""

from supervisor.sandbox.config import DEFAULT_NAMESPACES, DEFAULT_PORT, Profile, SandboxConfig
from supervisor.sandbox.faults import Faults
from supervisor.sandbox.sandbox import Sandbox, serve
from supervisor.sandbox.state import Agent, ConnectAttempt, Event, StoredMessage, Subscription, TokenRequest
from supervisor.sandbox.user import SandboxUser
from supervisor.sandbox.validation import RefusedError

__all__ = [
    "DEFAULT_NAMESPACES",
    "DEFAULT_PORT",
    "Agent",
    "ConnectAttempt",
    "Event",
    "Faults",
    "Profile",
    "RefusedError",
    "Sandbox",
    "SandboxConfig",
    "SandboxUser",
    "StoredMessage",
    "Subscription",
    "TokenRequest",
    "serve",
]
