"""Trouble of the assistant's is bounded and can be seen: one wrong thing costs itself, once, and health says which."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pydantic_ai
import pytest
import structlog

from supervisor.handler import Permanent, Reply
from tests.support.fake_mcp import WEATHER, Tool, fake_mcp
from tests.support.fake_models import Answer, Request, refusal
from tests.support.lone_assistants import KEY, lone_assistant, part

CALL = (("mcp__We__weather", {"city": "Ulm"}),)
TRYING_AGAIN = Answer(status=503, error={"error": {"message": "Unavailable."}})


def _never(_arguments: dict[str, Any]) -> str:
    raise AssertionError("nobody calls it")


#: Tools that no provider takes, by what is wrong with them.
BAD = {
    "null properties": Tool(
        "bad", _never, listed={"name": "bad", "inputSchema": {"type": "object", "properties": None}}
    ),
    "no schema": Tool("bad", _never, listed={"name": "bad", "description": "It has none."}),
    "no object": Tool("bad", _never, listed={"name": "bad", "inputSchema": {"type": "string"}}),
    "odd description": Tool("bad", _never, listed={"name": "bad", "description": 5, "inputSchema": {"type": "object"}}),
}


async def test_requests_that_come_to_nothing_are_bounded_by_count() -> None:
    async with lone_assistant(retries=3) as assistant:
        assistant.models.otherwise = Answer("Half of it is he", breaks=True)
        apology = await assistant.ask()
        assert apology.type == "error"
        assert len(assistant.models.requests) == 4


async def test_all_models_together_have_so_many() -> None:
    async with lone_assistant(retries=3, fallback_models="openai:other") as assistant:
        assistant.models.otherwise = TRYING_AGAIN
        assert (await assistant.ask()).type == "error"
        assert [request.model for request in assistant.models.requests] == ["gpt-4o", "other", "gpt-4o", "other"]


async def test_an_answer_that_is_always_to_be_continued_ends() -> None:
    async with lone_assistant("anthropic", "claude-opus-5", max_steps=5) as assistant:
        assistant.models.otherwise = Answer("And on. ", finish="pause")
        reply = await assistant.ask()
        assert len(assistant.models.requests) == 5
        assert "And on." in reply.content


async def test_a_person_hears_once_that_it_takes_longer() -> None:
    async with lone_assistant(notice_seconds=0.3) as assistant:
        assistant.models.otherwise = Answer("At last.", delay=1.2)
        notice, reply = await assistant.parts()
        assert isinstance(notice, Reply)
        assert notice.type == "error", "people read it, and no model remembers it"
        assert "takes longer" in notice.content
        assert isinstance(reply, Reply)
        assert reply.content == "At last."
        # Who sees the work going on waits for nothing.
        assistant.models.otherwise = Answer("At once.")
        assert len(await assistant.parts()) == 1


async def test_notices_can_be_turned_off() -> None:
    async with lone_assistant(notice_seconds=0) as assistant:
        assistant.models.otherwise = Answer("At last.", delay=0.5)
        assert len(await assistant.parts()) == 1


async def test_apologies_in_a_row_make_its_health_failing_until_there_is_an_answer() -> None:
    async with lone_assistant(failing_after=2) as assistant:
        assistant.models.otherwise = refusal(400, "I do not like it.")
        await assistant.ask()
        assert assistant.health is None, "one message may be the person's own"
        await assistant.ask()
        assert (assistant.health or "").startswith("2 messages in a row got no answer, the last one: rejected: openai:")
        assert "I do not like it." in (assistant.health or "")
        assistant.models.otherwise = Answer("Well.")
        await assistant.ask()
        assert assistant.health is None
        assistant.models.otherwise = refusal(400, "I do not like it.")
        await assistant.ask()
        assert assistant.health is None, "they are counted anew"


async def test_steps_without_end_are_such_apologies_too() -> None:
    async with fake_mcp() as tools, lone_assistant(servers={"We": tools}, max_steps=2, failing_after=1) as assistant:
        assistant.models.otherwise = Answer(tool_calls=CALL)
        assert "more steps" in (await assistant.ask()).content
        assert assistant.health == "1 messages in a row got no answer, the last one: no answer within 2 steps"


# Tool servers and tools.


async def test_a_server_that_never_answers_is_waited_for_once_and_probed_beside() -> None:
    async with fake_mcp() as tools, lone_assistant(servers={"We": tools}, connect_seconds=0.5) as assistant:
        tools.hangs = True
        assert (await assistant.ask()).content == "Hello."
        assert assistant.health == "tool server We: it was not ready within 0.5 s"
        began = time.monotonic()
        for _ in range(3):
            await assistant.ask()
        assert time.monotonic() - began < 1.5
        assert "cannot be used at the moment: We." in assistant.models.requests[-1].said
        tools.hangs = False
        for _ in range(100):
            if tools.requests[-1][0] == "tools/list":
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.2)
        await assistant.ask()
        assert assistant.models.requests[-1].tools == ["mcp__We__weather", "mcp__We__thermometer"]
        assert assistant.health is None


def probes() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("probe")]


async def test_probes_end_with_the_agent() -> None:
    async with fake_mcp() as tools, lone_assistant(servers={"We": tools}) as assistant:
        await tools.stop()
        await assistant.ask()
        assert "cannot be used" in (assistant.health or "")
    assert probes() == []


async def test_messages_that_find_a_server_dead_at_once_begin_one_probe() -> None:
    async with fake_mcp() as tools, lone_assistant(servers={"We": tools}, connect_seconds=0.3) as assistant:
        tools.hangs = True
        unread: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: unread.append(told))
        await asyncio.gather(*(assistant.ask(f"message {number}") for number in range(5)))
        assert len(probes()) == 1
        gc.collect()
        assert unread == [], "an error that nobody looked at is a traceback in the log"
    assert probes() == []


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_one_bad_tool_is_left_out_by_name_and_its_server_stays(bad: Tool, streams: bool) -> None:
    async with fake_mcp(WEATHER, bad) as tools, lone_assistant(servers={"We": tools}) as assistant:
        tools.streams = streams
        assistant.models.say(Answer(tool_calls=CALL), Answer("Sunny."))
        with structlog.testing.capture_logs() as log:
            assert (await assistant.ask("How is the weather?")).content == "Sunny."
            assert assistant.models.requests[0].tools == ["mcp__We__weather"]
            assert tools.calls == [("weather", {"city": "Ulm"})]
            assert (assistant.health or "").startswith("tool bad of We is left out: ")
            await assistant.ask()
        # Said once.
        assert [entry["server"] for entry in log if entry["event"] == "tools_left_out"] == ["We"]


@pytest.mark.parametrize(
    "message",
    [
        "Invalid schema for function 'mcp__We__odd': In context=(), 'oneOf' is not permitted.",
        "tools[1].function.parameters: too complex",
        "tools.1.custom.input_schema: JSON schema is invalid",
    ],
)
async def test_a_tool_that_the_model_does_not_take_is_left_out_by_name(message: str) -> None:
    odd = Tool("odd", _never, {"type": "object", "oneOf": [{"type": "object"}]})
    async with fake_mcp(WEATHER, odd) as tools, lone_assistant(servers={"We": tools}) as assistant:
        assistant.models.otherwise = lambda request: (
            refusal(400, message) if "mcp__We__odd" in request.tools else Answer("Without it.")
        )
        assert (await assistant.ask()).content == "Without it."
        assert (await assistant.ask()).content == "Without it."
        assert [request.tools[1:] for request in assistant.models.requests] == [["mcp__We__odd"], [], []]
        assert assistant.health == "the model does not take the tools mcp__We__odd"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "registry.ollama.ai/library/gemma3 does not support tools"),
        (400, "Bad Request"),
        (404, "No endpoints found that support tool use. To learn more about provider routing, see the documentation."),
    ],
)
async def test_a_model_that_takes_no_tools_answers_without_any(status: int, message: str) -> None:
    async with fake_mcp(WEATHER) as tools, lone_assistant(servers={"We": tools}) as assistant:
        assistant.models.otherwise = lambda request: (
            refusal(status, message) if request.tools else Answer("Without tools.")
        )
        assert (await assistant.ask()).content == "Without tools."
        assert (await assistant.ask()).content == "Without tools."
        assert len(assistant.models.requests) == 3
        assert assistant.health == "the model does not take the tools mcp__We__weather"


async def test_more_tools_than_the_provider_takes_are_cut() -> None:
    many = [Tool(f"tool{number:03}", _never) for number in range(20)]

    def answers(request: Request) -> Answer:
        if len(request.tools) <= 8:
            return Answer("Eight will do.")
        text = (
            f"Invalid 'tools': array too long. Expected an array with maximum length 8, but got {len(request.tools)}."
        )
        return refusal(400, text, "array_above_max_length")

    async with fake_mcp(*many) as tools, lone_assistant(servers={"We": tools}) as assistant:
        assistant.models.otherwise = answers
        assert (await assistant.ask()).content == "Eight will do."
        assert (await assistant.ask()).content == "Eight will do."
        assert [len(request.tools) for request in assistant.models.requests] == [20, 8, 8]
        assert assistant.models.requests[-1].tools[0] == "mcp__We__tool000"
        assert assistant.health == "the model takes 8 tools of 20"


# Settings and models.


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        (
            {"temperature": 0.5},
            "temperature",
            "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) is supported.",
        ),
        ({"thinking": "low"}, "reasoning_effort", "Unrecognized request argument supplied: reasoning_effort"),
        ({"max_output_tokens": 5}, "max_completion_tokens", "Unsupported parameter: 'max_completion_tokens'"),
        ({"model_settings": {"top_p": 0.5}}, "top_p", "top_p: Extra inputs are not permitted"),
        ({"model_settings": {"stop_sequences": ["X"]}}, "stop", "Unsupported parameter: 'stop' is not supported."),
    ],
)
async def test_a_setting_that_the_model_does_not_take_is_left_out(
    settings: dict[str, Any], field: str, message: str
) -> None:
    # Of a model that does not reason the client itself leaves it out.
    async with lone_assistant(model="o3" if "thinking" in settings else "gpt-4o", **settings) as assistant:
        assistant.models.otherwise = lambda request: refusal(400, message) if field in request.body else Answer("Fine.")
        assert (await assistant.ask()).content == "Fine."
        assert (await assistant.ask()).content == "Fine."
        assert [field in request.body for request in assistant.models.requests] == [True, False, False]
        assert " is left out: " in (assistant.health or "")
        assert message[:20] in (assistant.health or "")


async def test_what_one_agent_sets_and_the_model_refuses_is_no_matter_of_anothers() -> None:
    async with lone_assistant(max_output_tokens=9000) as first, lone_assistant(max_output_tokens=50) as second:
        first.models.otherwise = lambda request: (
            refusal(400, "max_tokens is too large: 9000. This model supports at most 4096 completion tokens.")
            if request.body.get("max_completion_tokens") == 9000
            else Answer("Fine.")
        )
        second.settings["base_url"] = first.models.openai_url
        await first.ask()
        assert "max_tokens is left out" in (first.health or "")
        await second.ask()
        assert first.models.requests[-1].body["max_completion_tokens"] == 50
        assert second.health is None


async def test_a_model_that_cannot_be_used_leaves_the_work_to_the_next() -> None:
    async with lone_assistant(fallback_models={"model": "openai:other", "api_key": KEY}) as assistant:
        assistant.settings["fallback_models"]["base_url"] = assistant.models.openai_url
        assistant.settings["api_key"] = "env:AGENT_MISSING"
        assert (await assistant.ask()).content == "Hello."
        assert [request.model for request in assistant.models.requests] == ["other"]
        assert "another model answers, for the assistant is not set up: api_key" in (assistant.health or "")
        del assistant.settings["model"]
        assert (await assistant.ask()).content == "Hello."
        assert "there is no model" in (assistant.health or "")


async def test_without_any_model_the_message_waits_for_whoever_mends_it() -> None:
    async with lone_assistant() as assistant:
        assistant.settings.clear()
        with pytest.raises(Permanent, match="there is no model"):
            await assistant.ask()
        assert assistant.health == (
            "the assistant is not set up: there is no model: set one (model, api_key), or give the agent a deployment"
        )


async def test_settings_that_it_does_not_know_are_left_alone() -> None:
    """A slip in a row is told by the supervisor; an agent that ran with it goes on."""
    async with lone_assistant(team="blue", temprature="hot") as assistant:
        assert (await assistant.ask()).content == "Hello."


def test_the_library_says_nothing_of_itself_in_the_log() -> None:
    part("answering")
    assert pydantic_ai.BANNER_ENABLED is False
