"""What people hear while they wait: that it takes longer, once, if nothing else of the answer is seen for too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from supervisor.handler import Context, Part, Reply

from .trouble import WAIT


class Patience:
    """Sends the parts of one answer, and knows since when a person has seen none.

    Args:
        notice_seconds: after how long without one they are told; 0: never.
    """

    def __init__(self, ctx: Context, notice_seconds: float) -> None:
        self._ctx = ctx
        self._notice_seconds = notice_seconds
        self._seen = asyncio.Event()

    async def send(self, part: Part) -> None:
        """Send a part of the answer."""
        self._seen.set()
        await self._ctx.send(part)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Tell whoever waits too long meanwhile."""
        if not self._notice_seconds:
            yield
            return
        watch = asyncio.create_task(self._watch(), name="notice")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    async def _watch(self) -> None:
        with suppress(TimeoutError):
            while True:
                self._seen.clear()
                async with asyncio.timeout(self._notice_seconds):
                    await self._seen.wait()
        self._ctx.log.info("answer_takes_longer", seconds=self._notice_seconds)
        await self._ctx.send(Reply(WAIT, type="error"))
        # Some clients take any message for the end of the typing.
        self._ctx.typing()
