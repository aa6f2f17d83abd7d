"""The platform's REST side (docs/protocol.md#1-tokens, #7-findings).

It may import the sandbox's state and its switches. The sandbox's own HTTP side belongs to
:mod:`supervisor.sandbox.control`.
"""

from fastapi import APIRouter

from supervisor.sandbox.rest.agents import AgentRoutes
from supervisor.sandbox.rest.answers import Failures, PlatformError, error_answer
from supervisor.sandbox.rest.conversations import ConversationRoutes
from supervisor.sandbox.rest.files import FileRoutes
from supervisor.sandbox.rest.history import HistoryRoutes
from supervisor.sandbox.rest.inference import InferenceRoutes
from supervisor.sandbox.rest.tokens import TokenRoutes
from supervisor.sandbox.shared import Shared

__all__ = ["Failures", "PlatformError", "error_answer", "platform_routes"]


def platform_routes(shared: Shared) -> APIRouter:
    """The routes of a profile, under the configured prefix."""
    router = APIRouter(prefix=shared.config.rest_prefix, tags=["platform"])
    AgentRoutes(shared).add_to(router)
    TokenRoutes(shared).add_to(router)
    ConversationRoutes(shared).add_to(router)
    HistoryRoutes(shared).add_to(router)
    InferenceRoutes(shared).add_to(router)
    FileRoutes(shared).add_to(router)
    return router
