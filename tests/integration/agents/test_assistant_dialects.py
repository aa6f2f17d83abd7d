"""The assistant on each server that it is said to work with, as that one streams, counts, calls tools and refuses.

docs/assistant-endpoints.md has it as a table; the servers there are those here.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

import pytest

from supervisor.handler import HistoryItem, Reply, Thinking, ToolResult
from tests.support.fake_mcp import FakeMcp, fake_mcp
from tests.support.fake_models import Answer, Request
from tests.support.fake_refusals import Server, answer_too_long, blind, broken, busy, filtered, too_long, toolless
from tests.support.fake_wires import Dialect, Indices
from tests.support.lone_assistants import LoneAssistant, lone_assistant

SERVERS: tuple[Server, ...] = get_args(Server)
STREAMING = [server for server in SERVERS if server != "proxy"]
#: Anthropic always tells what it cost.
SILENT = [server for server in SERVERS if server != "anthropic"]
#: Others have no bound of their own on an answer, or none that depends on the question.
BOUNDED: list[Server] = ["openai", "vllm", "litellm", "proxy", "anthropic", "google"]
#: Servers of open models let everything through.
FILTERING: list[Server] = ["openai", "litellm", "proxy", "anthropic", "google"]
#: All models of the others take tools.
TOOLLESS: list[Server] = ["vllm", "ollama", "litellm", "llama.cpp"]
#: All models of the others see.
BLIND: list[Server] = ["openai", "vllm", "ollama", "litellm", "llama.cpp", "proxy"]
#: The index of each call and their ids, as servers were seen to give them; None: the server's own.
ODD: list[tuple[Indices, tuple[str, ...] | None]] = [
    ("zero", None),
    ("none", None),
    ("zero", ("", "")),
    ("none", ("", "")),
    ("counted", ("", "")),
    ("counted", ("0", "0")),
    ("counted", ("weather", "weather")),
]
CALLS = (("mcp__We__weather", {"city": "Ulm"}), ("mcp__We__weather", {"city": "Bonn"}))


@asynccontextmanager
async def served(server: Server, **given: Any) -> AsyncIterator[LoneAssistant]:
    """An assistant whose models are this server's."""
    other = {"anthropic": ("anthropic", "claude-opus-5"), "google": ("google", "gemini-2.5-pro")}
    provider, model = other.get(server, ("openai", "m"))
    if server == "proxy":
        given["deployment"] = "openai"
    async with lone_assistant(provider, model, **given) as assistant:
        if server in get_args(Dialect):
            assistant.models.dialect = server  # type: ignore[assignment]
        yield assistant


def counted(assistant: LoneAssistant) -> list[tuple[int, int, int]]:
    return [(call.prompt_tokens, call.completion_tokens, call.cached_tokens) for call in assistant.calls]


@pytest.mark.parametrize("server", STREAMING)
async def test_a_stream_is_read_with_what_it_thinks_and_costs(server: Server) -> None:
    async with served(server) as assistant:
        reasoning = 0 if server == "anthropic" else 7
        assistant.models.say(Answer("It is 42.", thinking="Hm, hm.", usage=(100, 20, 30), reasoning=reasoning))
        thinking, reply = await assistant.parts()
        assert isinstance(thinking, Thinking)
        assert isinstance(reply, Reply)
        assert (thinking.content, reply.content) == ("Hm, hm.", "It is 42.")
        assert counted(assistant) == [(100, 20, 30)]
        assert assistant.ctx.used.reasoning_tokens == reasoning
        assert assistant.health is None


@pytest.mark.parametrize("form", ["json", "string"])
@pytest.mark.parametrize("server", SERVERS)
async def test_one_body_and_a_stream_in_a_string_are_read_as_the_stream_is(server: Server, form: Any) -> None:
    async with served(server) as assistant:
        assistant.models.form = form
        assistant.models.say(Answer("It is 42.", thinking="Hm, hm.", usage=(100, 20, 30)))
        thinking, reply = await assistant.parts()
        assert isinstance(thinking, Thinking)
        assert isinstance(reply, Reply)
        assert (thinking.content, reply.content) == ("Hm, hm.", "It is 42.")
        assert counted(assistant) == [(100, 20, 30)]


