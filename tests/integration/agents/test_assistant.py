"""The assistant: what it says to the model and shows to people, against models over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.assistants import Assistants, assistants
from tests.support.fake_mcp import BROKEN, WEATHER, FakeMcp, Tool, fake_mcp
from tests.support.fake_models import MODEL_KEY, Answer
from tests.support.observing import figures
from tests.support.stack import is_apology


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Assistants]:
    async with assistants(tmp_path) as running:
        yield running


@pytest.fixture
async def tools() -> AsyncIterator[FakeMcp]:
    async with fake_mcp() as server:
        yield server


def kinds(parts: list[Any]) -> list[str]:
    return [part.type for part in parts]


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-4o"), ("anthropic", "claude-opus-5"), ("google", "gemini-2.5-pro")],
)
async def test_an_answer_with_its_thinking_and_the_providers_own_usage(
    fleet: Assistants, provider: str, model: str
) -> None:
    fleet.models.say(Answer("It is 42.", thinking="Let me think.", usage=(100, 20, 30)))
    identity = await fleet.add(
        instruction={"id": "i", "systemPrompt": "Be brief.", "guidelines": ["Be kind.", {"content": "Be quick."}]},
        settings=fleet.settings(provider, model),
    )
    thinking, reply = await fleet.ask(identity, "What is it?")
    assert (thinking.type, thinking.content) == ("thinking", "Let me think.")
    assert thinking.document["thinking"]["duration"] >= 0
    assert (reply.type, reply.content) == ("text", "It is 42.")
    usage = reply.document["usage"]
    assert (usage["promptTokens"], usage["completionTokens"], usage["totalTokens"]) == (100, 20, 120)
    assert reply.document["latency"] > 0

    [request] = fleet.models.requests
    assert (request.provider, request.model, request.key) == (provider, model, MODEL_KEY)
    assert "Be brief.\n\nGuidelines:\n- Be kind.\n- Be quick." in request.said
    assert "What is it?" in request.texts
    assert fleet.health(identity) == "ok"
    series = f'gen_ai_provider_name="{provider}",gen_ai_request_model="{model}",gen_ai_token_type="input"'
    shown = figures(fleet.stack.service.metrics)
    assert shown[f'gen_ai_client_token_usage_sum{{gen_ai_operation_name="chat",{series}}}'] == 100
    # Counted once: nothing is left to be written when the fleet has stopped.
    await fleet.stack.restart()
    [spent] = await fleet.stack.service.registry.usage()
    assert (spent.model, spent.input_tokens, spent.output_tokens, spent.cached_tokens) == (model, 100, 20, 30)
    assert spent.requests == 1


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-4o"), ("anthropic", "claude-opus-5"), ("google", "gemini-2.5-pro")],
)
async def test_tool_calls_and_results_are_shown_in_order_and_a_tool_that_fails_is_no_disaster(
    fleet: Assistants, tools: FakeMcp, provider: str, model: str
) -> None:
    fleet.models.say(
        Answer("I look.", thinking="A tool.", tool_calls=(("mcp__We__weather", {"city": "Ulm"}),), usage=(10, 2, 0)),
        Answer(tool_calls=(("mcp__We__thermometer", {}),), usage=(20, 3, 0)),
        Answer("Sunny, and no degrees.", usage=(30, 4, 0)),
    )
    identity = await fleet.add(servers={"We": tools}, settings=fleet.settings(provider, model, allow_local_tools=True))
    parts = await fleet.ask(identity, "How is the weather?", count=2)
    assert kinds(parts) == ["thinking", "text", "tool_call", "tool_result", "tool_call", "tool_result", "text"]
    _, look, call, result, _, failure, reply = (part.document for part in parts)
    assert look["content"] == "I look."
    assert call["toolCalls"][0]["function"] == {"name": "mcp__We__weather", "arguments": '{"city":"Ulm"}'}
    [outcome] = result["toolResults"]
    assert outcome["toolCallId"] == call["toolCalls"][0]["id"]
    assert outcome["result"] == "It is sunny in Ulm."
    assert outcome["success"] is True
    assert outcome["executionTime"] > 0
    [failed] = failure["toolResults"]
    assert failed["success"] is False
    assert failed["error"] == "the thermometer is broken"
    assert reply["content"] == "Sunny, and no degrees."
    # Each model call is counted once, with the next text that people see.
    assert [part["usage"]["totalTokens"] for part in (look, reply)] == [12, 57]
    assert tools.calls == [("weather", {"city": "Ulm"}), ("thermometer", {})]
    assert "the thermometer is broken" in fleet.models.requests[2].said


async def test_without_an_instruction_it_says_so_and_asks_no_model(fleet: Assistants) -> None:
    identity = await fleet.add(instruction=None)
    [notice] = await fleet.ask(identity, "hello")
    assert notice.type == "text", "which is how v1 stores what has no type"
    assert "no instruction" in notice.content
    assert fleet.models.requests == []


async def test_without_a_model_it_apologises_and_its_health_says_what_to_do(fleet: Assistants) -> None:
    identity = await fleet.add(settings={})
    assert "there is no model" in fleet.health(identity), "before anybody asks"
    [apology] = await fleet.ask(identity, "hello")
    assert is_apology(apology)
    assert "not set up" in apology.content
    assert fleet.health(identity).startswith("failing: the assistant is not set up: there is no model")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": "gpt-4o"}, "model: write openai:NAME"),
        ({"model": "openai:gpt-4o"}, "needs an api_key"),
        ({"temperature": "hot"}, "settings: temperature"),
        ({"base_url": "ftp://x"}, "settings: base_url"),
        ({"model": "openai:gpt-4o", "api_key": "sk-in-the-clear-0123456789"}, "api_key: The secret is not a reference"),
    ],
)
async def test_settings_that_make_no_sense_are_named_in_its_health(
    fleet: Assistants, settings: dict[str, Any], reason: str
) -> None:
    identity = await fleet.add(settings=settings)
    [apology] = await fleet.ask(identity, "hello")
    assert is_apology(apology)
    assert reason in fleet.health(identity)
    assert "0123456789" not in fleet.health(identity)


@pytest.mark.parametrize(
    ("provider", "path"),
    [("openai", ""), ("openai", "/v1"), ("anthropic", ""), ("anthropic", "/v1/messages"), ("google", "/v1beta")],
)
async def test_the_platforms_deployment_is_asked_with_the_agents_own_token(
    tmp_path: Path, provider: str, path: str
) -> None:
    async with assistants(tmp_path, sandbox={"profile": "v2"}) as fleet:
        address = f"{fleet.models.proxy_url}{path}"
        deployment = {"id": "d", "provider": provider, "model": "m-1", "baseAPIEndpoint": address}
        identity = await fleet.add(deployment=deployment, settings={})
        [reply] = await fleet.ask(identity, "hello")
        assert reply.content == "Hello."
        [request] = fleet.models.requests
        assert request.provider == provider
        assert request.key == fleet.stack.service.fleet.runner(identity).agent.grant.token  # type: ignore[union-attr]
        assert fleet.health(identity) == "ok"


async def test_it_remembers_the_conversation_as_far_as_it_fits(fleet: Assistants) -> None:
    identity = await fleet.add(history_tokens=200)
    for number in range(1, 4):
        fleet.models.say(Answer(f"Answer {number}. {'x' * 200}"))
        await fleet.ask(identity, f"Question {number}?")
    said = fleet.models.requests[1].texts
    assert said.index("Question 1?") < said.index(f"Answer 1. {'x' * 200}") < said.index("Question 2?")
    await fleet.ask(identity, "y" * 400)
    # About 50 tokens an answer: the oldest no longer fit beside the long question, and what is kept is whole.
    last = fleet.models.requests[-1].said
    assert "Answer 3." in last
    assert "Question 1?" not in last
    assert "y" * 400 in last


async def test_what_it_showed_of_its_work_is_no_part_of_what_was_said(fleet: Assistants, tools: FakeMcp) -> None:
    fleet.models.say(
        Answer(thinking="Secretly.", tool_calls=(("mcp__We__weather", {"city": "Ulm"}),)), Answer("Sunny.")
    )
    identity = await fleet.add(servers={"We": tools})
    await fleet.ask(identity, "How is the weather?")
    await fleet.ask(identity, "And now?")
    said = fleet.models.requests[-1].said
    assert "Sunny." in said
    assert "Secretly." not in said
    assert "weather answered" not in said
    assert "Using" not in said


async def test_only_allowed_functions_are_offered(tmp_path: Path, tools: FakeMcp) -> None:
    async with assistants(tmp_path, sandbox={"profile": "v2"}) as fleet:
        await _offer(fleet, tools)


async def _offer(fleet: Assistants, tools: FakeMcp) -> None:
    identity = await fleet.add(servers={"We": tools}, allowed=["mcp__We__weather", "mcp__Other__thermometer"])
    await fleet.ask(identity, "hello")
    everything = await fleet.add(servers={"We": tools, "An odd name": tools})
    await fleet.ask(everything, "hello")
    few, all_of_them = fleet.models.requests
    assert few.tools == ["mcp__We__weather"]
    assert len(set(all_of_them.tools)) == 4
    assert {"mcp__We__weather", "mcp__We__thermometer"} < set(all_of_them.tools)


async def test_a_local_tool_server_is_left_out_unless_that_is_allowed(fleet: Assistants, tools: FakeMcp) -> None:
    identity = await fleet.add(servers={"We": tools}, settings=fleet.settings())
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "Hello."
    assert tools.requests == []
    assert fleet.models.requests[0].tools == []


async def test_a_token_that_rotates_between_two_tool_calls_is_used_at_once(fleet: Assistants) -> None:
    def agent() -> Any:
        return fleet.stack.service.fleet.runner(identity).agent

    async def rotate(_arguments: dict[str, Any]) -> str:
        before: str = agent().grant.token
        await fleet.stack.service.control.reload(identity)
        await fleet.stack.until(lambda: agent().grant.token != before)
        return before

    async with fake_mcp(Tool("rotate", rotate), WEATHER) as tools:
        fleet.models.say(
            Answer(tool_calls=(("mcp__We__rotate", {}),)),
            Answer(tool_calls=(("mcp__We__weather", {}),)),
            Answer("Done."),
        )
        identity = await fleet.add(servers={"We": tools})
        parts = await fleet.ask(identity, "go")
        assert parts[-1].content == "Done."
        first, second = [header for method, header in tools.requests if method == "tools/call"]
        assert first != second
        assert second == f"Bearer {agent().grant.token}"


async def test_an_exhausted_budget_is_said_and_no_model_is_asked(fleet: Assistants) -> None:
    identity = await fleet.add(settings={**fleet.settings(), "budget_tokens": 10})
    fleet.models.say(Answer("First.", usage=(8, 4, 0)))
    await fleet.ask(identity, "one")
    [notice] = await fleet.ask(identity, "two")
    assert notice.type == "text"
    assert len(fleet.models.requests) == 1


async def test_people_who_ask_at_once_do_not_overdraw_the_budget(tmp_path: Path) -> None:
    async with assistants(tmp_path, sandbox={"profile": "v2"}) as fleet:
        identity = await fleet.add(budget_tokens=1000)
        fleet.models.otherwise = lambda _: Answer("Yes.", usage=(500, 100, 0))
        fleet.models.go.clear()
        said = [await fleet.say(identity, f"Question {number}") for number in range(10)]
        # Two are expected to fit; the third waits for what they really cost, and so do all others.
        await fleet.stack.until(lambda: fleet.models.running == 2, timeout=30)
        fleet.models.go.set()
        answers = [(await fleet.answer(conversation, message))[-1].content for conversation, message in said]
        assert sum(answer == "Yes." for answer in answers) == 2
        assert sum("used up" in answer for answer in answers) == 8
        assert fleet.models.most == 2


async def test_a_budget_that_ends_between_two_steps_ends_the_answer(fleet: Assistants, tools: FakeMcp) -> None:
    fleet.models.say(Answer(tool_calls=(("mcp__We__weather", {}),), usage=(20, 4, 0)))
    identity = await fleet.add(servers={"We": tools}, budget_tokens=10)
    parts = await fleet.ask(identity, "go")
    assert kinds(parts) == ["tool_call", "tool_result", "text"]
    assert len(fleet.models.requests) == 1


async def test_a_model_that_never_comes_to_an_end_is_stopped(fleet: Assistants, tools: FakeMcp) -> None:
    fleet.models.otherwise = Answer(tool_calls=(("mcp__We__weather", {}),))
    identity = await fleet.add(servers={"We": tools}, max_steps=3)
    parts = await fleet.ask(identity, "go")
    assert is_apology(parts[-1])
    assert "more steps" in parts[-1].content
    assert len(fleet.models.requests) == 3


async def test_a_long_result_is_cut_for_people_and_whole_for_the_model(fleet: Assistants) -> None:
    async with fake_mcp(Tool("long", lambda _: "z" * 50_000), BROKEN) as tools:
        fleet.models.say(Answer(tool_calls=(("mcp__We__long", {}),)), Answer("Done."))
        identity = await fleet.add(servers={"We": tools})
        parts = await fleet.ask(identity, "go")
    assert len(parts[1].document["toolResults"][0]["result"]) < 21_000
    assert "z" * 50_000 in fleet.models.requests[1].said
