"""What the assistant counts, beside what each kind of server reports; budgets; prompt caching."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.handler import Reply
from tests.support.fake_mcp import fake_mcp
from tests.support.fake_models import Answer, refusal
from tests.support.fake_wires import EVENTS, Dialect, Reports
from tests.support.lone_assistants import LoneAssistant, lone_assistant

CALL = (("mcp__We__weather", {"city": "Ulm"}),)


def counted(assistant: LoneAssistant) -> list[tuple[int, int, int]]:
    """Input, output and cached tokens of each call."""
    return [(call.prompt_tokens, call.completion_tokens, call.cached_tokens) for call in assistant.calls]


def told_usage(reply: Reply) -> Any:
    """What the reply's metadata says of its usage."""
    return (reply.metadata or {}).get("usage")


@pytest.mark.parametrize(
    "dialect", ["openai", "vllm", "ollama", "litellm", "llama.cpp", "lmdeploy", "xai", "moonshot", "groq"]
)
async def test_each_server_that_speaks_openais_language_is_counted_to_the_token(dialect: Dialect) -> None:
    async with lone_assistant() as assistant:
        assistant.models.dialect = dialect
        assistant.models.say(Answer("It is 42, I think.", thinking="Hm, hm.", usage=(100, 20, 30), reasoning=7))
        reply = await assistant.ask()
        assert reply.content == "It is 42, I think."
        assert counted(assistant) == [(100, 20, 30)]
        assert told_usage(reply) == {"reasoningTokens": 7}
        assert (assistant.ctx.used.reasoning_tokens, assistant.ctx.used.estimated) == (7, False)


@pytest.mark.parametrize("reports", ["every", "end"])
@pytest.mark.parametrize(("provider", "model"), [("anthropic", "claude-opus-5"), ("google", "gemini-2.5-pro")])
async def test_others_are_too_however_often_they_say_it(provider: str, model: str, reports: Reports) -> None:
    async with lone_assistant(provider, model) as assistant:
        thought = 7 if provider == "google" else 0
        assistant.models.say(
            Answer("It is 42.", thinking="Hm, hm.", usage=(100, 20, 30), reasoning=thought, reports=reports)
        )
        reply = await assistant.ask()
        assert counted(assistant) == [(100, 20, 30)]
        assert told_usage(reply) == ({"reasoningTokens": 7} if thought else None)


async def test_old_llama_cpp_tells_it_in_its_timings() -> None:
    async with lone_assistant() as assistant:
        assistant.models.say(Answer("Hello.", usage=(100, 20, 30), reports="timings"))
        await assistant.ask()
        assert counted(assistant) == [(100, 20, 30)]


@pytest.mark.parametrize(("provider", "model"), [("openai", "m"), ("google", "gemini-2.5-pro")])
@pytest.mark.parametrize("form", ["asked", "json"])
async def test_a_server_that_tells_nothing_is_estimated_and_marked(provider: str, model: str, form: Any) -> None:
    async with lone_assistant(provider, model) as assistant:
        assistant.models.form = form
        assistant.models.otherwise = Answer("y" * 400, reports="none")
        reply = await assistant.ask("x" * 4000)
        [(given, made, cached)] = counted(assistant)
        assert 1000 <= given <= 1100
        assert 100 <= made <= 110
        assert cached == 0
        assert told_usage(reply) == {"estimated": True}
        assert (assistant.ctx.used.reasoning_tokens, assistant.ctx.used.estimated) == (0, True)


@pytest.mark.parametrize(
    ("left_out", "usage"),
    [("message_delta", (100, 1, 30)), ("message_start", (0, 20, 0)), ("both", None)],
)
async def test_a_gateway_that_leaves_out_what_anthropic_always_tells_is_answered_through(
    left_out: str, usage: tuple[int, int, int] | None
) -> None:
    def told(event: str) -> str:
        head, _, data = event.partition("data: ")
        value = json.loads(data)
        if value["type"] in (left_out, "message_delta" if left_out == "both" else ""):
            value["usage"] = None
        if value["type"] == "message_start" and left_out != "message_delta":
            del value["message"]["usage"]
        return f"{head}data: {json.dumps(value)}\n\n"

    async with lone_assistant("anthropic", "claude-opus-5") as assistant:
        events = EVENTS["anthropic"](Answer("It is 42.", usage=(100, 20, 30)), "claude-opus-5")
        assistant.models.say(Answer(raw=("text/event-stream", "".join(map(told, events)))))
        reply = await assistant.ask("x" * 4000)
        assert (reply.type, reply.content) == (None, "It is 42.")
        [(given, made, cached)] = counted(assistant)
        assert (given, made, cached) == usage if usage else given >= 1000
        assert told_usage(reply) == (None if usage else {"estimated": True})


