"""The fault switches: what may go wrong at the wire, for whom, and how often.

A switch is a small struct. Setting one makes it active, ``times`` limits how often it strikes, ``agents`` whom it
strikes. The gateway, the routes and the ASGI middleware ask :meth:`Faults.strike` at the places where a fault can
happen; they hold no state of their own. RELIABILITY.md lists what the switches are for.
"""

from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec

#: Bounds of what comes over HTTP; an hour is longer than any test.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Status = Annotated[int, msgspec.Meta(ge=400, le=599)]
Times = Annotated[int, msgspec.Meta(ge=1)]
HeaderValue = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,100}$")]


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
    """Before Engine.IO's OPEN (R1, R5); the agent is not known yet, so ``agents`` must be None.

    Modes: ``refuse`` answers the upgrade with ``status``; ``close`` accepts it and closes before OPEN; ``silent``
    accepts it and never sends OPEN; ``reset`` resets the TCP connection.
    """

    mode: Literal["refuse", "close", "silent", "reset"] = "close"
    status: Status = 503


class Connect(Fault):
    """The namespace CONNECT (PROTOCOL.md §3).

    Modes: ``kick`` acks it and disconnects without a reason ``after_seconds`` later, as a platform does whose database
    is down; ``error`` answers CONNECT_ERROR with ``message``, as the guide has it; ``silent`` never answers; ``reset``
    resets the TCP connection.
    """

    mode: Literal["kick", "error", "silent", "reset"] = "kick"
    message: str = "Invalid token"
    after_seconds: Seconds = 0.001


class SecondSocket(Fault):
    """A platform that allows an agent one socket: what happens to a CONNECT of one that has another (R16).

    Modes: ``refuse`` acks it and disconnects without a reason; ``error`` answers CONNECT_ERROR with ``message``;
    ``replace`` accepts it and disconnects the older one. PROTOCOL.md §3.7 has the norm, which is to allow both.
    """

    mode: Literal["refuse", "error", "replace"] = "refuse"
    message: str = "Agent is already connected"


class Cookies(Fault):
    """Every answer, of handshakes and REST, sets a cookie of its own, as a load balancer does (R7).

    Which cookies come back is in the log's ``open`` and ``token_request`` events. ``agents`` must be None.
    """


class Delay(Fault):
    """Things that come late (R3), each in seconds: CONNECT ack, own presence, event acks, REST answers."""

    connect_ack_seconds: Seconds = 0.0
    presence_seconds: Seconds = 0.0
    event_ack_seconds: Seconds = 0.0
    rest_seconds: Seconds = 0.0


class NoPresence(Fault):
    """The CONNECT is acked but the agent is never registered: it stays deaf (PROTOCOL.md §3.1)."""


class DropAcks(Fault):
    """Acks of these ``events`` are lost; with ``confirmations`` the ``message:sent`` / ``message:error`` too."""

    events: list[str] = msgspec.field(default_factory=lambda: ["message:send"])
    confirmations: bool = False


class Hang(Fault):
    """Packets vanish both ways without a close (R4); struck sockets stay hung until it is cleared."""


class Rest(Fault):
    """Answers of the REST side (R2).

    Targets: ``token`` is the token endpoint, ``history``, ``presence`` is heartbeat and disconnect, ``all``. Modes:
    ``status`` answers ``status`` with the platform's error body (and Retry-After when ``retry_after`` is set, seconds
    or an HTTP date), ``html`` the same with a proxy's HTML, ``ok_html`` HTML with status 200, ``empty`` 201 and ``{}``
    (JSON without ``accessToken``), ``reset`` resets the connection, ``hang`` never answers.
    """

    target: Literal["token", "history", "presence", "all"] = "token"
    mode: Literal["status", "html", "ok_html", "empty", "reset", "hang"] = "status"
    status: Status = 503
    retry_after: HeaderValue | None = None


class RefuseSends(Fault):
    """Every ``message:send`` fails with ``error`` (R10)."""

    error: str = "You do not have permission to create."


class CutSends(Fault):
    """The connection is reset on a ``message:send``: before it is stored, or after and unacknowledged (R9)."""

    when: Literal["before_store", "after_store"] = "after_store"


class ShuffleSends(Fault):
    """Sends in flight together are stored in reverse order (PROTOCOL.md §4): each waits up to ``window_seconds``."""

    window_seconds: Seconds = 0.02


class KickAtExpiry(Fault):
    """A socket is disconnected, without a reason, when its token expires (R16); see PROTOCOL.md §3.4 for the norm."""


_SWITCHES: dict[str, type[Fault]] = {
    "handshake": Handshake,
    "connect": Connect,
    "second_socket": SecondSocket,
    "cookies": Cookies,
    "delay": Delay,
    "no_presence": NoPresence,
    "drop_acks": DropAcks,
    "hang": Hang,
    "rest": Rest,
    "refuse_sends": RefuseSends,
    "cut_sends": CutSends,
    "shuffle_sends": ShuffleSends,
    "kick_at_expiry": KickAtExpiry,
}

_F = TypeVar("_F", bound=Fault)


class UnknownFaultError(LookupError):
    """There is no such switch."""