@pytest.mark.parametrize("server", SILENT)
async def test_without_a_report_tokens_are_estimated(server: Server) -> None:
    async with served(server) as assistant:
        assistant.models.otherwise = Answer("y" * 400, reports="none")
        await assistant.ask("x" * 4000)
        [(given, made, _)] = counted(assistant)
        assert 1000 <= given <= 1100
        assert 100 <= made <= 110
        assert assistant.ctx.used.estimated


@pytest.mark.parametrize("server", SERVERS)
async def test_what_is_too_long_in_its_words_is_shortened_and_remembered(server: Server) -> None:
    limit = 2000

    def answers(request: Request) -> Answer:
        asked = len(request.said) // 2
        return Answer("Short enough.") if asked <= limit else too_long(server, limit, asked)

    async with served(server) as assistant:
        for number in range(16):
            assistant.said.append(HistoryItem("user", f"Question {number}? {'x' * 400}", 0.0))
            assistant.said.append(HistoryItem("assistant", f"Answer {number}. {'x' * 400}", 0.0))
        assistant.models.otherwise = answers
        assert (await assistant.ask("And now?")).content == "Short enough."
        # Ollama tells no figure of its window.
        assert len(assistant.models.requests) <= (4 if server == "ollama" else 2)
        before = len(assistant.models.requests)
        assert (await assistant.ask("And then?")).content == "Short enough."
        assert len(assistant.models.requests) - before <= (2 if server == "ollama" else 1)
        assert assistant.health is None


@pytest.mark.parametrize("server", BOUNDED)
async def test_more_room_for_the_answer_than_there_is_is_not_the_persons_fault(server: Server) -> None:
    def answers(request: Request) -> Answer:
        bounded = "5000" in json.dumps(request.body)
        return answer_too_long(server, 4096, 12, 5000) if bounded else Answer("As long as it may be.")

    async with served(server, max_output_tokens=5000) as assistant:
        assistant.models.otherwise = answers
        for requests in (2, 3):
            assert (await assistant.ask("hello")).content == "As long as it may be."
            assert len(assistant.models.requests) == requests
        assert "max_tokens is left out: " in (assistant.health or "")


async def both(assistant: LoneAssistant, tools: FakeMcp, answer: Answer) -> None:
    """Two calls at once are made as two, and each has its own result."""
    assistant.models.say(answer, Answer("Sunny."))
    parts = await assistant.parts("How is the weather in Ulm and Bonn?")
    assert isinstance(last := parts[-1], Reply)
    assert last.content == "Sunny."
    assert sorted(call["city"] for _, call in tools.calls) == ["Bonn", "Ulm"]
    assert [one.success for one in parts if isinstance(one, ToolResult)] == [True, True]
    results = [
        message for message in assistant.models.requests[1].body.get("messages", ()) if message["role"] == "tool"
    ]
    assert len({result["tool_call_id"] for result in results}) == len(results)
    assert assistant.health is None


@pytest.mark.parametrize("server", SERVERS)
async def test_calls_in_pieces_and_side_by_side_are_told_apart(server: Server) -> None:
    async with fake_mcp() as tools, served(server, servers={"We": tools}) as assistant:
        await both(assistant, tools, Answer(tool_calls=CALLS))


@pytest.mark.parametrize(("indices", "call_ids"), ODD)
@pytest.mark.parametrize("server", get_args(Dialect)[:5])
async def test_calls_without_ids_or_places_of_their_own_are_told_apart_too(
    server: Server, indices: Indices, call_ids: tuple[str, ...] | None
) -> None:
    async with fake_mcp() as tools, served(server, servers={"We": tools}) as assistant:
        await both(assistant, tools, Answer(tool_calls=CALLS, indices=indices, call_ids=call_ids))


@pytest.mark.parametrize("server", TOOLLESS)
async def test_one_that_takes_no_tools_answers_without(server: Server) -> None:
    async with fake_mcp() as tools, served(server, servers={"We": tools}) as assistant:
        assistant.models.otherwise = lambda request: toolless(server) if request.tools else Answer("Without tools.")
        for requests in (2, 3):
            assert (await assistant.ask()).content == "Without tools."
            assert len(assistant.models.requests) == requests
        assert (assistant.health or "").startswith("the model does not take the tools mcp__We__")


