"""Tells the agents' pipelines what other processes did in the journal: replays, and messages that were settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from supervisor.core.states import MessageState
from supervisor.messages import Pipeline
from supervisor.store import Journal

#: How often the counts of an agent that is busy are asked for before they are left to the next time.
CORRECTIONS = 5
#: What an inbox counts as waiting or running.
UNSETTLED = (MessageState.AVAILABLE, MessageState.RETRYABLE, MessageState.RUNNING)


class JournalSync:
    """Brings pipelines up to date with the journal.

    Args:
        pipelines: gives those of all agents, by id, as they are now.
        on_handed_in: told of how many messages it was heard that another process has handed in.
    """

    def __init__(
        self,
        journal: Journal,
        pipelines: Callable[[], Mapping[str, Pipeline]],
        on_handed_in: Callable[[int], None] = lambda _messages: None,
    ) -> None:
        self._journal = journal
        self._pipelines = pipelines
        self._on_handed_in = on_handed_in
        # What was handed in and waited at the last look.
        self._handed_in: frozenset[int] = frozenset()
        self._taking_up = asyncio.Lock()

    async def take_up_replays(self) -> None:
        """Hand what a person replayed to its agents, and correct the counts of all inboxes.

        Messages go to the lanes, replies to the outboxes; both ignore what they have. An agent that has not read the
        journal yet, or no longer runs on it, finds them there when it does.

        Raises:
            RegistryError: the journal cannot be read.
        """
        # First: a message that is handed over should not be done before the counts are read.
        await self._take_up_replies()
        rows = await self._journal.replayed()
        self._count_handed_in(frozenset(row.id for row in rows if not row.replay))
        restored = self._restored()
        for row in rows:
            pipeline = restored.get(row.agent_id)
            if pipeline is not None:
                pipeline.lanes.put(row)
        await self.correct_counts()

    def _count_handed_in(self, now: frozenset[int]) -> None:
        if news := now - self._handed_in:
            self._on_handed_in(len(news))
        self._handed_in = now

    async def _take_up_replies(self) -> None:
        # One at a time, and none that was unsettled when the journal was asked: it may have been settled since.
        async with self._taking_up:
            unsettled = {name: pipeline.outbox.unsettled for name, pipeline in self._restored().items()}
            replies = await self._journal.replayed_replies()
            restored = self._restored()
            for reply in replies:
                pipeline = restored.get(reply.agent_id)
                if pipeline is not None and reply.id not in unsettled.get(reply.agent_id, {reply.id}):
                    pipeline.outbox.resend(reply)

    def _restored(self) -> dict[str, Pipeline]:
        return {name: pipeline for name, pipeline in self._pipelines().items() if pipeline.restored}

    async def correct_counts(self) -> None:
        """Correct the inbox counts kept in memory from the journal: other processes settle messages too.

        What inboxes refused meanwhile is told.

        Raises:
            RegistryError: the journal cannot be read.
        """
        left = {agent_id: pipeline.inbox for agent_id, pipeline in self._pipelines().items()}
        for inbox in left.values():
            inbox.tell_refused()
        for _ in range(CORRECTIONS):
            before = {agent_id: inbox.changes for agent_id, inbox in left.items()}
            counts = await self._journal.counts()
            for agent_id, inbox in list(left.items()):
                # What changed while the journal was read, the figures may have or not.
                if inbox.changes == before[agent_id]:
                    by_state = counts.get(agent_id, {})
                    waiting = sum(by_state.get(state, 0) for state in UNSETTLED)
                    inbox.correct(unsettled=waiting, dead=by_state.get(MessageState.DEAD, 0))
                    del left[agent_id]
            if not left:
                return
