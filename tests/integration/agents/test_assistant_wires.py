"""The assistant on whatever an endpoint answers with: streams, whole bodies, wrapped ones, and what is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import AsyncOpenAI, omit

from supervisor.handler import Reply, Thinking, ToolCall, ToolResult
from tests.support.fake_mcp import fake_mcp
from tests.support.fake_models import MODEL_KEY, Answer, Form, fake_models
from tests.support.fake_wires import openai_body
from tests.support.lone_assistants import lone_assistant, part

PROVIDERS = [("openai", "gpt-4o"), ("anthropic", "claude-opus-5"), ("google", "gemini-2.5-pro")]
FORMS: list[Form] = ["json", "string", "string in string", "lines", "array"]
LOGIN = "<!DOCTYPE html><html><head><title>Sign in &middot; Proxy</title></head><body>…</body></html>"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("provider", "model"), PROVIDERS)
async def test_an_answer_that_is_no_stream_is_read_and_remembered(provider: str, model: str, form: Form) -> None:
    if form == "array" and provider == "anthropic":
        pytest.skip("Anthropic has no arrays")
    async with fake_mcp() as tools, lone_assistant(provider, model, servers={"We": tools}) as assistant:
        assistant.models.form = form
        assistant.models.say(
            Answer("I look.", thinking="A tool.", tool_calls=(("mcp__We__weather", {"city": "Ulm"}),), usage=(9, 2, 0)),
            Answer("Sunny.", usage=(30, 4, 10)),
        )
        parts = await assistant.parts("How is the weather?")
        kinds = [type(part) for part in parts]
        assert kinds == [Thinking, Reply, ToolCall, ToolResult, Reply]
        assert (parts[0].content, parts[1].content, parts[4].content) == ("A tool.", "I look.", "Sunny.")  # type: ignore[union-attr]
        assert tools.calls == [("weather", {"city": "Ulm"})]
        assert [(call.prompt_tokens, call.completion_tokens, call.cached_tokens) for call in assistant.calls] == [
            (9, 2, 0),
            (30, 4, 10),
        ]
        # Once it is known, no stream is asked for any more; one request each, nothing is paid for twice.
        assert [request.streamed for request in assistant.models.requests] == [True, False]
        assert assistant.health is None


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("form", ["json", "string"])
async def test_the_platforms_proxy_is_answered_through_with_the_bearers_token_alone(provider: str, form: Form) -> None:
    async with lone_assistant(deployment=provider) as assistant:
        assistant.models.form = form
        assistant.models.say(Answer("Through the proxy.", usage=(12, 3, 0)))
        assert (await assistant.ask()).content == "Through the proxy."
        [request] = assistant.models.requests
        assert (request.provider, request.key) == (provider, "token-of-the-test")
        assert [call.total_tokens for call in assistant.calls] == [15]


async def test_what_the_proxy_passes_on_of_a_refusal_is_waited_out_without_a_retry_after() -> None:
    async with lone_assistant(deployment="openai") as assistant:
        error = {"error": {"message": "Rate limit reached.", "type": "requests", "code": "rate_limit_exceeded"}}
        assistant.models.say(Answer(status=429, error=error, headers={"Retry-After": "3000"}), Answer("Later."))
        assert (await assistant.ask()).content == "Later."


NO_ANSWERS = [
    ("text/html", LOGIN, "Sign in"),
    ("text/html; charset=utf-8", "<html>Bad gateway</html>", "Bad gateway"),
    ("text/plain", "upstream timed out", "upstream timed out"),
    ("application/json", '{"error": {"message": "Upstream is away.", "type": "server_error"}}', "Upstream is away"),
    ("application/json", '{"error": "upstream is away"}', "upstream is away"),
    ("application/json", '{"success": false, "message": "Nothing here."}', "Nothing here"),
    ("application/json", '{"statusCode": 503, "message": "Upstream is away.", "path": "/x"}', "Upstream is away"),
    ("application/json", '[{"error": {"code": 503, "message": "It is away.", "status": "UNAVAILABLE"}}]', "is away"),
    ("application/json", '"<html>a page in a string</html>"', "a page in a string"),
    ("application/json", "{}", "no answer"),
    ("application/json", "null", "no answer"),
    ("application/json", "", "empty"),
]


@pytest.mark.parametrize(
    ("provider", "kind", "body", "reason"),
    [
        *(("openai", *no_answer) for no_answer in NO_ANSWERS),
        *((provider, *NO_ANSWERS[number]) for provider in ("anthropic", "google") for number in (0, 3, 7)),
    ],
)
async def test_what_comes_with_200_and_is_no_answer_is_the_providers_trouble(
    provider: str, kind: str, body: str, reason: str
) -> None:
    async with lone_assistant(provider, retries=1) as assistant:
        assistant.models.say(Answer(raw=(kind, body)), Answer("Well again."))
        assert (await assistant.ask()).content == "Well again."
        assistant.models.otherwise = Answer(raw=(kind, body))
        apology = await assistant.ask()
        assert apology.type == "error"
        assert "does not answer at the moment" in apology.content
        assert (assistant.health or "").startswith("the model does not answer")
        assert reason.lower() in (assistant.health or "").lower()
        # Nothing was answered, nothing is counted.
        assert len(assistant.calls) == 1


async def test_a_login_page_makes_a_fallback_answer() -> None:
    async with lone_assistant() as assistant:
        assistant.settings["fallback_models"] = "openai:gpt-4o-mini"
        assistant.models.otherwise = lambda request: (
            Answer(raw=("text/html", LOGIN)) if request.model == "gpt-4o" else Answer("From the other.")
        )
        assert (await assistant.ask()).content == "From the other."


@pytest.mark.parametrize(
    "body",
    [
        {"data": openai_body(Answer("Wrapped."), "m")},
        {"success": True, "result": {"response": openai_body(Answer("Wrapped."), "m")}},
        {"response": json.dumps(openai_body(Answer("Wrapped."), "m"))},
    ],
)
async def test_an_answer_in_a_gateways_own_object_is_found(body: dict[str, Any]) -> None:
    async with lone_assistant() as assistant:
        assistant.models.say(Answer(raw=("application/json", json.dumps(body))))
        assert (await assistant.ask()).content == "Wrapped."
        assert [call.total_tokens for call in assistant.calls] == [15]


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/html", "application/json"])
async def test_a_stream_is_one_whatever_its_type_says(kind: str) -> None:
    events = (
        'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )
    async with lone_assistant() as assistant:
        assistant.models.say(Answer(raw=(kind, f"\ufeff\n{events}")))
        assert (await assistant.ask()).content == "Hi."


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model does not support streaming. Set stream to false."),
        (422, "stream: streaming is not supported"),
        (501, "Streaming is not implemented."),
        (400, "Unknown field: stream_options"),
    ],
)
async def test_a_server_that_refuses_to_stream_is_asked_without(status: int, message: str) -> None:
    async with lone_assistant() as assistant:
        refused = Answer(status=status, error={"error": {"message": message}})
        assistant.models.otherwise = lambda request: refused if request.streamed else Answer("Without a stream.")
        assert (await assistant.ask()).content == "Without a stream."
        assert (await assistant.ask()).content == "Without a stream."
        assert [request.streamed for request in assistant.models.requests] == [True, False, False]
        assert "stream_options" not in assistant.models.requests[1].body


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    async with lone_assistant(retries=0) as assistant:
        assistant.models.otherwise = Answer(status=302, error={}, headers={"Location": "https://login.example.com/x"})
        assert (await assistant.ask()).type == "error"
        assert "redirect to login.example.com" in (assistant.health or "")
        assert [request.key for request in assistant.models.requests] == [MODEL_KEY]


async def test_openais_client_sends_the_same_where_it_need_not_look_through_each_value() -> None:
    asked: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "a"}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}],
        "temperature": omit,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "extra_headers": {"X-Trace": "1"},
        "extra_body": {"top_k": 5},
        "timeout": 5,
    }
    async with fake_models() as models:
        heard = []
        for kind in (AsyncOpenAI, part("wire.openai_client").JsonOpenAI):
            async with kind(base_url=models.openai_url, api_key=MODEL_KEY, max_retries=0) as client:
                heard.append([chunk async for chunk in await client.chat.completions.create(**asked)])
        first, second = models.requests
        assert first.body == second.body
        assert first.body["top_k"] == 5
        assert "temperature" not in first.body
        assert heard[0] == heard[1]
