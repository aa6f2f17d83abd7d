"""An inbox that takes works and reminders, and what its lanes are given, for tests of what heartbeats bring."""

from __future__ import annotations

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.inbox import Inbox, Intake
from supervisor.messages.lanes import Lanes
from supervisor.messages.scope import Scope
from supervisor.messages.works import Works
from supervisor.platform.heartbeats import Task
from tests.support.journaling import AGENT
from tests.support.lanes import beginning
from tests.support.messaging import until


class WorkDesk:
    """An inbox that takes works, and what its lanes were given."""

    def __init__(self, scope: Scope) -> None:
        self.journal = scope.journal
        self.limit = 10
        self.given: list[JournaledMessage] = []
        self.full: list[str] = []
        dispatcher = Dispatcher(10)
        lanes = Lanes(dispatcher, scope.clock, concurrency=lambda: 10, begin=beginning(self._work), refill=self._refill)
        lanes.resume()
        self.inbox = Inbox(
            scope,
            lanes,
            dispatcher.memory,
            handler=lambda: "echo",
            intake=lambda: Intake(("user",), self.limit, 0, commands=True),
            on_full=self.full.append,
            on_command=lambda _: None,
        )
        self.works = Works(scope, self.inbox)

    async def _work(self, row: JournaledMessage) -> None:
        self.given.append(row)
        await self.journal.settle(row, MessageState.DONE)
        self.inbox.settled(dead=False)

    async def _refill(self, after_id: int, limit: int) -> list[JournaledMessage]:
        return await self.journal.unsettled(AGENT, after_id=after_id, limit=limit)

    async def take(self, task: Task) -> None:
        """Take a task and wait until it is decided and nothing waits."""
        self.works.take(task)
        assert not self.works.open, "while it is being taken in, nothing more is asked for"
        await until(lambda: self.works.open or self.works.undone)
        await until(lambda: not self.inbox.waiting)