class Faults:
    """The switchboard; all switches are off at first."""

    def __init__(self, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._active: dict[type[Fault], Fault] = {}
        self._on_change = on_change
        #: How often each switch has struck since the sandbox was made.
        self.struck: Counter[str] = Counter()

    def set(self, fault: Fault) -> None:
        """Switch one on, in place of an earlier setting of the same switch."""
        if isinstance(fault, Handshake | Cookies) and fault.agents is not None:
            raise ValueError(f"{name_of(type(fault))} cannot choose agents: nobody has said who they are yet")
        self._active[type(fault)] = fault
        self._on_change()

    def clear(self, *switches: type[Fault]) -> None:
        """Switch these off; without any, all."""
        for switch in switches or tuple(self._active):
            self._active.pop(switch, None)
        self._on_change()

    def get(self, switch: type[_F], agent_id: str | None = None) -> _F | None:
        """The switch when it is on and concerns the agent; does not count as a strike."""
        fault = self._active.get(switch)
        if fault is None or not fault.concerns(agent_id):
            return None
        return cast("_F", fault)

    def strike(self, switch: type[_F], agent_id: str | None = None) -> _F | None:
        """As :meth:`get`, but counts: the last of ``times`` switches it off."""
        fault = self.get(switch, agent_id)
        if fault is None:
            return None
        self.struck[name_of(switch)] += 1
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._active.pop(switch, None)
        return fault

    def active(self) -> dict[str, dict[str, Any]]:
        """The switches that are on, with their parameters."""
        return {name_of(switch): msgspec.to_builtins(fault) for switch, fault in self._active.items()}

    # One typed verb for each switch, so that tests read as sentences.

    def handshake(
        self,
        mode: Literal["refuse", "close", "silent", "reset"] = "close",
        *,
        status: int = 503,
        times: int | None = None,
    ) -> None:
        """See :class:`Handshake`."""
        self.set(Handshake(mode=mode, status=status, times=times))

    def connect(
        self,
        mode: Literal["kick", "error", "silent", "reset"] = "kick",
        *,
        message: str = "Invalid token",
        after_seconds: float = 0.001,
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`Connect`."""
        self.set(Connect(mode=mode, message=message, after_seconds=after_seconds, agents=agents, times=times))

    def second_socket(
        self,
        mode: Literal["refuse", "error", "replace"] = "refuse",
        *,
        message: str = "Agent is already connected",
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`SecondSocket`."""
        self.set(SecondSocket(mode=mode, message=message, agents=agents, times=times))

    def cookies(self) -> None:
        """See :class:`Cookies`."""
        self.set(Cookies())

    def delay(
        self,
        *,
        connect_ack_seconds: float = 0.0,
        presence_seconds: float = 0.0,
        event_ack_seconds: float = 0.0,
        rest_seconds: float = 0.0,
        agents: list[str] | None = None,
    ) -> None:
        """See :class:`Delay`."""
        self.set(
            Delay(
                connect_ack_seconds=connect_ack_seconds,
                presence_seconds=presence_seconds,
                event_ack_seconds=event_ack_seconds,
                rest_seconds=rest_seconds,
                agents=agents,
            )
        )

    def no_presence(self, *, agents: list[str] | None = None, times: int | None = None) -> None:
        """See :class:`NoPresence`."""
        self.set(NoPresence(agents=agents, times=times))

    def drop_acks(
        self,
        *,
        events: list[str] | None = None,
        confirmations: bool = False,
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`DropAcks`."""
        self.set(DropAcks(events=events or ["message:send"], confirmations=confirmations, agents=agents, times=times))

    def hang(self, *, agents: list[str] | None = None) -> None:
        """See :class:`Hang`."""
        self.set(Hang(agents=agents))

    def rest(
        self,
        target: Literal["token", "history", "presence", "all"] = "token",
        mode: Literal["status", "html", "ok_html", "empty", "reset", "hang"] = "status",
        *,
        status: int = 503,
        retry_after: str | None = None,
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`Rest`."""
        self.set(Rest(target=target, mode=mode, status=status, retry_after=retry_after, agents=agents, times=times))

    def refuse_sends(
        self,
        error: str = "You do not have permission to create.",
        *,
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`RefuseSends`."""
        self.set(RefuseSends(error=error, agents=agents, times=times))

    def cut_sends(
        self,
        when: Literal["before_store", "after_store"] = "after_store",
        *,
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`CutSends`."""
        self.set(CutSends(when=when, agents=agents, times=times))

    def shuffle_sends(self, window_seconds: float = 0.02, *, agents: list[str] | None = None) -> None:
        """See :class:`ShuffleSends`."""
        self.set(ShuffleSends(window_seconds=window_seconds, agents=agents))

    def kick_at_expiry(self, *, agents: list[str] | None = None) -> None:
        """See :class:`KickAtExpiry`."""
        self.set(KickAtExpiry(agents=agents))


def switch_named(name: str) -> type[Fault]:
    """The switch of that name, as the HTTP side spells it.

    Raises:
        UnknownFaultError: There is none.
    """
    try:
        return _SWITCHES[name]
    except KeyError:
        raise UnknownFaultError(f"no fault switch {name!r}; there are: {', '.join(_SWITCHES)}") from None


def name_of(switch: type[Fault]) -> str:
    """The switch's name on the HTTP side."""
    return next(name for name, candidate in _SWITCHES.items() if candidate is switch)


def switch_names() -> tuple[str, ...]:
    """All switches' names."""
    return tuple(_SWITCHES)
