"""Works and reminders that wait for agents (docs/protocol.md#7-findings, 5).

On the platform an agent starts and ends a work by tools of the platform's MCP server; here :meth:`Works.finish` does.
"""

from dataclasses import dataclass, field
from typing import Any

from supervisor.sandbox.world.ids import new_object_id
from supervisor.sandbox.world.log import EventLog


@dataclass(slots=True)
class Work:
    """Something an agent is to do."""

    id: str
    agent_id: str
    title: str
    type: str = "task"
    status: str = "todo"
    priority_level: int = 1
    handed_out: int = 0
    """How often a heartbeat has brought it."""

    def shown(self) -> dict[str, Any]:
        """As a heartbeat's answer has it."""
        return {
            "id": self.id,
            "title": self.title,
            "type": self.type,
            "status": self.status,
            "priorityLevel": self.priority_level,
        }


@dataclass(slots=True)
class Reminder:
    """Something an agent wanted to be reminded of."""

    agent_id: str
    content: str
    id: str = field(default_factory=new_object_id)


class Works:
    """What waits for whom; the first work that was assigned is handed out until it is finished."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._works: dict[str, Work] = {}
        self._reminders: dict[str, Reminder] = {}

    def assign(self, agent_id: str, title: str, *, kind: str = "task", priority_level: int = 1) -> Work:
        """Give an agent a work; its next idle heartbeat brings it."""
        work = Work(new_object_id(), agent_id, title, type=kind, priority_level=priority_level)
        self._works[work.id] = work
        self._log.add("work_assigned", agent_id, work=work)
        return work

    def finish(self, work_id: str) -> None:
        """The agent has done a work: it is handed out no more.

        Raises:
            KeyError: There is no such work.
        """
        work = self._works.pop(work_id)
        work.status = "done"
        self._log.add("work_finished", work.agent_id, work=work)

    def remind(self, agent_id: str, content: str) -> Reminder:
        """Give an agent a reminder; idle heartbeats bring all of them while there is no work."""
        reminder = Reminder(agent_id, content)
        self._reminders[reminder.id] = reminder
        return reminder

    def reminded(self, reminder_id: str) -> None:
        """The agent has dealt with a reminder.

        Raises:
            KeyError: There is no such reminder.
        """
        del self._reminders[reminder_id]

    def waiting(self, agent_id: str) -> list[Work]:
        """An agent's unfinished works, the first one first."""
        return [work for work in self._works.values() if work.agent_id == agent_id]

    def reminders(self, agent_id: str) -> list[Reminder]:
        """An agent's reminders."""
        return [reminder for reminder in self._reminders.values() if reminder.agent_id == agent_id]
