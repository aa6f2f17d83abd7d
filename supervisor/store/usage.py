"""What agents used, on its way into the journal: summed up, and committed together with whatever else is."""

from __future__ import annotations

import threading

from supervisor.core.errors import RegistryError
from supervisor.core.records import UsageRecord
from supervisor.store.committer import GroupCommitter
from supervisor.store.dialect.operations import AddUsage
from supervisor.store.hooks import JournalHooks


class UsageJournal:
    """Sums up what was used until the next commit takes it along, so that it costs no transaction of its own.

    What is added before a message is settled is committed with that settling or before it. Where no other commit
    comes, :meth:`write` makes one.
    """

    def __init__(self, committer: GroupCommitter, hooks: JournalHooks) -> None:
        self._committer = committer
        self._committer.on_batch = self._take
        self._hooks = hooks
        self._lock = threading.Lock()
        # By day, agent and model; replaced as a whole, with the lock held.
        self._sums: dict[tuple[str, str, str], UsageRecord] = {}

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

    def _take(self) -> AddUsage | None:
        if not self._sums:
            return None
        with self._lock:
            taken, self._sums = self._sums, {}
        return AddUsage(records=list(taken.values()), then=self._warn_lost)

    def _warn_lost(self, _: None, error: RegistryError | None) -> None:
        if error is not None:
            self._hooks.on_usage_lost(str(error))
