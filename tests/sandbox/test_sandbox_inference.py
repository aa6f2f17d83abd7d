"""The LLM proxy of a deployment (docs/protocol.md#1-tokens; #7-findings, 13)."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from supervisor.sandbox.world.model import Provider
from tests.sandbox.conftest import AGENT, SECRET, Client

SAID = {"messages": [{"role": "user", "content": "hello"}]}


async def deployment(client: Client, provider: Provider = "openai") -> tuple[dict[str, Any], str]:
    """What the token endpoint tells of an agent's deployment, and the token."""
    client.sandbox.deploy(AGENT, provider)
    _, answer = await client.ask("POST", f"/agents/{AGENT}/connect", {"secret": SECRET})
    return answer["deployment"], answer["accessToken"]


async def infer(client: Client, url: str, body: Any, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
    answer = await client.post(url, json=body, headers=headers)
    return answer.status, await answer.json(), answer.headers


@pytest.mark.parametrize(
    ("provider", "path", "body", "said"),
    [
        ("openai", "/v1/chat/completions", SAID, lambda a: a["choices"][0]["message"]["content"]),
        ("anthropic", "/v1/messages", SAID, lambda a: a["content"][0]["text"]),
        (
            "google",
            "/v1beta/models/made-up-1:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
            lambda a: a["candidates"][0]["content"]["parts"][0]["text"],
        ),
    ],
)
async def test_the_connect_answer_points_at_a_proxy_that_speaks_as_the_provider(
    v2: Client, provider: Provider, path: str, body: Any, said: Any
) -> None:
    found, token = await deployment(v2, provider)
    assert found["apiEndpoint"] == f"{found['baseAPIEndpoint']}{path}"
    status, answer, _ = await infer(v2, found["apiEndpoint"], body, Authorization=f"Bearer {token}")
    assert (status, said(answer)) == (200, "You said: hello")


async def test_it_reads_the_bearer_token_and_no_other_key(v2: Client) -> None:
    found, token = await deployment(v2)
    for headers in ({}, {"x-api-key": token}, {"x-goog-api-key": token}, {"Authorization": "Bearer nonsense"}):
        assert (await infer(v2, found["apiEndpoint"], SAID, **headers))[0] == 401


async def test_it_replaces_the_model(v2: Client) -> None:
    found, token = await deployment(v2)
    await infer(v2, found["apiEndpoint"], {**SAID, "model": "mine"}, Authorization=f"Bearer {token}")
    [request] = v2.sandbox.model.requests
    assert (request.agent_id, request.body["model"]) == (AGENT, "made-up-1")


async def test_it_ignores_a_wish_to_stream(v2: Client) -> None:
    found, token = await deployment(v2)
    status, answer, headers = await infer(
        v2, found["apiEndpoint"], {**SAID, "stream": True}, Authorization=f"Bearer {token}"
    )
    assert (status, headers["content-type"]) == (200, "application/json")
    assert answer["choices"][0]["message"]["content"] == "You said: hello"


async def test_a_stream_comes_as_one_json_string(v2: Client) -> None:
    found, token = await deployment(v2)
    v2.sandbox.model.streams = True
    status, answer, headers = await infer(
        v2, found["apiEndpoint"], {**SAID, "stream": True}, Authorization=f"Bearer {token}"
    )
    assert (status, headers["content-type"], type(answer)) == (200, "application/json", str)
    first, last, _ = answer.split("\n\n")
    assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["content"] == "You said: hello"
    assert last == "data: [DONE]"


async def test_it_passes_the_providers_status_and_body_and_no_headers(v2: Client) -> None:
    found, token = await deployment(v2)
    refusal = {"error": {"message": "Rate limit reached", "type": "requests"}}
    v2.sandbox.model.failure = (429, refusal)
    status, answer, headers = await infer(v2, found["apiEndpoint"], SAID, Authorization=f"Bearer {token}")
    assert (status, answer) == (429, refusal)
    assert "Retry-After" not in headers


async def test_a_deployment_that_is_not_there(v2: Client) -> None:
    found, token = await deployment(v2)
    url = found["apiEndpoint"].replace(found["id"], "0" * 24)
    assert (await infer(v2, url, SAID, Authorization=f"Bearer {token}"))[0] == 404


async def test_a_deployment_over_the_sandboxes_own_side(v2: Client) -> None:
    url = f"{v2.sandbox.base_url}/sandbox/agents/{AGENT}/deployment"
    answer = await v2.post(url, json={"provider": "anthropic", "model": "m"})
    assert answer.status == 201
    assert (await answer.json())["deployment"]["provider"] == "anthropic"


async def test_v1_tells_an_agent_of_no_deployment(v1: Client) -> None:
    v1.sandbox.deploy(AGENT)
    _, answer = await v1.ask("POST", f"/agents/{AGENT}/connect", {"secret": SECRET})
    assert "deployment" not in answer
