"""A flag that tasks wait for: ``asyncio.Event`` without the queue for waiters, 700 bytes though nobody waits."""

from __future__ import annotations

import asyncio


class Flag:
    """A flag with few waiters."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        # Most flags have nobody who waits.
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all who wait."""
        self._is_set = True
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Whoever waits from now on waits for the next time that it is set."""
        self._is_set = False

    def waiter(self) -> asyncio.Future[None]:
        """A future that is done once it is set. Whoever does not wait any more cancels it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._is_set:
            waiter.set_result(None)
        else:
            self._waiters = (*(one for one in self._waiters if not one.done()), waiter)
        return waiter

    async def wait(self) -> None:
        """Return once it is set."""
        if not self._is_set:
            await self.waiter()
