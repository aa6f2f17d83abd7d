"""What a sandbox is set to: which generation of the platform it plays, where it listens, how long tokens live."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Profile = Literal["v1", "v2", "v3"]
#: How far the third generation had got (docs/protocol.md#8-third-generation).
Stage = Literal["i", "ii", "iii"]

#: The namespaces each generation declares, the recorded one first. The path of the guide's URL, ``/dev/aiwm/chat``, is
#: deliberately not one of them: the recordings show that the platform refuses it.
DEFAULT_NAMESPACES: dict[Profile, tuple[str, ...]] = {
    "v1": ("/ws", "/chat"),
    "v2": ("/ws/chat",),
    "v3": ("/ws/chat",),
}

#: The port of the standalone sandbox.
DEFAULT_PORT = 8641

_PLAIN_PATH = "/socket.io"
#: Stage iii: agents and people have processes of their own, each behind a path of its own.
AGENTS_PATH, PEOPLE_PATH = "/agent/socket.io", "/chat/socket.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Settings of one sandbox.

    Args:
        profile: The platform generation to play: ``v1`` (Dec 2025), ``v2`` (Mar 2026) or ``v3`` (spring 2026; read, not
            run); see docs/protocol.md.
        stage: v3: ``i`` has heartbeats and commands on ``/ws/chat``, ``ii`` an agents' gateway at ``/ws/agent``,
            ``iii`` namespace ``/`` in processes of their own.
        host: Address to listen on; anything but loopback opens the fault switches to the network.
        port: TCP port; 0 takes a free one and keeps it over restarts.
        namespaces: Declared Socket.IO namespaces; ``None`` takes :data:`DEFAULT_NAMESPACES`. Not for stage iii.
        rest_prefix: Path before every REST route, ``''`` or ``/something``; API_URL ends with it.
        engine_path: HTTP path of Engine.IO where agents connect; None is ``/socket.io``, in stage iii
            ``/agent/socket.io``. There people always have ``/chat/socket.io``.
        wrong_path_status: What a proxy answers upgrades at another path with, such as 403; None is the platform itself,
            which does not answer (docs/protocol.md#7-findings, 11).
        expires_in_seconds: Life of a token, ``expiresIn`` of the token endpoint.
        ping_interval_seconds: Engine.IO heartbeat interval; the recordings have 25.
        ping_timeout_seconds: How long a pong may take; the recordings have 20.
        max_payload_bytes: Largest frame; one above it closes the socket with code 1009.
        presence_delay_seconds: Time from the CONNECT ack to the own presence.
        kick_delay_seconds: Time from the CONNECT ack to the DISCONNECT of a refused token.
        forget_after_seconds: How long an agent is found for new conversations after its connect
            (docs/protocol.md#7-findings, 1).
        first_bridged_lost: v2: whether the first message of a bridged conversation is broadcast before the agent is in
            the room, as five of six seen were (docs/protocol.md#7-findings, 3).
        deprecated_connect: v3: whether the token endpoint with the id in its path still answers.
        organisation_id: The organisation all agents and users belong to, 24 hex digits.
        open_registration: Whether an unknown but well-formed agent id is registered with the secret it first sends.
        registration_role: The role of agents that register so; the platform's own default is ``viewer``.
        clock: Seconds that only grow, by which agents and equal sends are forgotten.
    """

    profile: Profile = "v1"
    stage: Stage = "iii"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    namespaces: tuple[str, ...] | None = None
    rest_prefix: str = "/dev/aiwm"
    engine_path: str | None = None
    wrong_path_status: int | None = None
    expires_in_seconds: float = 86_400
    ping_interval_seconds: float = 25.0
    ping_timeout_seconds: float = 20.0
    max_payload_bytes: int = 1_000_000
    presence_delay_seconds: float = 0.003
    kick_delay_seconds: float = 0.001
    forget_after_seconds: float = 3600.0
    first_bridged_lost: bool = True
    deprecated_connect: bool = True
    organisation_id: str = "b" * 24
    open_registration: bool = False
    registration_role: str = "editor"
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Refuse settings that could not work, naming the field."""
        if self.profile not in DEFAULT_NAMESPACES:
            raise ValueError(f"profile must be v1, v2 or v3, not {self.profile!r}")
        if self.stage not in ("i", "ii", "iii"):
            raise ValueError(f"stage must be i, ii or iii, not {self.stage!r}")
        for name in ("rest_prefix", "engine_path"):
            value: str | None = getattr(self, name)
            if value and (not value.startswith("/") or value.endswith("/")):
                raise ValueError(f"{name} must start with / and not end with it, or be empty: {value!r}")
        if self.engine_path == "":
            raise ValueError("engine_path must not be empty")
        if self.namespaces and self.apart:
            raise ValueError("stage iii has the root namespace and no other")
        if self.namespaces and "/" in self.namespaces:
            raise ValueError("the root namespace cannot be declared: it accepts anyone and answers nobody")
        if not self.forget_after_seconds > 0:
            raise ValueError("forget_after_seconds must be above 0")

    @property
    def apart(self) -> bool:
        """Whether agents and people have processes of their own (v3, stage iii)."""
        return self.profile == "v3" and self.stage == "iii"

    @property
    def declared_namespaces(self) -> tuple[str, ...]:
        """The namespaces that answer, in order; the first is the profile's own."""
        return ("/",) if self.apart else self.namespaces or DEFAULT_NAMESPACES[self.profile]

    @property
    def agents_path(self) -> str:
        """The engine path at which agents connect."""
        return self.engine_path or (AGENTS_PATH if self.apart else _PLAIN_PATH)

    @property
    def people_path(self) -> str:
        """The engine path at which people connect."""
        return PEOPLE_PATH if self.apart else self.agents_path
