"""Works, reminders and sleep over HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from supervisor.sandbox.control.requests import ControlError, body_of, known_agent
from supervisor.sandbox.world.routes import Route

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox
    from supervisor.sandbox.world.shared import Shared


class NewWork(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Body of ``POST /sandbox/agents/{id}/works``."""

    title: str
    type: str = "task"
    priority_level: int = 1


class NewReminder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of ``POST /sandbox/agents/{id}/reminders``."""

    content: str


class NewSleep(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of ``POST /sandbox/agents/{id}/sleep``; without ``minutes`` until the agent is woken."""

    reason: str = "told to"
    minutes: float | None = None


class WorkControl:
    """Routes for what heartbeats bring, and for the sleep of agents."""

    def __init__(self, sandbox: Sandbox, shared: Shared) -> None:
        self._sandbox = sandbox
        self._works = shared.works
        self._heartbeats = shared.heartbeats

    def routes(self) -> Sequence[Route]:
        """The routes."""
        return (
            ("POST", "/agents/{agent_id}/works", self.assign),
            ("DELETE", "/works/{work_id}", self.finish),
            ("POST", "/agents/{agent_id}/reminders", self.remind),
            ("DELETE", "/reminders/{reminder_id}", self.reminded),
            ("POST", "/agents/{agent_id}/sleep", self.sleep),
            ("POST", "/agents/{agent_id}/wake", self.wake),
        )

    async def assign(self, agent_id: str, request: Request) -> Response:
        """Give an agent a work."""
        agent = known_agent(self._sandbox, agent_id)
        wanted = await body_of(request, NewWork)
        work = self._works.assign(agent.id, wanted.title, kind=wanted.type, priority_level=wanted.priority_level)
        return JSONResponse(work.shown(), status_code=201)

    async def finish(self, work_id: str) -> Response:
        """A work is done, as the platform's tools would say."""
        try:
            self._works.finish(work_id)
        except KeyError:
            raise ControlError(404, f"there is no work {work_id}") from None
        return Response(status_code=204)

    async def remind(self, agent_id: str, request: Request) -> Response:
        """Give an agent a reminder."""
        agent = known_agent(self._sandbox, agent_id)
        reminder = self._works.remind(agent.id, (await body_of(request, NewReminder)).content)
        return JSONResponse({"id": reminder.id, "content": reminder.content}, status_code=201)

    async def reminded(self, reminder_id: str) -> Response:
        """A reminder is dealt with."""
        try:
            self._works.reminded(reminder_id)
        except KeyError:
            raise ControlError(404, f"there is no reminder {reminder_id}") from None
        return Response(status_code=204)

    async def sleep(self, agent_id: str, request: Request) -> Response:
        """v3: put an agent to sleep: its people's messages carry ``skipAgent``."""
        agent = known_agent(self._sandbox, agent_id)
        wanted = await body_of(request, NewSleep)
        until = None if wanted.minutes is None else time.time() + 60 * wanted.minutes
        self._heartbeats.put_to_sleep(agent, wanted.reason, until=until)
        return JSONResponse({"status": agent.status})

    async def wake(self, agent_id: str) -> Response:
        """v3: end an agent's sleep."""
        agent = known_agent(self._sandbox, agent_id)
        self._heartbeats.wake(agent)
        return JSONResponse({"status": agent.status})
