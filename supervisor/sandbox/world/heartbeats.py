"""Heartbeats, by REST and by event: what they change, and the work and reminders they bring."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from supervisor.sandbox.world.config import Profile
from supervisor.sandbox.world.state import Agent, PlatformState, Sleep
from supervisor.sandbox.world.works import Works

#: What a REST heartbeat may say.
_STATUSES: Final[dict[Profile, tuple[str, ...]]] = {
    "v1": ("online", "busy", "idle"),
    "v2": ("idle", "busy"),
    "v3": ("idle", "busy", "sleep"),
}
_UNDONE_LIMIT: Final = 4
_UNDONE_SLEEP_SECONDS: Final = 240 * 60.0

Fault = Literal["status", "missing", "suspended", "sleep"]


class HeartbeatError(Exception):
    """A heartbeat that is refused; ``fault`` says what is wrong with it."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Heartbeats:
    """Takes heartbeats and answers them."""

    def __init__(self, profile: Profile, state: PlatformState, works: Works) -> None:
        self._profile = profile
        self._state = state
        self._works = works
        self._sent_instructions: dict[str, Any] = {}

    def by_rest(self, agent_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a heartbeat that came by REST.

        Raises:
            HeartbeatError: It is refused.
        """
        status = body.get("status")
        if status not in _STATUSES[self._profile]:
            raise HeartbeatError("status", "Validation failed")
        agent = self._living(agent_id)
        self._state.log.add("heartbeat", agent_id, status=status)
        if self._profile == "v1":
            return {"success": True}
        self._refuse_suspended(agent)
        return {"success": True} | self._take(agent, status, body)

    def by_event(self, agent_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """v3: answer an ``agent:heartbeat``; ``instruction`` is in the answer when it has changed (a guess).

        Raises:
            HeartbeatError: It is refused.
        """
        agent = self._living(agent_id)
        self._refuse_suspended(agent)
        status = payload.get("status")
        if status not in _STATUSES[self._profile]:
            raise HeartbeatError("status", "status must be one of: idle, busy, sleep")
        self._state.log.add("heartbeat", agent_id, status=status, payload=dict(payload))
        answer = {"success": True} | self._take(agent, status, payload)
        sent = self._sent_instructions.setdefault(agent.id, agent.instruction)
        if agent.instruction is not None and sent != agent.instruction:
            self._sent_instructions[agent.id] = agent.instruction
            answer["instruction"] = {key: agent.instruction[key] for key in ("id", "systemPrompt")}
        return answer

    def wake(self, agent: Agent) -> None:
        """End an agent's sleep."""
        agent.sleep, agent.status = None, "idle"
        for work in self._works.waiting(agent.id):
            work.handed_out = 0
        self._state.log.add("awake", agent.id)

    def put_to_sleep(self, agent: Agent, reason: str, *, until: float | None = None) -> None:
        """Let an agent sleep until a time in seconds since the epoch, or until it is woken."""
        agent.sleep, agent.status = Sleep(reason, time.time(), until), "sleep"
        self._state.log.add("asleep", agent.id, reason=reason, until=until)

    def _living(self, agent_id: str) -> Agent:
        agent = self._state.living_agent(agent_id)
        if agent is None:
            raise HeartbeatError("missing", f"Agent with ID {agent_id} not found")
        return agent

    @staticmethod
    def _refuse_suspended(agent: Agent) -> None:
        if agent.status == "suspended":
            raise HeartbeatError("suspended", "Agent is suspended. Heartbeat rejected.")

    def _take(self, agent: Agent, status: str, said: Mapping[str, Any]) -> dict[str, Any]:
        if status == "sleep":
            self._take_sleep(agent, said.get("sleep"))
            return {}
        if status == "idle" and agent.sleep is not None and (agent.sleep.until is None or agent.sleep.over):
            self.wake(agent)
        if agent.asleep:
            return {}
        agent.status = "idle" if status == "idle" else "busy"
        takes_works = said.get("mcpConnected") is not False and said.get("availableFunctions") != []
        return self._next_task(agent) if status == "idle" and takes_works else {}

    def _take_sleep(self, agent: Agent, sleep: Any) -> None:
        if not isinstance(sleep, Mapping):
            raise HeartbeatError("sleep", "sleep field is required when status is sleep")
        until = sleep.get("until")
        self.put_to_sleep(agent, str(sleep.get("reason") or ""), until=_seconds(until) if until else None)

    def _next_task(self, agent: Agent) -> dict[str, Any]:
        """The first unfinished work, else the reminders; only idle agents are asked to do something."""
        if works := self._works.waiting(agent.id):
            work = works[0]
            work.handed_out += 1
            answer = {
                "work": work.shown(),
                "systemMessage": f'You have a work, @work:{work.id} "{work.title}", to be done now.',
                "systemTask": {"type": "work", "id": work.id, "title": work.title},
            }
            self._state.log.add("work_handed_out", agent.id, work=work)
            if self._profile == "v3" and work.handed_out >= _UNDONE_LIMIT:
                # Whether the fourth time still brings the work is not known.
                self.put_to_sleep(agent, "work not done", until=time.time() + _UNDONE_SLEEP_SECONDS)
            return answer
        reminders = self._works.reminders(agent.id)
        if not reminders:
            return {}
        return {
            "systemMessage": "\n".join(f"- [{reminder.id}] {reminder.content}" for reminder in reminders),
            "systemTask": {
                "type": "reminders",
                "reminders": [{"id": reminder.id, "content": reminder.content} for reminder in reminders],
            },
        }


def _seconds(moment: Any) -> float:
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        raise HeartbeatError("sleep", "sleep.until must be an ISO date") from None
