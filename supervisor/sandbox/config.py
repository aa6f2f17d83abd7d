"""What a sandbox is set to: which generation of the platform it plays, where it listens, how long tokens live."""

from dataclasses import dataclass
from typing import Literal

Profile = Literal["v1", "v2"]

#: The namespaces each generation declares, the recorded one first. The path of the guide's URL,
#: ``/dev/aiwm/chat``, is deliberately not one of them: the recordings show that the platform refuses it.
DEFAULT_NAMESPACES: dict[Profile, tuple[str, ...]] = {"v1": ("/ws", "/chat"), "v2": ("/ws/chat", "/chat")}

#: The port of the standalone sandbox.
DEFAULT_PORT = 8641


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Settings of one sandbox.

    Args:
        profile: The platform generation to play: ``v1`` (Dec 2025) or ``v2`` (Mar 2026); see docs/protocol.md.
        host: Address to listen on; anything but loopback opens the fault switches to the network.
        port: TCP port; 0 takes a free one and keeps it over restarts.
        namespaces: Declared Socket.IO namespaces; ``None`` takes :data:`DEFAULT_NAMESPACES`.
        rest_prefix: Path before every REST route, ``''`` or ``/something``; API_URL ends with it.
        engine_path: HTTP path of Engine.IO, ``/socket.io`` unless a proxy wants another.
        expires_in_seconds: Life of a token, ``expiresIn`` of the token endpoint.
        ping_interval_seconds: Engine.IO heartbeat interval; the recordings have 25.
        ping_timeout_seconds: How long a pong may take; the recordings have 20.
        max_payload_bytes: Largest frame; one above it closes the socket with code 1009.
        presence_delay_seconds: Time from the CONNECT ack to the own presence.
        kick_delay_seconds: Time from the CONNECT ack to the DISCONNECT of a refused token.
        organisation_id: The organisation all agents and users belong to, 24 hex digits.
        open_registration: Whether an unknown but well-formed agent id is registered with the secret it first sends.
    """

    profile: Profile = "v1"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    namespaces: tuple[str, ...] | None = None
    rest_prefix: str = "/dev/aiwm"
    engine_path: str = "/socket.io"
    expires_in_seconds: float = 86_400
    ping_interval_seconds: float = 25.0
    ping_timeout_seconds: float = 20.0
    max_payload_bytes: int = 1_000_000
    presence_delay_seconds: float = 0.003
    kick_delay_seconds: float = 0.001
    organisation_id: str = "b" * 24
    open_registration: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that could not work, naming the field."""
        if self.profile not in DEFAULT_NAMESPACES:
            raise ValueError(f"profile must be v1 or v2, not {self.profile!r}")
        for name in ("rest_prefix", "engine_path"):
            value: str = getattr(self, name)
            if value and (not value.startswith("/") or value.endswith("/")):
                raise ValueError(f"{name} must start with / and not end with it, or be empty: {value!r}")
        if not self.engine_path:
            raise ValueError("engine_path must not be empty")
        if self.declared_namespaces and "/" in self.declared_namespaces:
            raise ValueError("the root namespace cannot be declared: it accepts anyone and answers nobody")

    @property
    def declared_namespaces(self) -> tuple[str, ...]:
        """The namespaces that answer, in order; the first is the profile's own."""
        return self.namespaces or DEFAULT_NAMESPACES[self.profile]
