"""The sandbox's own HTTP side, under ``/sandbox``: agents, people, fault switches. The platform has none of it.

It may import the sandbox as a whole. What the platform itself answers belongs to :mod:`supervisor.sandbox.rest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends

from supervisor.sandbox.control.agents import AgentControl
from supervisor.sandbox.control.faults import FaultControl
from supervisor.sandbox.control.guard import guard
from supervisor.sandbox.control.people import PeopleControl
from supervisor.sandbox.control.requests import ControlError, control_failed
from supervisor.sandbox.control.works import WorkControl

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox
    from supervisor.sandbox.shared import Shared

__all__ = ["ControlError", "control_failed", "control_routes"]


def control_routes(sandbox: Sandbox, shared: Shared) -> APIRouter:
    """The routes under ``/sandbox``; every answer to a bad request is ``{"error": …}``."""
    router = APIRouter(prefix="/sandbox", tags=["sandbox"], dependencies=[Depends(guard(shared.config.host))])
    for part in (AgentControl(sandbox), PeopleControl(sandbox), FaultControl(sandbox), WorkControl(sandbox, shared)):
        for method, path, endpoint in part.routes():
            router.add_api_route(path, endpoint, methods=[method])
    return router
