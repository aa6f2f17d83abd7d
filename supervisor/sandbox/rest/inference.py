"""The LLM proxy of a deployment (docs/protocol.md#1-tokens; #7-findings, 13)."""

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import JSONResponse

from supervisor.sandbox.rest.answers import PlatformError, authenticate, json_object
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.shared import Shared


class InferenceRoutes:
    """``/deployments/{id}/inference/…``: takes the agent's bearer token, asks the provider, passes its JSON on.

    It never streams: whatever the provider says is one JSON body, a stream one JSON string. Headers are not passed, so
    a 429 has no Retry-After.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def routes(self) -> Iterator[Route]:
        """The route."""
        yield "POST", "/deployments/{deployment_id}/inference/{path:path}", self.infer

    async def infer(self, deployment_id: str, path: str, request: Request) -> JSONResponse:
        """One request to the model."""
        identity = authenticate(self._shared, request)
        deployment = self._shared.model.find(deployment_id)
        if deployment is None:
            raise PlatformError(404, f"Deployment with ID {deployment_id} not found")
        body = await json_object(request)
        status, answer = self._shared.model.answer(deployment, identity.id, f"/{path}", body)
        return JSONResponse(answer, status_code=status)
