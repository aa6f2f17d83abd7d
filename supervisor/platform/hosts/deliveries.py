"""Which hosts take replies: what waits for a host that does not is sent soon after one is acknowledged again.

A reply that fails tells nothing of its host by itself: it may be the only one that the platform will not have. So a
host is in trouble from a failure to the next acknowledgement, and a failure is the reply's own when, since others
failed, the host has taken several of theirs (docs/faults.md#r36).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from supervisor.core.backoff import RateLimit
from supervisor.core.clock import Clock
from supervisor.core.owners import own_context
from supervisor.core.tasks import cancel_all, first_of, kept

#: So many replies a second are woken for each host.
WAKE_RATE: Final = 50.0
#: A reply is not sent again sooner than this after it failed, whoever is acknowledged meanwhile.
WAKE_SECONDS: Final = 1.0
#: While a host takes nothing one reply after the other is tried, at first so soon and then ever later up to the last.
PROBE_SECONDS: Final = (5.0, 10.0, 20.0, 40.0, 60.0)
#: A host that has taken so many others since is well: what fails there then fails for reasons of its own.
OTHERS_TAKEN: Final = 3


@dataclass(slots=True)
class _Host:
    """What is known of one host."""

    rate: RateLimit
    #: Whether the last send that was told of was acknowledged.
    well: bool = False
    acks: int = 0
    #: How often the host was tried since.
    probes: int = 0
    #: The two conversations that failed last, and how many acks there were then: two tell of any other than one.
    failing: OrderedDict[str, int] = field(default_factory=OrderedDict)
    #: Those who wait, in the order in which they failed, and the monotonic time before which they are left alone.
    waiting: OrderedDict[asyncio.Future[None], float] = field(default_factory=OrderedDict)
    recovered: asyncio.Event = field(default_factory=asyncio.Event)
    waker: asyncio.Task[None] | None = None


class Deliveries:
    """The sends of the whole fleet, host by host.

    Args:
        on_acked: told of each acknowledgement, with its host; must return at once.
    """

    def __init__(self, clock: Clock, on_acked: Callable[[str], None] = lambda _host: None) -> None:
        self._clock = clock
        self._on_acked = on_acked
        self._hosts: dict[str, _Host] = {}

    def acked(self, host: str) -> None:
        """A host has taken a send."""
        state = self._of(host)
        state.acks += 1
        if not state.well:
            state.well, state.probes = True, 0
            state.recovered.set()
        self._on_acked(host)

    def failed(self, host: str, conversation_id: str, acks_before: int | None) -> bool:
        """A send failed, and may succeed later; whether that is the reply's own trouble and not the host's.

        Args:
            acks_before: :meth:`acks` when the reply failed for the first time; None: it has not failed before.
        """
        state = self._of(host)
        others = [acks for failing, acks in state.failing.items() if failing != conversation_id]
        since = max([0 if acks_before is None else acks_before, *others])
        own = acks_before is not None and state.acks - since >= OTHERS_TAKEN
        if not own:
            state.failing[conversation_id] = state.acks
            state.failing.move_to_end(conversation_id)
            if len(state.failing) > 2:
                state.failing.popitem(last=False)
            state.well = False
            state.recovered.clear()
        return own

    def acks(self, host: str) -> int:
        """How many sends a host has taken."""
        return self._of(host).acks

    async def wait(self, host: str, seconds: float) -> None:
        """Wait for ``seconds``, or until the host takes sends again, or until this one is to try whether it does."""
        state = self._of(host)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        state.waiting[woken] = self._clock.monotonic() + WAKE_SECONDS
        if state.waker is None or state.waker.done():
            state.waker = asyncio.create_task(
                kept(partial(self._wake, state)), name=f"deliveries {host}", context=own_context()
            )
        try:
            await first_of(self._clock.sleep(seconds), beside=[woken])
        finally:
            woken.cancel()
            state.waiting.pop(woken, None)

    def waiting(self, host: str) -> int:
        """How many wait for a host."""
        return len(self._of(host).waiting)

    async def close(self) -> None:
        """Wake nobody any more."""
        await cancel_all([state.waker for state in self._hosts.values() if state.waker is not None])

    def _of(self, host: str) -> _Host:
        state = self._hosts.get(host)
        if state is None:
            state = self._hosts[host] = _Host(RateLimit(WAKE_RATE, 1, self._clock))
        return state

    async def _wake(self, state: _Host) -> None:
        """Wake those who wait: one after the other while the host is well, else one at a time to try it."""
        while state.waiting:
            if state.well:
                await state.rate.acquire()
            elif await self._recovered(state, PROBE_SECONDS[min(state.probes, len(PROBE_SECONDS) - 1)]):
                continue
            else:
                state.probes += 1
            await self._wake_next(state)

    async def _recovered(self, state: _Host, seconds: float) -> bool:
        """Wait until the host takes sends again, for ``seconds`` at most; whether it does."""
        await first_of(self._clock.sleep(seconds), state.recovered.wait())
        return state.well

    async def _wake_next(self, state: _Host) -> None:
        if not state.waiting:
            return
        woken, not_before = next(iter(state.waiting.items()))
        left = not_before - self._clock.monotonic()
        if left > 0:
            # The others failed later.
            await self._clock.sleep(left)
        state.waiting.pop(woken, None)
        if not woken.done():
            woken.set_result(None)