async def test_what_a_broken_answer_cost_counts_and_what_was_refused_does_not() -> None:
    async with lone_assistant() as assistant:
        assistant.models.say(
            refusal(503, "Unavailable."),
            Answer("Half of it is he", breaks=True, reports="every", usage=(50, 10, 0)),
            Answer("Half of it is he", breaks=True, reports="none"),
            Answer("All of it.", usage=(50, 10, 0)),
        )
        reply = await assistant.ask()
        broken, estimated, whole = counted(assistant)
        assert broken[0] == 50
        assert 0 < broken[1] <= 10
        assert estimated[0] > 0
        assert whole == (50, 10, 0)
        assert told_usage(reply) == {"estimated": True}


async def test_prompts_are_cached_where_that_has_to_be_asked_for() -> None:
    async with lone_assistant("anthropic", "claude-opus-5") as assistant:
        await assistant.ask("one")
        await assistant.ask("two")
        assert '"cache_control"' in str(assistant.models.requests[-1].body).replace("'", '"')
    async with lone_assistant() as assistant:
        await assistant.ask()
        assert "cache" not in str(assistant.models.requests[-1].body)


async def test_a_server_that_does_not_take_a_cache_mark_gets_none() -> None:
    async with lone_assistant("anthropic", "claude-opus-5") as assistant:
        message = "messages.0.content.0.text.cache_control: Extra inputs are not permitted"
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
        assistant.models.otherwise = lambda request: (
            Answer(status=400, error=error) if "cache_control" in str(request.body) else Answer("Uncached.")
        )
        assert (await assistant.ask()).content == "Uncached."
        assert (await assistant.ask()).content == "Uncached."
        assert len(assistant.models.requests) == 3
        assert assistant.health is None, "nobody has to mend that"


async def test_a_message_that_has_cost_enough_gets_its_answer_without_more_tools() -> None:
    async with fake_mcp() as tools, lone_assistant(servers={"We": tools}, budget_message_tokens=100) as assistant:
        assistant.models.otherwise = lambda request: (
            Answer("All I know.", usage=(60, 20, 0))
            if request.body.get("tool_choice") == "none"
            else Answer(tool_calls=CALL, usage=(60, 20, 0))
        )
        reply = await assistant.ask("How is the weather?")
        assert reply.content == "All I know."
        first, second = assistant.models.requests
        assert first.body.get("tool_choice") != "none"
        assert second.tools == first.tools, "what was said of tools has to stay explained"
        assert "No tool can be used any more" in second.said
        # The next message has all of it again.
        await assistant.ask("And now?")
        assert assistant.models.requests[2].body.get("tool_choice") != "none"


@pytest.mark.parametrize(("provider", "model"), [("openai", "m"), ("anthropic", "claude-opus-5"), ("google", "g")])
async def test_the_last_of_its_steps_has_to_do_without_tools(provider: str, model: str) -> None:
    def answers(request: Any) -> Answer:
        last = "No tool can be used any more" in request.said
        return Answer("That is all.") if last else Answer(tool_calls=CALL)

    async with fake_mcp() as tools, lone_assistant(provider, model, servers={"We": tools}, max_steps=3) as assistant:
        assistant.models.otherwise = answers
        assert (await assistant.ask("How is the weather?")).content == "That is all."
        assert len(assistant.models.requests) == 3
        assert len(tools.calls) == 2


async def test_a_server_that_does_not_know_a_choice_of_none_is_offered_nothing() -> None:
    def answers(request: Any) -> Answer:
        if request.body.get("tool_choice") == "none":
            return refusal(400, "tool_choice: only 'auto' is supported")
        return Answer(tool_calls=CALL) if request.tools else Answer("Without.")

    async with fake_mcp() as tools, lone_assistant(servers={"We": tools}, max_steps=2) as assistant:
        assistant.models.otherwise = answers
        assert (await assistant.ask("How is the weather?")).content == "Without."


async def test_a_person_who_writes_too_fast_is_asked_to_wait_and_others_are_not() -> None:
    async with lone_assistant(person_limit=2) as assistant:
        for _ in range(2):
            assert (await assistant.ask(sender_user_id="u1")).content == "Hello."
        notice = await assistant.ask(sender_user_id="u1")
        assert notice.type == "error", "no answer, so that nobody remembers it as one"
        assert "faster than I may answer" in notice.content
        assert (await assistant.ask(sender_user_id="u2")).content == "Hello."
        assert (await assistant.ask(external_username="Ada")).content == "Hello."
        assert len(assistant.models.requests) == 4
