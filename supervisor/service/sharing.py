"""What several processes that run one registry share: rates of hosts, budgets, and the news that a host is down."""

from __future__ import annotations

from typing import Final

from supervisor.core.days import day_of
from supervisor.core.errors import RegistryError
from supervisor.fleet import Shared
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger

#: How often it is looked how many there are.
LOOK_SECONDS: Final = 1.0
#: How often it is read what the others' agents have used, where there is a budget.
USAGE_SECONDS: Final = 5.0


class Sharing:
    """Gives this process its part; where it is alone, that is everything."""

    def __init__(self, registry: Registry, shared: Shared) -> None:
        self._registry = registry
        self._shared = shared
        self._read_at = 0.0
        self._log = get_logger("supervisor.registry")

    async def run(self) -> None:
        """Follow the others until cancelled."""
        while True:
            self.share_rates()
            self.share_outages()
            try:
                await self.read_usage()
            except RegistryError as error:
                self._log.warning("usage_not_read", reason=str(error))
            await self._shared.clock.sleep(LOOK_SECONDS)

    def share_rates(self) -> None:
        """Ask of each host as much as is this one's part."""
        living = self._registry.replicas.living
        for bounds in (self._shared.gates, self._shared.outages, self._shared.checks):
            bounds.share_with(living)

    def share_outages(self) -> None:
        """Tell the others which hosts are down, and hear it of them."""
        self._registry.replicas.tell_down(self._shared.outages.down)
        self._shared.outages.hear(self._registry.replicas.heard_down)

    async def read_usage(self) -> None:
        """Count what the others' agents used, and what this one's agents used elsewhere.

        Raises:
            RegistryError: it cannot be read.
        """
        now = self._shared.clock.monotonic()
        if now < self._read_at or not self._shared.ledger.bounded:
            return
        self._read_at = now + USAGE_SECONDS
        self._shared.ledger.load(await self._registry.usage(since_day=day_of(self._shared.clock.now())))
