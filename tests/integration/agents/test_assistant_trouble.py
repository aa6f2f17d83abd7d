"""The assistant when its model is in trouble: what it tries, what people are told, what its health says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState, MessageState
from tests.support.assistants import Assistants, assistants
from tests.support.command import InProcess
from tests.support.fake_mcp import Tool, fake_mcp
from tests.support.fake_models import MODEL_KEY, Answer, refusal
from tests.support.observing import captured_logs, named
from tests.support.stack import is_apology

TOO_LONG = refusal(400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded")
WRONG_KEY = refusal(401, f"Incorrect API key provided: {MODEL_KEY}.", "invalid_api_key")
NO_MODEL = refusal(404, "The model `gpt-4o` does not exist.", "model_not_found")
NO_MONEY = refusal(429, "You exceeded your current quota.", "insufficient_quota")
OVERLOADED = Answer(status=529, error={"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})


def anthropic_refusal(message: str) -> Answer:
    return Answer(status=400, error={"type": "error", "error": {"type": "invalid_request_error", "message": message}})


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Assistants]:
    async with assistants(tmp_path) as running:
        yield running


async def test_a_rate_limit_is_waited_out_by_all_agents_with_that_key(fleet: Assistants) -> None:
    first, second = await fleet.add(), await fleet.add()
    fleet.models.say(refusal(429, "Slow down.", "rate_limit_exceeded", Retry_After="2"))
    asked = await fleet.say(first, "one")
    await fleet.stack.until(lambda: len(fleet.models.requests) == 1)
    refused_at = fleet.models.requests[0].at
    # Not one request of anybody's until the time is over.
    [reply] = await fleet.ask(second, "two")
    assert reply.content == "Hello."
    [late] = await fleet.answer(*asked)
    assert late.content == "Hello."
    assert len(fleet.models.requests) == 3
    assert all(request.at - refused_at >= 2.0 for request in fleet.models.requests[1:])
    assert fleet.health(first) == "ok"


async def test_an_agent_with_another_key_does_not_wait(fleet: Assistants) -> None:
    (fleet.stack.folder / "other-key").write_text("sk-other-0123456789")
    first = await fleet.add()
    second = await fleet.add(api_key=f"file:{fleet.stack.folder / 'other-key'}")
    fleet.models.say(refusal(429, "Slow down.", "rate_limit_exceeded", Retry_After="600"))
    await fleet.say(first, "one")
    await fleet.stack.until(lambda: len(fleet.models.requests) == 1)
    [reply] = await fleet.ask(second, "two")
    assert reply.content == "Hello."


async def test_a_rate_limit_beyond_the_messages_time_is_said_at_once(fleet: Assistants) -> None:
    identity = await fleet.add()
    fleet.models.say(refusal(429, "Slow down.", "rate_limit_exceeded", Retry_After="3000"))
    [apology] = await fleet.ask(identity, "one")
    assert is_apology(apology)
    assert "more than I can answer" in apology.content
    assert "rate limit" in fleet.health(identity)
    # Nor does the next message ask again.
    await fleet.ask(identity, "two")
    assert len(fleet.models.requests) == 1


@pytest.mark.parametrize(
    ("provider", "model", "trouble"),
    [
        ("anthropic", "claude-opus-5", OVERLOADED),
        ("openai", "gpt-4o", refusal(500, "Oops.")),
        ("openai", "gpt-4o", refusal(503, "Unavailable.")),
        ("openai", "gpt-4o", Answer("Half of it is he", breaks=True)),
        ("anthropic", "claude-opus-5", Answer("Half of it is he", breaks=True)),
        ("google", "gemini-2.5-pro", Answer("Half of it is here", thinking="Hm, hm.", breaks=True)),
        ("openai", "gpt-4o", Answer("It says not that it ended", finish=None)),
        ("openai", "gpt-4o", Answer("Half of it is he", error={"error": {"message": "Oops.", "type": "server_error"}})),
        ("anthropic", "claude-opus-5", Answer("Half of it is he", error=OVERLOADED.error)),
        (
            "google",
            "gemini-2.5-pro",
            Answer("Half of it", thinking="Hm, hm.", error={"error": {"code": 503, "status": "UNAVAILABLE"}}),
        ),
    ],
)
async def test_passing_trouble_is_tried_again_and_nothing_of_it_is_shown(
    fleet: Assistants, provider: str, model: str, trouble: Answer
) -> None:
    fleet.models.say(trouble, Answer("All is well.", usage=(7, 3, 0)))
    identity = await fleet.add(settings=fleet.settings(provider, model))
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "All is well."
    assert len(fleet.models.requests) == 2
    assert fleet.health(identity) == "ok"


async def test_a_model_that_takes_too_long_is_tried_again(fleet: Assistants) -> None:
    fleet.models.say(Answer("Too late.", delay=60), Answer("In time."))
    identity = await fleet.add(request_seconds=1)
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "In time."


async def test_a_model_that_is_down_is_said_within_the_messages_time(fleet: Assistants) -> None:
    fleet.models.otherwise = refusal(503, "Unavailable.")
    identity = await fleet.add(timeout_seconds=4)
    [apology] = await fleet.ask(identity, "hello")
    assert is_apology(apology)
    assert "does not answer at the moment" in apology.content
    assert fleet.health(identity).startswith("failing: the model does not answer: openai:gpt-4o")
    fleet.models.otherwise = Answer("Back again.")
    await fleet.ask(identity, "hello")
    assert fleet.health(identity) == "ok"


@pytest.mark.parametrize(
    ("provider", "model", "too_long"),
    [
        ("openai", "gpt-4o", TOO_LONG),
        ("openai", "gpt-4o", refusal(413, "Request Entity Too Large")),
        ("anthropic", "claude-opus-5", anthropic_refusal("prompt is too long: 213462 tokens > 200000 maximum")),
        (
            "anthropic",
            "claude-opus-5",
            anthropic_refusal("input length and `max_tokens` exceed context limit: 198309 +"),
        ),
        (
            "google",
            "gemini-2.5-pro",
            Answer(
                status=400,
                error={
                    "error": {
                        "code": 400,
                        "message": "The input token count (1200000) exceeds the maximum number of tokens (1048576).",
                        "status": "INVALID_ARGUMENT",
                    }
                },
            ),
        ),
    ],
)
async def test_a_conversation_that_is_too_long_is_shortened_once(
    fleet: Assistants, provider: str, model: str, too_long: Answer
) -> None:
    identity = await fleet.add(settings=fleet.settings(provider, model))
    for number in range(4):
        await fleet.ask(identity, f"Question {number}?")
    fleet.models.say(too_long, Answer("Short enough."))
    [reply] = await fleet.ask(identity, "And now?")
    assert reply.content == "Short enough."
    long, short = (request.said for request in fleet.models.requests[-2:])
    assert "Question 0?" in long
    assert "Question 0?" not in short
    assert "Question 3?" in short
    assert "And now?" in short


async def test_a_message_that_is_too_long_by_itself_is_said_so(fleet: Assistants) -> None:
    fleet.models.otherwise = TOO_LONG
    identity = await fleet.add()
    [apology] = await fleet.ask(identity, "hello")
    assert is_apology(apology)
    assert "more than I can take in" in apology.content
    assert fleet.health(identity) == "ok"


@pytest.mark.parametrize(
    ("provider", "model", "answer"),
    [
        ("openai", "gpt-4o", Answer(finish="content_filter")),
        ("anthropic", "claude-opus-5", Answer(finish="content_filter")),
        ("google", "gemini-2.5-pro", Answer(finish="content_filter")),
        ("openai", "gpt-4o", refusal(400, "Filtered.", "content_filter")),
    ],
)
async def test_refused_content_is_an_answer_like_any_other(
    fleet: Assistants, provider: str, model: str, answer: Answer
) -> None:
    fleet.models.otherwise = answer
    identity = await fleet.add(settings=fleet.settings(provider, model))
    [reply] = await fleet.ask(identity, "something bad")
    assert (reply.type, reply.content) == ("text", "I am sorry, I cannot help with that.")
    assert len(fleet.models.requests) == 1
    assert fleet.health(identity) == "ok"


@pytest.mark.parametrize(
    ("provider", "model", "refused", "reason"),
    [
        ("openai", "gpt-4o", WRONG_KEY, "the model's key is refused"),
        ("openai", "gpt-4o", NO_MODEL, "there is no such model"),
        ("openai", "gpt-4o", NO_MONEY, "the model's account has nothing left"),
        (
            "anthropic",
            "claude-opus-5",
            Answer(status=401, error={"type": "error", "error": {"type": "authentication_error", "message": "No."}}),
            "the model's key is refused",
        ),
        (
            "openai",
            "gpt-4o",
            refusal(400, "litellm.BadRequestError: AnthropicException - Your credit balance is too low."),
            "the model's account has nothing left",
        ),
        (
            "google",
            "gemini-2.5-pro",
            Answer(
                status=400,
                error={"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}},
            ),
            "the model's key is refused",
        ),
    ],
)
async def test_what_only_a_person_can_mend_leaves_the_agent_online_and_its_health_failing(
    fleet: Assistants, provider: str, model: str, refused: Answer, reason: str
) -> None:
    fleet.models.otherwise = refused
    identity = await fleet.add(settings=fleet.settings(provider, model))
    conversation, message = await fleet.say(identity, "hello")
    [apology] = await fleet.answer(conversation, message)
    assert is_apology(apology)
    assert "not set up correctly" in apology.content
    assert len(fleet.models.requests) == 1
    assert fleet.stack.service.control.status(identity).state is AgentState.ONLINE
    assert fleet.health(identity).startswith(f"failing: {reason}: {provider}:{model} at ")
    assert MODEL_KEY not in fleet.health(identity)
    fleet.models.otherwise = Answer("Mended.")
    # What nobody could answer waits for whoever mends the agent.
    [letter] = await fleet.stack.service.registry.journal.messages(states=[MessageState.DEAD])
    await fleet.stack.service.control.replay(letter.id)
    *_, answer = await fleet.answer(conversation, message, count=2)
    assert answer.content == "Mended."
    assert fleet.health(identity) == "ok"


async def test_apologies_in_a_row_are_told_by_status_and_doctor_until_there_is_an_answer(fleet: Assistants) -> None:
    fleet.models.otherwise = refusal(400, "I do not like it.")
    identity = await fleet.add(failing_after=2)
    settings = fleet.stack.settings
    env = {
        "SUPERVISOR_REGISTRY_URL": settings.registry_url,
        "SUPERVISOR_API_URL": settings.api_url,
        "SUPERVISOR_WS_URL": settings.ws_url,
        "SUPERVISOR_SECRET_DIRS": str(fleet.stack.folder),
    }
    command = InProcess(fleet.stack.folder, env)

    async def told() -> list[str]:
        commands = (("status",), ("doctor",), ("doctor", identity), ("agents", "show", identity, "--json"))
        return [(await asyncio.to_thread(command, *one)).stdout for one in commands]

    await fleet.ask(identity, "one")
    assert "no answer" not in str(await told()), "one may be the person's own"
    await fleet.ask(identity, "two")
    for shown in await told():
        assert "failing: 2 messages in a row got no answer, the last one: rejected: openai:" in shown
    assert "1 failing" in (await told())[0]
    fleet.models.otherwise = Answer("Well.")
    await fleet.ask(identity, "three")
    well = str(await told())
    assert "failing:" not in well
    assert "1 failing" not in well


async def test_fallbacks_are_asked_in_their_order(fleet: Assistants) -> None:
    fleet.models.say(WRONG_KEY, OVERLOADED, Answer("From the third.", usage=(9, 1, 0)))
    key = f"file:{fleet.stack.folder / 'model-key'}"
    other: dict[str, Any] = {"model": "anthropic:claude-opus-5", "base_url": fleet.models.url, "api_key": key}
    identity = await fleet.add(fallback_models=[other, "openai:gpt-4o-mini"])
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "From the third."
    assert [request.model for request in fleet.models.requests] == ["gpt-4o", "claude-opus-5", "gpt-4o-mini"]
    assert all(request.key == MODEL_KEY for request in fleet.models.requests)
    # It answers, and still there is something to mend.
    assert "another model answers" in fleet.health(identity)


async def test_a_fallback_without_a_key_of_its_own_needs_one_at_another_provider(fleet: Assistants) -> None:
    identity = await fleet.add(fallback_models="anthropic:claude-opus-5")
    [reply] = await fleet.ask(identity, "hello")
    # The first does not need it.
    assert reply.content == "Hello."
    assert "anthropic:claude-opus-5 needs an api_key" in fleet.health(identity)


async def test_calls_at_once_are_bounded_over_all_agents(fleet: Assistants) -> None:
    fleet.models.otherwise = Answer("Done.", delay=0.05)
    ids = [await fleet.add(parallel_calls=2) for _ in range(6)]
    replies = await asyncio.gather(*(fleet.ask(identity, "hello") for identity in ids))
    assert [parts[-1].content for parts in replies] == ["Done."] * 6
    assert fleet.models.most == 2


async def test_a_tool_that_takes_too_long_is_told_to_the_model(fleet: Assistants) -> None:
    forever = asyncio.Event()

    async def slow(_arguments: dict[str, Any]) -> str:
        await forever.wait()
        return "too late"

    async with fake_mcp(Tool("slow", slow)) as tools:
        fleet.models.say(Answer(tool_calls=(("mcp__We__slow", {}),)), Answer("I could not wait."))
        identity = await fleet.add(servers={"We": tools}, tool_seconds=1)
        parts = await fleet.ask(identity, "go")
        assert parts[-1].content == "I could not wait."
        assert "did not answer within 1 s" in fleet.models.requests[1].said
        forever.set()


async def test_an_answer_that_is_stopped_lets_go_of_model_and_tools_at_once(fleet: Assistants) -> None:
    fleet.models.go.clear()
    async with fake_mcp() as tools:
        identity, hanging = await fleet.add(servers={"We": tools}), await fleet.add(servers={"We": tools})
        await fleet.say(identity, "hello")
        await fleet.stack.until(lambda: fleet.models.running == 1)
        tools.hangs = True
        await fleet.say(hanging, "hello")
        await fleet.stack.until(lambda: tools.requests[-1][0] not in ("tools/list", "notifications/initialized"))
        with captured_logs() as log:
            await fleet.stack.service.stop(grace_seconds=0)
            await fleet.stack.until(lambda: fleet.models.running == 0)
        assert named(log, "handler_abandoned") == []