@pytest.mark.parametrize("server", FILTERING)
async def test_what_its_filter_keeps_back_is_an_answer_and_asked_once(server: Server) -> None:
    async with served(server) as assistant:
        assistant.models.otherwise = filtered(server)
        reply = await assistant.ask("something bad")
        assert (reply.type, reply.content) == (None, "I am sorry, I cannot help with that.")
        assert len(assistant.models.requests) == 1
        assert assistant.health is None


@pytest.mark.parametrize("server", SERVERS)
async def test_one_that_is_busy_is_left_in_peace_for_as_long_as_it_says(server: Server) -> None:
    # What tells no time is tried again after one of our own.
    silent = server in ("ollama", "llama.cpp", "proxy")
    async with served(server) as assistant:
        assistant.models.say(busy(server, 1), Answer("Now."))
        began = time.monotonic()
        assert (await assistant.ask()).content == "Now."
        assert len(assistant.models.requests) == 2
        assert silent or time.monotonic() - began >= 1.0
        assert assistant.health is None


@pytest.mark.parametrize("server", SERVERS)
async def test_an_error_in_the_midst_of_a_good_answer_is_told_and_tried_again(server: Server) -> None:
    trouble = Answer("Half of it is here", error=broken(server))
    if server == "proxy":
        trouble = Answer(raw=("application/json", broken(server)))
    async with served(server, retries=1) as assistant:
        assistant.models.say(trouble, Answer("All of it."))
        assert [part.content for part in await assistant.parts() if isinstance(part, Reply)] == ["All of it."]
        assistant.models.otherwise = trouble
        apology = await assistant.ask()
        assert apology.type == "error"
        assert "It broke in the midst." in (assistant.health or "")


async def test_lines_may_end_in_any_way() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "Half"}}]}
    text = f'data: {json.dumps(chunk)}\r\n\r\nerror: {{"code": 500, "message": "It broke in the midst."}}\r\n\r\n'
    async with lone_assistant(retries=0) as assistant:
        assistant.models.otherwise = Answer(raw=("text/event-stream", text))
        await assistant.ask()
        assert "It broke in the midst." in (assistant.health or "")


@pytest.mark.parametrize("server", SERVERS)
async def test_an_answer_that_is_cut_off_on_its_way_is_asked_for_again(server: Server) -> None:
    cut = Answer("Half of it is here", breaks=True)
    if server == "proxy":
        cut = Answer(raw=("application/json", '{"id": "c1", "choices": [{"index": 0, "message": {"content": "Half of'))
    async with served(server) as assistant:
        assistant.models.say(cut, Answer("All of it."))
        assert [part.content for part in await assistant.parts() if isinstance(part, Reply)] == ["All of it."]
        assert len(assistant.models.requests) == 2
        assert assistant.health is None


@pytest.mark.parametrize("server", SERVERS)
async def test_a_page_in_place_of_an_answer_is_its_trouble(server: Server) -> None:
    page = Answer(raw=("text/html", "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"))
    async with served(server, retries=1) as assistant:
        assistant.models.say(page, Answer("Well again."))
        assert (await assistant.ask()).content == "Well again."
        assistant.models.otherwise = page
        assert (await assistant.ask()).type == "error"
        assert (assistant.health or "").startswith("the model does not answer")
        assert "Sign in" in (assistant.health or "")


@pytest.mark.parametrize("server", SERVERS)
async def test_an_image_and_a_document_are_shown_to_the_model(server: Server) -> None:
    png, pdf = b"\x89PNG\r\n\x1a\n", b"%PDF-1.7\n"
    files = [("image/png", png), ("application/pdf", pdf)]
    urls = tuple(f"data:{kind};base64,{base64.b64encode(data).decode()}" for kind, data in files)
    async with served(server) as assistant:
        assert (await assistant.ask("What is it?", attachments=urls)).content == "Hello."
        assert assistant.models.requests[0].files == files


@pytest.mark.parametrize("server", BLIND)
async def test_a_model_that_sees_nothing_says_so_in_its_words_and_is_asked_without(server: Server) -> None:
    image = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="
    async with served(server) as assistant:
        assistant.models.otherwise = lambda request: blind(server) if request.files else Answer("I cannot see it.")
        for requests in (2, 3):
            assert (await assistant.ask("What is it?", attachments=(image,))).content == "I cannot see it."
            assert len(assistant.models.requests) == requests
        assert assistant.health is None
