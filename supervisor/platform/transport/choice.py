"""Which wire carries the frames: the fast one where it is installed, else the reference wire, or as is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from supervisor.core.errors import ConfigurationError
from supervisor.net import Session
from supervisor.platform.transport.wires import Dial, Listener, MakeWire, Wire

WireName = Literal["auto", "socketio", "picows"]


def choose_wire(name: WireName) -> MakeWire:
    """What makes the wires of the connections to the platform.

    Args:
        name: ``socketio``, ``picows``, or ``auto``: picows where it is installed.

    Raises:
        ConfigurationError: picows is asked for and is not installed.
    """
    if name == "socketio":
        return reference_wire
    try:
        from supervisor.platform.transport.wires.picows import PicowsWire  # noqa: PLC0415  an extra
    except ImportError as error:
        if name == "auto":
            return reference_wire
        raise ConfigurationError(
            f"SUPERVISOR_WIRE=picows needs the extra fast: pip install 'aiwm-supervisor[fast]' ({error})"
        ) from None
    return around_proxies(PicowsWire)


def reference_wire(session: Session, dial: Dial, listener: Listener, **options: float) -> Wire:
    """A reference wire. Its libraries come with the first one: a fleet on the fast wire never needs them."""
    from supervisor.platform.transport.wires.socketio import SocketIOWire  # noqa: PLC0415

    return SocketIOWire(session, dial, listener, **options)


def around_proxies(make_wire: Callable[..., Wire]) -> Callable[..., Wire]:
    """A wire for what goes straight to the platform; the reference wire for what goes through a proxy."""

    def make(session: Session, dial: Dial, listener: Listener, **options: float) -> Wire:
        return (reference_wire if dial.proxy is not None else make_wire)(session, dial, listener, **options)

    return make
