"""The platform's REST side (docs/protocol.md#1-tokens, #7-findings).

It may import the sandbox's state and its switches. The sandbox's own HTTP side belongs to
:mod:`supervisor.sandbox.control`.
"""

from collections.abc import Iterator

from supervisor.sandbox.rest.agents import AgentRoutes
from supervisor.sandbox.rest.answers import Failures, PlatformError, error_answer
from supervisor.sandbox.rest.conversations import ConversationRoutes
from supervisor.sandbox.rest.files import FileRoutes
from supervisor.sandbox.rest.history import HistoryRoutes
from supervisor.sandbox.rest.inference import InferenceRoutes
from supervisor.sandbox.rest.tokens import TokenRoutes
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.shared import Shared

__all__ = ["Failures", "PlatformError", "error_answer", "platform_routes"]


def platform_routes(shared: Shared) -> Iterator[Route]:
    """The routes of a profile, below the configured prefix."""
    for routes in (AgentRoutes, TokenRoutes, ConversationRoutes, HistoryRoutes, InferenceRoutes, FileRoutes):
        yield from routes(shared).routes()
