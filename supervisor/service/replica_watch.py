"""Looks now and then at the replicas of the registry and at what its server carries, for the metrics."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.replicas import status_of
from supervisor.store import Registry
from supervisor.telemetry.metrics.replicas import ReplicaFigures

#: How often: a beat that is late is seen before its owner is given up.
LOOK_SECONDS: Final = 5.0


class ReplicaWatch:
    """What was found at the last look.

    Args:
        on_buried: told how many others were found dead since the last look, where any were.

    Attributes:
        figures: None until there was one.
    """

    def __init__(self, registry: Registry, clock: Clock, on_buried: Callable[[int], None]) -> None:
        self._replicas = registry.replicas
        self._clock = clock
        self._on_buried = on_buried
        self._buried = 0
        self.figures: ReplicaFigures | None = None

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
        self.figures = ReplicaFigures(
            states=Counter(status_of(one).state for one in replicas),
            owned=sum(one.agents for one in replicas if one.me),
            orphans=burden.orphans,
            lease_age_seconds=max((one.beat_age_seconds for one in replicas), default=0.0),
            dead_rows=burden.dead_rows,
            oldest_xmin_seconds=burden.oldest_seconds,
        )
