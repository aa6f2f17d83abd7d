"""The fault switches: what may go wrong at the wire, for whom, and how often.

A switch is a small struct. Setting one makes it active, ``times`` limits how often it strikes, ``agents`` whom it
strikes. The switches hold no state; :class:`~supervisor.sandbox.world.switchboard.Faults` keeps which are on.
"""

from typing import Annotated, Literal

import msgspec

#: Bounds of what comes over HTTP; an hour is longer than any test.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Status = Annotated[int, msgspec.Meta(ge=400, le=599)]
Times = Annotated[int, msgspec.Meta(ge=1)]
HeaderValue = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,100}$")]


RestTarget = Literal["token", "history", "presence", "conversations", "config", "inference", "files"]


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What all switches have.

    Args:
        agents: Ids of the agents it strikes; ``None`` strikes all.
        times: How often it strikes before it switches itself off; ``None`` is until cleared.
    """

    agents: list[str] | None = None
    times: Times | None = None

    def concerns(self, agent_id: str | None) -> bool:
        """Whether it strikes this agent; one that is not known yet is struck only by a switch for all."""
        return self.agents is None or agent_id in self.agents


class Handshake(Fault):
    """Before Engine.IO's OPEN; the agent is not known yet, so ``agents`` must be None.

    Modes: ``refuse`` answers the upgrade with ``status``; ``close`` accepts it and closes before OPEN; ``silent``
    accepts it and never sends OPEN; ``reset`` resets the TCP connection.
    """

    mode: Literal["refuse", "close", "silent", "reset"] = "close"
    status: Status = 503


class Connect(Fault):
    """The namespace CONNECT.

    Modes: ``kick`` acks it and disconnects without a reason ``after_seconds`` later, as a platform does whose database
    is down; ``error`` answers CONNECT_ERROR with ``message``, as the guide has it; ``silent`` never answers; ``reset``
    resets the TCP connection.
    """

    mode: Literal["kick", "error", "silent", "reset"] = "kick"
    message: str = "Invalid token"
    after_seconds: Seconds = 0.001


class SecondSocket(Fault):
    """A platform that allows an agent one socket: what happens to a CONNECT of one that has another.

    Modes: ``refuse`` acks it and disconnects without a reason; ``error`` answers CONNECT_ERROR with ``message``;
    ``replace`` accepts it and disconnects the older one. The norm is to allow both (docs/protocol.md#3-acceptance).
    """

    mode: Literal["refuse", "error", "replace"] = "refuse"
    message: str = "Agent is already connected"


class Cookies(Fault):
    """Every answer, of handshakes and REST, sets a cookie of its own, as a load balancer does.

    Which cookies come back is in the log's ``open`` and ``token_request`` events. ``agents`` must be None.
    """


class Delay(Fault):
    """Things that come late, in seconds: CONNECT ack, own presence, event acks, REST answers of ``rest_target``."""

    connect_ack_seconds: Seconds = 0.0
    presence_seconds: Seconds = 0.0
    event_ack_seconds: Seconds = 0.0
    rest_seconds: Seconds = 0.0
    rest_target: RestTarget | Literal["all"] = "all"


class NoPresence(Fault):
    """The CONNECT is acked but the agent is never registered: it stays deaf."""


class PresenceElsewhere(Fault):
    """An agent's own presence reaches everybody but the socket that has just connected.

    The norm is a broadcast to every socket; an adapter between processes that lags has this effect.
    """


class DropAcks(Fault):
    """Acks of these ``events`` are lost; with ``confirmations`` the ``message:sent`` / ``message:error`` too."""

    events: list[str] = msgspec.field(default_factory=lambda: ["message:send"])
    confirmations: bool = False


class OddAcks(Fault):
    """Acks of these ``events`` are formed as other servers form them.

    Forms: ``empty`` has no argument, ``null`` only null, ``word`` only a text, ``node`` null before the answer, as
    Node's callbacks put an error there.
    """

    events: list[str] = msgspec.field(default_factory=lambda: ["message:send"])
    form: Literal["empty", "null", "word", "node"] = "empty"


class Hang(Fault):
    """Packets vanish both ways without a close; struck sockets stay hung until it is cleared."""


class Rest(Fault):
    """Answers of the REST side.

    Targets: ``token`` is the token endpoint, ``history``, ``presence`` is heartbeat and disconnect, ``conversations``
    the lists, ``config`` an agent's configuration and instruction, ``inference`` the LLM proxy, ``files`` uploads,
    ``all``. Modes: ``status`` answers ``status`` with the platform's error body (and Retry-After when ``retry_after``
    is set, seconds or an HTTP date), ``html`` the same with a proxy's HTML, ``ok_html`` HTML with status 200,
    ``empty`` 201 and ``{}`` (JSON without ``accessToken``), ``reset`` resets the connection, ``hang`` never answers.
    """

    target: RestTarget | Literal["all"] = "token"
    mode: Literal["status", "html", "ok_html", "empty", "reset", "hang"] = "status"
    status: Status = 503
    retry_after: HeaderValue | None = None


class RefuseSends(Fault):
    """Every ``message:send`` fails with ``error``; with ``stored`` after it was kept, as by an ill database."""

    error: str = "You do not have permission to create."
    stored: bool = False


class CutSends(Fault):
    """The connection is reset on a ``message:send``: before it is stored, or after and unacknowledged."""

    when: Literal["before_store", "after_store"] = "after_store"


class ShuffleSends(Fault):
    """Sends in flight together are stored in reverse order: each waits up to ``window_seconds``."""

    window_seconds: Seconds = 0.02


class RefuseEvents(Fault):
    """These ``events`` are acked with ``error``, as by a platform whose database is down."""

    events: list[str] = msgspec.field(default_factory=lambda: ["conversation:join"])
    error: str = "Database is down"


class LicenceExpired(Fault):
    """v3: REST writes are answered with 402, but for connect, heartbeat, disconnect, stop and start.

    ``agents`` must be None: it is the platform's licence.
    """


class NoFileStore(Fault):
    """v3: uploads fail with 500, as on a platform that has no store for files."""


class KickAtExpiry(Fault):
    """A socket is disconnected, without a reason, when its token expires.

    The norm is that nothing happens (docs/protocol.md#3-acceptance).
    """


#: The switches by their names on the HTTP side.
SWITCHES: dict[str, type[Fault]] = {
    "handshake": Handshake,
    "connect": Connect,
    "second_socket": SecondSocket,
    "cookies": Cookies,
    "delay": Delay,
    "no_presence": NoPresence,
    "presence_elsewhere": PresenceElsewhere,
    "drop_acks": DropAcks,
    "odd_acks": OddAcks,
    "hang": Hang,
    "rest": Rest,
    "refuse_sends": RefuseSends,
    "cut_sends": CutSends,
    "shuffle_sends": ShuffleSends,
    "refuse_events": RefuseEvents,
    "licence_expired": LicenceExpired,
    "no_file_store": NoFileStore,
    "kick_at_expiry": KickAtExpiry,
}


class UnknownFaultError(LookupError):
    """There is no such switch."""


def switch_named(name: str) -> type[Fault]:
    """The switch of that name, as the HTTP side spells it.

    Raises:
        UnknownFaultError: There is none.
    """
    try:
        return SWITCHES[name]
    except KeyError:
        raise UnknownFaultError(f"no fault switch {name!r}; there are: {', '.join(SWITCHES)}") from None


def name_of(switch: type[Fault]) -> str:
    """The switch's name on the HTTP side."""
    return next(name for name, candidate in SWITCHES.items() if candidate is switch)


def switch_names() -> tuple[str, ...]:
    """All switches' names."""
    return tuple(SWITCHES)
