"""What agents used, on its way into the journal: summed up, and committed together with whatever else is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from supervisor.core.records import UsageRecord
from supervisor.store import batch
from supervisor.store.committer import GroupCommitter


class UsageJournal:
    """Sums up what was used until the next commit takes it along, so that it costs no transaction of its own.

    What is added before a message is settled is committed with that settling or before it. Where no other commit
    comes, :meth:`write` makes one.
    """

    def __init__(self, committer: GroupCommitter) -> None:
        self._committer = committer
        self._committer.on_batch = self._take
        self._lock = threading.Lock()
        # By day, agent and model; replaced as a whole, with the lock held.
        self._sums: dict[tuple[str, str, str], UsageRecord] = {}
        #: Called on the loop with one readable line when what was used cannot be kept.
        self.on_lost: Callable[[str], None] | None = None

    def add(self, record: UsageRecord) -> None:
        """Keep what an agent used; may be called from any thread."""
        key = record.day, record.agent_id, record.model
        with self._lock:
            before = self._sums.get(key)
            self._sums[key] = record if before is None else before.plus(record)

    def write(self) -> None:
        """Have what was added committed now; nothing once the journal is closed."""
        if not self._committer.closed and (operation := self._take()) is not None:
            self._committer.submit(operation)

    def _take(self) -> batch.Spend | None:
        if not self._sums:
            return None
        with self._lock:
            taken, self._sums = self._sums, {}
        operation = batch.Spend(asyncio.get_running_loop().create_future(), list(taken.values()))
        operation.future.add_done_callback(self._note_end)
        return operation

    def _note_end(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None and self.on_lost is not None:
            self.on_lost(str(error))
