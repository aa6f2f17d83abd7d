"""Works and reminders that heartbeats bring, as messages of their own kind (docs/protocol.md#7-findings, 5)."""

from __future__ import annotations

from supervisor.core.errors import RegistryError
from supervisor.core.tasks import TaskSet
from supervisor.messages.inbox import Inbox
from supervisor.messages.scope import Scope
from supervisor.platform.heartbeats import Task
from supervisor.protocol import InboundMessage
from supervisor.protocol.inbound import TaskFacts
from supervisor.protocol.text import one_line


class Works:
    """What one agent was given to do.

    Each work and each reminder reaches the handler once, by its id: the platform repeats both with every heartbeat
    until the agent has ended them there, with the platform's own tools. A work that comes again once its message is
    settled was not ended. No works are asked for after that: for a work that is handed out four times the platform puts
    the agent to sleep, and then nobody is answered (docs/protocol.md#8-third-generation, 3).
    """

    def __init__(self, scope: Scope, inbox: Inbox) -> None:
        self._scope = scope
        self._inbox = inbox
        self._tasks = TaskSet()
        #: The id of the work that the handler did not end; None while there is none.
        self.undone: str | None = None
        self._resumed = 0

    @property
    def open(self) -> bool:
        """Whether works may be asked for: the last was taken in, and none was left undone."""
        return self.undone is None and not len(self._tasks)

    def take(self, task: Task) -> None:
        """Take what a heartbeat has brought; returns at once."""
        self._tasks.spawn(self._take(task), f"work {self._scope.agent_id}")

    def resume(self) -> None:
        """Ask for works again: the row or its handler changed, or somebody said so."""
        self.undone = None
        self._resumed += 1

    async def _take(self, task: Task) -> None:
        message = as_message(task)
        key = message.id or ""
        resumed = self._resumed
        try:
            known = await self._scope.journal.known_keys(self._scope.agent_id, [key])
        except RegistryError as error:
            # The next heartbeat brings it again.
            self._scope.log.warning("work_not_taken", number=key, reason=str(error))
            return
        if not known:
            self._inbox.take_task(message)
        elif resumed != self._resumed:
            # Somebody asked to go on after the platform had handed it out: it is asked for once more.
            return
        elif task.kind == "work" and self.undone is None and not self._inbox.waiting:
            self.undone = task.id
            remedy = "the handler has to end it with the platform's tools; agents reload asks for works again"
            self._scope.log.warning("work_undone", number=key, title=message.task and message.task.title, remedy=remedy)

    async def close(self) -> None:
        """Stop at once; what was not taken comes again."""
        await self._tasks.cancel()


def as_message(task: Task) -> InboundMessage:
    """A work or a reminder as a message: of a conversation of its own, to which no answer can be sent."""
    name = f"{task.kind}:{task.id}"
    priority = task.details.get("priorityLevel")
    facts = TaskFacts(
        id=task.id,
        title=one_line(task.details.get("title"), 1000),
        type=one_line(task.details.get("type")),
        status=one_line(task.details.get("status")),
        priority_level=priority if isinstance(priority, int) and abs(priority) < 2**53 else None,
    )
    content = task.text if task.text.strip() else facts.title or name
    return InboundMessage(conversation_id=name, id=name, role="user", content=content, source=task.kind, task=facts)
