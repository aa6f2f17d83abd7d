"""The sandbox's own HTTP side, under ``/sandbox``: agents, people, fault switches. The platform has none of it.

It may import the sandbox as a whole. What the platform itself answers belongs to :mod:`supervisor.sandbox.rest`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from supervisor.sandbox.control.agents import AgentControl
from supervisor.sandbox.control.faults import FaultControl
from supervisor.sandbox.control.guard import guard
from supervisor.sandbox.control.people import PeopleControl
from supervisor.sandbox.control.requests import ControlError, control_failed
from supervisor.sandbox.control.works import WorkControl
from supervisor.sandbox.world.routes import Route

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox
    from supervisor.sandbox.world.shared import Shared

__all__ = ["ControlError", "control_failed", "control_routes", "guard"]


def control_routes(sandbox: Sandbox, shared: Shared) -> Iterator[Route]:
    """The routes below ``/sandbox``; every answer to a bad request is ``{"error": …}``."""
    for part in (AgentControl(sandbox), PeopleControl(sandbox), FaultControl(sandbox), WorkControl(sandbox, shared)):
        yield from part.routes()
