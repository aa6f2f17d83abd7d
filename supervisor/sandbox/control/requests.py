"""How control requests are read and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox
    from supervisor.sandbox.world.state import Agent

_BODY_LIMIT_BYTES = 1_000_000

B = TypeVar("B", bound=msgspec.Struct)


class ControlError(Exception):
    """A control request cannot be done; the message says what to change."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Chosen(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which agents an action concerns; None is everyone."""

    agents: list[str] | None = None


async def control_failed(_: Request, error: Exception) -> Response:
    """Turn a refusal into its answer."""
    status = error.status if isinstance(error, ControlError) else 500
    return JSONResponse({"error": str(error)}, status_code=status)


async def body_of(request: Request, shape: type[B]) -> B:
    """A request's body.

    Raises:
        ControlError: It is too large, no JSON, or of another shape.
    """
    raw = await request.body()
    if len(raw) > _BODY_LIMIT_BYTES:
        raise ControlError(413, f"the body is larger than {_BODY_LIMIT_BYTES} bytes")
    try:
        return msgspec.json.decode(raw or b"{}", type=shape)
    except msgspec.ValidationError as error:
        raise ControlError(422, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(400, f"the body is not JSON: {error}") from error


def known_agent(sandbox: Sandbox, agent_id: str) -> Agent:
    """An agent of the sandbox.

    Raises:
        ControlError: There is none of that id, or it was deleted.
    """
    agent = sandbox.agents.get(agent_id)
    if agent is None or agent.status == "deleted":
        raise ControlError(404, f"there is no agent {agent_id}")
    return agent


async def chosen_agents(sandbox: Sandbox, request: Request) -> list[str]:
    """The agents that a request names; empty is everyone.

    Raises:
        ControlError: One is not known.
    """
    agents = (await body_of(request, Chosen)).agents
    if agents is not None and not agents:
        raise ControlError(422, "agents must not be empty; leave it out to mean everyone")
    return [known_agent(sandbox, agent_id).id for agent_id in agents or ()]
