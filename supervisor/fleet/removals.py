"""The ends of removed agents: nothing of them stays, neither a task nor a series nor a message that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from supervisor.core.errors import RegistryError
from supervisor.core.tasks import kept
from supervisor.fleet.runner import Runner
from supervisor.fleet.shared import Shared
from supervisor.telemetry.logs import get_logger

#: A removed agent has no work worth waiting long for.
GRACE_SECONDS = 2.0
#: How long to wait before a removed agent's messages are cancelled again, where the journal could not.
CANCEL_RETRY_SECONDS = 5.0


class Removals:
    """Removed agents that are not gone yet.

    Args:
        is_registered: whether an agent of an id is there again.
    """

    def __init__(
        self, shared: Shared, is_registered: Callable[[str], bool], *, retry_seconds: float = CANCEL_RETRY_SECONDS
    ) -> None:
        self._shared = shared
        self._is_registered = is_registered
        self._retry_seconds = retry_seconds
        self._under_way: dict[str, asyncio.Task[None]] = {}
        # Those, and earlier ones of agents that were added again, whose messages could not be cancelled yet.
        self._overdue: set[asyncio.Task[None]] = set()
        self._log = get_logger("supervisor.fleet")

    def begin(self, runner: Runner, task: asyncio.Task[None]) -> None:
        """Stop a removed agent and clear up after it.

        Args:
            task: runs ``runner``.
        """
        agent_id = runner.wanted.id
        runner.stop(GRACE_SECONDS)
        removal = asyncio.create_task(self._finish(runner, task), name=f"remove {agent_id}")
        self._under_way[agent_id] = removal
        removal.add_done_callback(lambda done: self._forget(agent_id, done))

    def of(self, agent_id: str) -> asyncio.Task[None] | None:
        """The end of the agent of an id that was removed last, while it is under way."""
        return self._under_way.get(agent_id)

    def stop(self) -> set[asyncio.Task[None]]:
        """Try no more to cancel what the journal did not take: the next start does.

        Returns:
            The removals that are under way, to be waited for.
        """
        for removal in self._overdue:
            removal.cancel()
        return {*self._under_way.values(), *self._overdue}

    def _forget(self, agent_id: str, removal: asyncio.Task[None]) -> None:
        self._overdue.discard(removal)
        if self._under_way.get(agent_id) is removal:
            del self._under_way[agent_id]

    def forget(self, runner: Runner) -> None:
        """Leave nothing in memory of an agent that has ended, unless it is there again."""
        agent_id = runner.wanted.id
        self._shared.outages.forget(agent_id)
        if not self._is_registered(agent_id):
            self._shared.metrics.agent_state(agent_id, runner.condition.state, None)
            self._shared.metrics.agent_removed(agent_id)
            self._shared.ledger.forget(agent_id)

    async def _finish(self, runner: Runner, task: asyncio.Task[None]) -> None:
        await kept(partial(asyncio.wait, [task]))
        agent_id = runner.wanted.id
        self.forget(runner)
        if runner.coming.waits:
            # It was another process's all the time.
            self._shared.metrics.called_off()
            return
        await kept(partial(self._cancel_all_messages, agent_id))

    async def _cancel_all_messages(self, agent_id: str) -> None:
        while not await self._cancel_messages(agent_id):
            await self._shared.clock.sleep(self._retry_seconds)
            if self._is_registered(agent_id):
                # It was added again meanwhile: what waits is its work.
                return

    async def _cancel_messages(self, agent_id: str) -> bool:
        """Cancel what waits for a removed agent; False when the journal cannot, which is logged once."""
        removal = asyncio.current_task()
        try:
            cancelled = await self._shared.journal.maintenance.cancel_agent(agent_id)
        except RegistryError as error:
            if removal is not None and removal not in self._overdue:
                self._overdue.add(removal)
                self._log.error("messages_not_cancelled", agent=agent_id, reason=str(error))
            return False
        if removal in self._overdue:
            self._log.info("messages_cancelled", agent=agent_id, messages=cancelled)
        return True
