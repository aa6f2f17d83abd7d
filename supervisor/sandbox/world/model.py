"""A made-up model behind the LLM proxy: it says what it was told, as the provider in question would."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from supervisor.sandbox.world.ids import new_object_id

Provider = Literal["openai", "anthropic", "google"]

_PATHS: dict[Provider, str] = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
_KEPT_REQUESTS = 1000


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model that agents reach through the platform."""

    provider: Provider
    model: str
    id: str = field(default_factory=new_object_id)

    @property
    def path(self) -> str:
        """Where the provider takes requests."""
        return _PATHS.get(self.provider, f"/v1beta/models/{self.model}:generateContent")


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What reached the provider: the platform has put the deployment's model into it."""

    agent_id: str
    path: str
    body: dict[str, Any]


class Model:
    """The providers of all deployments."""

    def __init__(self) -> None:
        self._deployments: dict[str, Deployment] = {}
        #: What was asked, oldest first.
        self.requests: deque[ModelRequest] = deque(maxlen=_KEPT_REQUESTS)
        #: How the provider answers: with status and body, or None for an answer of its own.
        self.failure: tuple[int, dict[str, Any]] | None = None
        #: Whether the provider streams where it is asked to: the stream comes as one JSON string.
        self.streams = False

    def deploy(self, provider: Provider = "openai", model: str = "made-up-1") -> Deployment:
        """Deploy a model."""
        deployment = Deployment(provider, model)
        self._deployments[deployment.id] = deployment
        return deployment

    def find(self, deployment_id: str) -> Deployment | None:
        """The deployment of that id."""
        return self._deployments.get(deployment_id)

    def answer(
        self, deployment: Deployment, agent_id: str, path: str, body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any] | str]:
        """Status and body of the provider's answer to a request whose ``model`` the platform replaces."""
        asked = {name: value for name, value in body.items() if name != "model"}
        if deployment.provider != "google":
            asked["model"] = deployment.model
        self.requests.append(ModelRequest(agent_id, path, asked))
        if self.failure is not None:
            return self.failure
        if self.streams and asked.get("stream") is True and deployment.provider == "openai":
            return 200, _openai_stream(deployment.model, _reply(asked))
        return 200, _BODIES[deployment.provider](deployment.model, _reply(asked))


def _reply(body: Mapping[str, Any]) -> str:
    """What the model says: what it was told last."""
    messages = body.get("messages") or body.get("contents") or [{}]
    said = messages[-1].get("content") or messages[-1].get("parts") or ""
    if isinstance(said, list):
        said = "".join(str(part.get("text", "")) for part in said)
    return f"You said: {said}"


def _openai(model: str, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": f"chatcmpl-{new_object_id()}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _openai_stream(model: str, text: str) -> str:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": model}
    choices = [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    return f"data: {json.dumps({**chunk, 'choices': choices})}\n\ndata: [DONE]\n\n"


def _anthropic(model: str, text: str) -> dict[str, Any]:
    return {
        "id": f"msg_{new_object_id()}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def _google(model: str, text: str) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
        "modelVersion": model,
    }


_BODIES = {"openai": _openai, "anthropic": _anthropic, "google": _google}
