"""Looks now and then at the replicas of the registry and at what its server carries: for metrics, and for people."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.replicas import Replica, status_of
from supervisor.service.fleetwide.others import NO_TOKEN
from supervisor.settings import LOOPBACK
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics.replicas import ReplicaFigures

#: How often: a beat that is late is seen before its owner is given up.
LOOK_SECONDS: Final = 5.0
#: Clocks that are kept by the network are never so far apart; whoever reads two replicas' logs side by side notices.
CLOCK_SECONDS: Final = 5.0
_log = get_logger("supervisor.registry")


class ReplicaWatch:
    """What was found at the last look.

    Args:
        on_buried: told how many others were found dead since the last look, where any were.
        token: whether this one has an admin token.

    Attributes:
        figures: None until there was one.
        apart: why this replica and the others cannot ask each other; empty where they can, as far as it can tell.
        clock: how far this machine's clock is from the database's; empty where they are near enough.
    """

    def __init__(self, registry: Registry, clock: Clock, on_buried: Callable[[int], None], *, token: bool) -> None:
        self._replicas = registry.replicas
        self._clock = clock
        self._on_buried = on_buried
        self._token = token
        self._buried = 0
        self.figures: ReplicaFigures | None = None
        self.apart = ""
        self.clock = ""

    async def run(self) -> None:
        """Look until cancelled; while the registry does not answer, what was found last stays."""
        while True:
            # Whoever writes says why.
            with contextlib.suppress(RegistryError):
                await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once; raises RegistryError."""
        if (buried := self._replicas.buried) != self._buried:
            self._on_buried(buried - self._buried)
            self._buried = buried
        replicas, burden = await self._replicas.list(), await self._replicas.burden()
        apart = keeps_apart(replicas, token=self._token)
        if apart and apart != self.apart:
            _log.warning("replicas_apart", reason=apart)
        self.apart = apart
        clock = clock_apart(self._clock.now(), burden.clock)
        if clock and not self.clock:
            _log.warning("replica_clock_apart", reason=clock)
        self.clock = clock
        self.figures = ReplicaFigures(
            states=Counter(status_of(one).state for one in replicas),
            owned=sum(one.agents for one in replicas if one.me),
            orphans=burden.orphans,
            lease_age_seconds=max((one.beat_age_seconds for one in replicas), default=0.0),
            dead_rows=burden.dead_rows,
            oldest_xmin_seconds=burden.oldest_seconds,
        )


def clock_apart(here: float, there: float | None) -> str:
    """How far the clock here is from the database's, both in seconds since the epoch; empty where that is near enough.

    Nothing is decided by it: leases and moves go by the database's clock, and waits by one that nobody sets.
    """
    if there is None or abs(here - there) <= CLOCK_SECONDS:
        return ""
    which = "ahead of" if here > there else "behind"
    return (
        f"the clock of this machine is {abs(here - there):,.0f} s {which} the database's: times in its log, its "
        "figures and its messages are wrong by so much, and its agents go on; set the clock (NTP)"
    )


def keeps_apart(replicas: Sequence[Replica], *, token: bool) -> str:
    """Why a replica and the others of its registry cannot ask each other; empty where nothing is known of that.

    Args:
        token: whether it has an admin token, by which they prove who they are.
    """
    others = [one for one in replicas if not one.me]
    if not others:
        return ""
    if not token:
        return NO_TOKEN
    for me in (one for one in replicas if one.me):
        if urlsplit(me.address).hostname in LOOPBACK and any(one.host != me.host for one in others):
            return (
                f"the replicas on other machines cannot ask this one, which answers at {me.address}: "
                "set SUPERVISOR_ADMIN_HOST and SUPERVISOR_ADVERTISE_URL to an address that they reach"
            )
    return ""
