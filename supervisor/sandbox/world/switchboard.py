"""Which fault switches are on, and how often each has struck.

The gateway, the routes and the ASGI middleware ask :meth:`Faults.strike` at the places where a fault can happen. Each
switch has a typed verb, so that tests read as sentences.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import msgspec

from supervisor.sandbox.world.faults import (
    Connect,
    Cookies,
    CutSends,
    Delay,
    DropAcks,
    Fault,
    Handshake,
    Hang,
    KickAtExpiry,
    LicenceExpired,
    NoPresence,
    OddAcks,
    PresenceElsewhere,
    RefuseEvents,
    RefuseSends,
    Rest,
    RestTarget,
    SecondSocket,
    ShuffleSends,
    name_of,
)

_F = TypeVar("_F", bound=Fault)


class Faults:
    """The switchboard; all switches are off at first."""

    def __init__(self) -> None:
        self._active: dict[type[Fault], Fault] = {}
        #: Called after each change; set by the owner of the sockets that a hang leaves behind.
        self.on_change: Callable[[], None] = lambda: None
        #: How often each switch has struck since the sandbox was made.
        self.struck: Counter[str] = Counter()

    def set(self, fault: Fault) -> None:
        """Switch one on, in place of an earlier setting of the same switch."""
        if isinstance(fault, Handshake | Cookies | LicenceExpired) and fault.agents is not None:
            raise ValueError(f"{name_of(type(fault))} cannot choose agents: nobody has said who they are yet")
        self._active[type(fault)] = fault
        self.on_change()

    def clear(self, *switches: type[Fault]) -> None:
        """Switch these off; without any, all."""
        for switch in switches or tuple(self._active):
            self._active.pop(switch, None)
        self.on_change()

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
        rest_target: RestTarget | Literal["all"] = "all",
        agents: list[str] | None = None,
    ) -> None:
        """See :class:`Delay`."""
        self.set(
            Delay(
                connect_ack_seconds=connect_ack_seconds,
                presence_seconds=presence_seconds,
                event_ack_seconds=event_ack_seconds,
                rest_seconds=rest_seconds,
                rest_target=rest_target,
                agents=agents,
            )
        )

    def no_presence(self, *, agents: list[str] | None = None, times: int | None = None) -> None:
        """See :class:`NoPresence`."""
        self.set(NoPresence(agents=agents, times=times))

    def presence_elsewhere(self, *, agents: list[str] | None = None, times: int | None = None) -> None:
        """See :class:`PresenceElsewhere`."""
        self.set(PresenceElsewhere(agents=agents, times=times))

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

    def odd_acks(
        self,
        form: Literal["empty", "null", "word", "node"] = "empty",
        *,
        events: list[str] | None = None,
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`OddAcks`."""
        self.set(OddAcks(form=form, events=events or ["message:send"], agents=agents, times=times))

    def hang(self, *, agents: list[str] | None = None) -> None:
        """See :class:`Hang`."""
        self.set(Hang(agents=agents))

    def rest(
        self,
        target: RestTarget | Literal["all"] = "token",
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
        stored: bool = False,
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`RefuseSends`."""
        self.set(RefuseSends(error=error, stored=stored, agents=agents, times=times))

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

    def refuse_events(
        self,
        events: list[str] | None = None,
        error: str = "Database is down",
        *,
        agents: list[str] | None = None,
        times: int | None = None,
    ) -> None:
        """See :class:`RefuseEvents`."""
        self.set(RefuseEvents(events=events or ["conversation:join"], error=error, agents=agents, times=times))

    def kick_at_expiry(self, *, agents: list[str] | None = None) -> None:
        """See :class:`KickAtExpiry`."""
        self.set(KickAtExpiry(agents=agents))
