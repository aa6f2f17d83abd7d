"""What touches many rows of the journal at once: taking over what is left, cancelling, erasing, pruning."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from supervisor.core.clock import Clock
from supervisor.store.committer import GroupCommitter
from supervisor.store.dialect import JournalChanges

#: The platform's clock may be a little ahead, and a backfill looks a little before the time it is given.
PURGE_MARGIN_SECONDS: Final = 10.0


class JournalMaintenance:
    """Each method runs after everything that the journal was asked for before it."""

    def __init__(self, changes: JournalChanges, committer: GroupCommitter, clock: Clock) -> None:
        self._changes = changes
        self._committer = committer
        self._clock = clock

    async def take_over(self) -> int:
        """At the start: take over what the last holder of the registry left; the number of messages rescued.

        One process runs the agents of a registry: whatever runs there ran in a process that is gone, and the work of
        whoever is not registered is nobody's (``docs/architecture.md#one-process``).
        """
        rescued = await self.rescue()
        await self.cancel_removed()
        return rescued

    async def rescue(self, agent_id: str | None = None) -> int:
        """What was running when the process died, or when one agent broke down, becomes available; how many.

        The attempt stays counted. Nothing of it may be running still.
        """
        await self._committer.flush()
        return await self._changes.rescue(agent_id)

    async def cancel_agent(self, agent_id: str) -> int:
        """An agent was removed: cancel its unsettled messages, give up its replies; the number of messages."""
        now = self._clock.now()
        await self._committer.flush()
        return await self._changes.cancel(agent_id, now)

    async def cancel_removed(self) -> int:
        """As :meth:`cancel_agent`, for every agent that is not registered any more."""
        now = self._clock.now()
        await self._committer.flush()
        return await self._changes.cancel(None, now)

    async def purge(self, agent_id: str, conversation_id: str | None = None) -> int:
        """Erase everything of an agent or of one conversation, on the disk too; the number of messages and replies."""
        now = self._clock.now() + PURGE_MARGIN_SECONDS
        await self._committer.flush()
        return await self._changes.purge(agent_id, conversation_id, now)

    async def erase(self, numbers: Sequence[int]) -> int:
        """Erase some messages, the replies to them and what sums up their conversations; how many rows, as above."""
        now = self._clock.now() + PURGE_MARGIN_SECONDS
        await self._committer.flush()
        return await self._changes.erase(numbers, now)

    async def prune(self, before: float) -> int:
        """Delete what was settled before ``before`` (seconds since the epoch), in slices.

        A reply counts from its own settlement; a message stays while a reply to it is on its way. Conversations that
        were last seen before ``before`` are forgotten; the keys that stand for agents stay.

        Returns:
            The number of messages and replies.
        """
        deleted = 0
        await self._committer.flush()
        async with aclosing(self._changes.prune(before)) as slices:
            async for some in slices:
                deleted += some
                # The journal's own commits go first.
                await self._committer.flush()
        return deleted

    async def prune_usage(self, before_day: str) -> int:
        """Delete what was used before a UTC day (``2026-01-31``); the number of rows."""
        await self._committer.flush()
        return await self._changes.prune_usage(before_day)
